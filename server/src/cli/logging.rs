//! The log: to stderr, structured, filtered by `QUARTERDECK_LOG`.

use quarterdeck_protocol::log_filter;
use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

const FILTER: &str = "QUARTERDECK_LOG";
const FORMAT: &str = "QUARTERDECK_LOG_FORMAT";
/// The database and the client of an external broker tell much that nobody needs.
const DEFAULT_FILTER: &str = "info,sqlx=warn,rumqttc=warn";

/// Installs the log of this process.
pub(super) fn install() -> Result<(), ConfigError> {
    let refuse = |key: &str, value: &str, expected: String| ConfigError {
        key: key.to_owned(),
        value: format!("{value:?}"),
        expected,
    };
    let text = std::env::var(FILTER).unwrap_or_default();
    let text = if text.is_empty() { DEFAULT_FILTER.to_owned() } else { text };
    log_filter::directives(&text).map_err(|error| refuse(FILTER, &text, error.to_string()))?;
    let filter =
        EnvFilter::try_new(&text).map_err(|error| refuse(FILTER, &text, error.to_string()))?;
    let format = std::env::var(FORMAT).unwrap_or_else(|_| "text".to_owned());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr is closed, and panic over it.
        .log_internal_errors(false);
    match format.as_str() {
        "text" => log.with_ansi(false).init(),
        "json" => log.json().flatten_event(true).init(),
        _ => return Err(refuse(FORMAT, &format, "expected text or json".to_owned())),
    }
    Ok(())
}
