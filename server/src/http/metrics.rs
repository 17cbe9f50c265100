//! Measures: one recorder for the process, and what each request adds to it.

use std::{sync::OnceLock, time::Duration};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::App;

/// Bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of the buckets of counts.
const COUNT_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0];

/// Reads what was measured. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metrics").finish()
    }
}

impl Metrics {
    /// Installs the recorder of this process, once; later calls get the same one.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS_S)
                .and_then(|b| {
                    b.set_buckets_for_metric(Matcher::Suffix("_jobs".to_owned()), &COUNT_BUCKETS)
                })
                .expect("there are buckets")
                .build_recorder();
            let handle = recorder.handle();
            // An embedder may have a recorder of its own: then this one stays empty.
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another recorder of metrics is installed; /metrics shows little");
            }
            describe();
            handle
        });
        Self(handle.clone())
    }

    /// Writes all measures as Prometheus reads them.
    pub fn render(&self, app: &App) -> String {
        metrics::gauge!("quarterdeck_live_connections").set(app.live.connections() as f64);
        metrics::gauge!("quarterdeck_tunnels_open").set(app.tunnels.count() as f64);
        self.0.render()
    }

    /// Tidies up; to be called every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// What becomes of the messages of devices.
const INGEST: &[(&str, &str)] = &[
    ("quarterdeck_ingest_events_total", "Messages of devices that were taken."),
    (
        "quarterdeck_ingest_failed_total",
        "Messages of devices that could not be stored; their devices repeat them.",
    ),
    (
        "quarterdeck_ingest_foreign_total",
        "Responses of devices to commands that are not theirs, or unknown.",
    ),
    ("quarterdeck_ingest_malformed_total", "Messages of devices that could not be read."),
    (
        "quarterdeck_ingest_undecidable_total",
        "Messages of devices that the database refuses; they are left out.",
    ),
    (
        "quarterdeck_ingest_undecided_total",
        "Stored batches of messages that could not be decided; they are tried again.",
    ),
];

fn describe() {
    metrics::describe_counter!(
        "quarterdeck_http_requests_total",
        "Requests answered, by route, method and status."
    );
    metrics::describe_histogram!(
        "quarterdeck_http_request_duration_seconds",
        "How long answering took, by route."
    );
    metrics::describe_counter!("quarterdeck_logins_total", "Attempts to sign in, by outcome.");
    metrics::describe_gauge!("quarterdeck_live_connections", "Open live connections.");
    metrics::describe_gauge!(
        "quarterdeck_tunnels_open",
        "Sessions with devices that are not over."
    );
    metrics::describe_gauge!("quarterdeck_tunnel_consoles", "Consoles attached to tunnels.");
    metrics::describe_counter!(
        "quarterdeck_tunnels_closed_total",
        "Tunnels that ended, by reason."
    );
    metrics::describe_counter!(
        "quarterdeck_tunnel_lost_frames_total",
        "Frames that could not be passed on, and are sent again by their end."
    );
    metrics::describe_counter!(
        "quarterdeck_tunnel_bad_frames_total",
        "Frames of devices that could not be read."
    );
    metrics::describe_histogram!("quarterdeck_store_commit_jobs", "Jobs that shared one commit.");
    metrics::describe_counter!(
        "quarterdeck_commands_created_total",
        "Commands that were submitted."
    );
    metrics::describe_counter!(
        "quarterdeck_commands_published_total",
        "Messages of commands that were handed to connections, repeated ones too."
    );
    for (name, what) in INGEST {
        metrics::describe_counter!(*name, *what);
    }
    metrics::describe_histogram!(
        "quarterdeck_ingest_batch_events",
        "Messages of devices that were taken in one transaction."
    );
    metrics::describe_gauge!(
        "quarterdeck_ingest_backlog_words",
        "Messages of devices that wait to be taken."
    );
    metrics::describe_gauge!("quarterdeck_http_connections", "Open HTTP connections.");
}

/// Counts and times a request; logs it when it failed here.
pub async fn observe(request: Request, next: Next) -> Response {
    // The template, not the path: ids would make a series each.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let started = tokio::time::Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let took: Duration = started.elapsed();
    metrics::counter!("quarterdeck_http_requests_total", "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("quarterdeck_http_request_duration_seconds", "route" => route)
        .record(took.as_secs_f64());
    response
}
