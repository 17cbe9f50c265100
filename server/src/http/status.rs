//! Whether the server lives, works, and how it fares: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, extract::SignedIn};

/// Tells that the process answers.
#[utoipa::path(get, path = "/healthz", tag = "status", security(()),
    responses((status = 200, description = "It answers.")))]
pub(super) async fn healthz() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// Tells whether requests can be served: asks the store and the broker.
#[utoipa::path(get, path = "/readyz", tag = "status", security(()),
    responses((status = 200, description = "It serves."), (status = 503, description = "It does not, and says why.")))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let store = store_answers(&app).await;
    let broker = (app.broker_ready)();
    let stopping = app.stopping.is_cancelled();
    let is_ready = store && broker && !stopping;
    let said = |works: bool| if works { "ok" } else { "down" };
    let body = json!({
        "status": if is_ready { "ok" } else { "unavailable" },
        "store": said(store), "broker": said(broker), "stopping": stopping,
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(body)).into_response()
}

async fn store_answers(app: &App) -> bool {
    let asked = async {
        let mut tx = app.store.read().await?;
        crate::store::meta::get(&mut tx, "ready").await
    };
    let limit = std::time::Duration::from_millis(READY_TIMEOUT_MS);
    matches!(tokio::time::timeout(limit, asked).await, Ok(Ok(_)))
}

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
