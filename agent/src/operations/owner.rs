//! Operations whose command lines are the device owner's (`[exec]`).
//!
//! No text of a command reaches a shell: a name replaces one whole argument,
//! and which names are valid was checked when the payload was parsed.

use std::path::Path;

use quarterdeck_protocol::{
    command::error_code,
    payload::{RestartApp, RestartService},
};
use tokio_util::sync::CancellationToken;

use super::{Context, fail, program_end, script::base_environment};
use crate::{
    io::{process, supervisor::Spec},
    work::{Reports, WorkEnd},
};

/// Replaces each argument that is `placeholder` by `value`.
fn fill(line: &[String], placeholder: &str, value: &str) -> Vec<String> {
    line.iter()
        .map(|word| if word == placeholder { value.to_owned() } else { word.clone() })
        .collect()
}

pub(super) async fn run_line(
    context: &Context,
    argv: Vec<String>,
    outlives_agent: bool,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let name = argv.first().cloned().unwrap_or_default();
    let spec = spec(context, argv, outlives_agent, reports);
    program_end(&name, process::run(&context.launcher, &spec, end, reports).await)
}

/// Has a program write its stdout into a file itself: it never passes through the agent.
pub(super) async fn run_into_file(
    context: &Context,
    line: Vec<String>,
    file: &Path,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let name = line.first().cloned().unwrap_or_default();
    // The words reach the program as arguments; the shell reads only this fixed text.
    let into_file = r#"out=$1; shift; exec "$@" > "$out""#;
    let mut argv: Vec<String> = ["sh", "-c", into_file, "sh"].map(str::to_owned).into();
    argv.push(file.display().to_string());
    argv.extend(line);
    let spec = spec(context, argv, false, reports);
    program_end(&name, process::run(&context.launcher, &spec, end, reports).await)
}

fn spec(context: &Context, argv: Vec<String>, outlives_agent: bool, reports: &Reports) -> Spec {
    Spec {
        argv,
        env: base_environment(reports.id, None),
        cwd: Some("/".into()),
        user: None,
        memory_max_bytes: None,
        grace_ms: context.config.limits.script_grace_ms,
        outlives_agent,
    }
}

pub(super) async fn restart_service(
    context: &Context,
    payload: &RestartService,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let argv = fill(&context.config.exec.restart_service, "{service}", &payload.service);
    run_line(context, argv, false, end, reports).await
}

pub(super) async fn restart_app(
    context: &Context,
    payload: &RestartApp,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let Some(line) = &context.config.exec.restart_app else {
        return fail(error_code::UNSUPPORTED, "the device's owner has set no exec.restart_app");
    };
    let wants_app = line.iter().any(|word| word == "{app}");
    let argv = match &payload.app {
        Some(app) if wants_app => fill(line, "{app}", app),
        Some(_) => {
            return fail(
                error_code::REJECTED,
                "payload.app: this device has one app and takes no name",
            );
        }
        None if wants_app => {
            return fail(error_code::REJECTED, "payload.app: expected the name of an app");
        }
        None => line.clone(),
    };
    run_line(context, argv, false, end, reports).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_replaces_a_whole_argument_and_nothing_else() {
        let line = ["do", "--unit={service}", "{service}"].map(str::to_owned);
        assert_eq!(fill(&line, "{service}", "a b"), ["do", "--unit={service}", "a b"]);
    }
}
