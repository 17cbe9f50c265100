//! Whether the server lives, works, and how it fares: `/healthz`, `/readyz`, `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};

use super::{App, extract::SignedIn};
use crate::store::{intake, meta};

/// That the process answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    /// `ok`
    status: &'static str,
}

/// Whether requests can be served, and what does not work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Ready {
    /// `ok` or `unavailable`
    status: &'static str,
    /// `ok` or `down`
    store: &'static str,
    /// `ok` or `down`
    broker: &'static str,
    stopping: bool,
}

/// Tells that the process answers.
#[utoipa::path(get, path = "/healthz", tag = "status", security(()),
    responses((status = 200, description = "It answers.", body = Alive)))]
pub(super) async fn healthz() -> axum::Json<Alive> {
    axum::Json(Alive { status: "ok" })
}

/// Tells whether requests can be served: asks the store and the broker.
#[utoipa::path(get, path = "/readyz", tag = "status", security(()),
    responses((status = 200, description = "It serves.", body = Ready),
        (status = 503, description = "It does not, and says why.", body = Ready)))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let store = store_answers(&app).await;
    let broker = (app.broker_ready)();
    let stopping = app.stopping.is_cancelled();
    let is_ready = store && broker && !stopping;
    let said = |works: bool| if works { "ok" } else { "down" };
    let body = Ready {
        status: if is_ready { "ok" } else { "unavailable" },
        store: said(store),
        broker: said(broker),
        stopping,
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(body)).into_response()
}

/// Whether the store can be read, and takes what is written: requests' part and devices'.
async fn store_answers(app: &App) -> bool {
    app.readiness
        .known(|| async {
            let asked = async {
                let mut tx = app.store.read().await?;
                meta::get(&mut tx, NAME).await?;
                drop(tx);
                // Never the same: a page that does not change is not written.
                let probe = app.clock.new_uuid().to_string().repeat(PROBE_REPEATS);
                let written = app
                    .store
                    .write(move |tx| Box::pin(async move { meta::put(tx, NAME, &probe).await }));
                let heard = app
                    .store
                    .intake(|tx| Box::pin(async move { intake::page(tx, i64::MAX).await }));
                let (written, heard) = tokio::try_join!(written, heard)?;
                written.and(heard.map(drop))
            };
            let limit = Duration::from_millis(READY_TIMEOUT_MS);
            matches!(tokio::time::timeout(limit, asked).await, Ok(Ok(())))
        })
        .await
}

/// What was found last, so that asking again and again costs nothing.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    async fn known<F: Future<Output = bool>>(&self, ask: impl FnOnce() -> F) -> bool {
        // Who comes while it is being found out waits for that.
        let mut found = self.0.lock().await;
        if let Some((at, is_ready)) = *found
            && at.elapsed() < Duration::from_millis(READY_KNOWN_MS)
        {
            return is_ready;
        }
        let is_ready = ask().await;
        *found = Some((Instant::now(), is_ready));
        is_ready
    }
}

/// How often 36 bytes are written to find out: more than is left free in files that are there
/// already, where little fits on a full disk too.
const PROBE_REPEATS: usize = 2_048;
/// What is written to find out: nothing else has this name.
const NAME: &str = "ready";
/// For how long an answer stands, in milliseconds.
const READY_KNOWN_MS: u64 = 1_000;
/// How long the store may take to answer before the server is not ready, in milliseconds.
const READY_TIMEOUT_MS: u64 = 2_000;

/// Measures, for Prometheus, with the token of any user or service.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(app): State<Arc<App>>, _caller: SignedIn) -> Response {
    let text = app.metrics.render(&app);
    let mut response = text.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
