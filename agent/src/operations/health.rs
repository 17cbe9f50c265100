//! `health_check`: the checks of the device's owner (`[health]`), one program each; exit status
//! 0 is healthy.

use quarterdeck_protocol::command::error_code;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Context, fail, owner, result};
use crate::{
    domain::command::Failure,
    io::host,
    work::{Failed, Reports, WorkEnd},
};

/// What of a check's output is told, in characters.
const SAID_MAX_CHARS: usize = 300;

/// Runs the owner's checks; it fails when one of them does, and its result says which.
pub(super) async fn check(
    context: &Context,
    wanted: &[String],
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let known = &context.config.owned.health;
    if let Some(unknown) = wanted.iter().find(|name| !known.contains_key(*name)) {
        let why = format!("payload.checks: the device's owner has set no health.{unknown}");
        return fail(error_code::REJECTED, why);
    }
    let mut checks = Vec::new();
    let mut unhealthy = Vec::new();
    for (name, line) in known.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
    {
        let ended = owner::run_line(context, line.clone(), false, end, reports).await;
        let (is_healthy, why, outcome) = match ended.map_err(Failed::into_parts) {
            Ok(outcome) => (true, None, outcome),
            Err((failure, outcome)) => (false, Some(failure.message), outcome),
        };
        if end.is_cancelled() {
            return fail(error_code::INTERRUPTED, "ended");
        }
        if !is_healthy {
            unhealthy.push(name.as_str());
        }
        let said = outcome.stdout.filter(|text| !text.trim().is_empty()).or(outcome.stderr);
        let said: String = said.unwrap_or_default().chars().take(SAID_MAX_CHARS).collect();
        checks.push(json!({
            "name": name, "healthy": is_healthy, "exit_code": outcome.exit_code,
            "reason": why, "output": said.trim(),
        }));
    }
    let is_healthy = unhealthy.is_empty();
    let outcome = result(json!({
        "healthy": is_healthy, "checks": checks, "resources": host::resources()
    }))?;
    if is_healthy {
        return Ok(outcome);
    }
    let why = format!("not healthy: {}", unhealthy.join(", "));
    Err(Failed::new(Failure::new(error_code::UNHEALTHY, why), outcome))
}
