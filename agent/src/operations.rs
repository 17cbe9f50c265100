//! What the agent's own operations do, step by step.
//!
//! [`steps`] hands each step of a workflow to [`run`], which reports as it goes, returns
//! how it ended, and ends early when `end` is cancelled. In which order steps come, and
//! what follows from their ends, is said in the files of `operations/`.
//!
//! | operation | module |
//! | --- | --- |
//! | `run_script` | [`script`] |
//! | `restart_service`, `restart_app` | [`owner`] |
//! | `restart_agent`, `reboot_host`, `restart`, `shutdown_host` | [`going_down`] |
//! | `collect_logs`, `file_pull`, `file_push` | [`transfers`] |
//! | `config_snapshot`, `config_update`, `update_config`, `log_upload` | [`configs`] |
//! | `software_list`, `software_update` | [`software`] |
//! | `health_check` | [`health`] |
//! | `ping`, `system_info`, `list_processes`, `disk_usage`, `network_info` | [`info`] |

mod configs;
mod going_down;
mod health;
pub mod info;
mod network;
pub mod operation;
pub mod owner;
pub mod script;
mod software;
pub mod steps;
pub mod tail;
pub mod transfers;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use quarterdeck_protocol::{command::error_code, ids::CommandId, limits::RESULT_MAX_BYTES};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Config,
    data_dir::Paths,
    domain::{
        Lifetime,
        command::{Failure, Outcome},
    },
    enroll::Credentials,
    io::{
        process::{Ending, Finished, Launcher, ProcessError},
        transfer::Server,
    },
    runner::requests::Workflows,
    work::{Failed, Reports, WorkEnd},
};
use operation::Operation;

/// Threads that may hang in the kernel at once.
const HANGING_MAX_THREADS: usize = 4;

/// What all operations may use.
#[derive(Debug)]
pub struct Context {
    pub config: Config,
    /// Absent where the agent runs without a server.
    pub credentials: Option<Credentials>,
    pub here: Lifetime,
    pub clock: Arc<dyn Clock>,
    pub launcher: Launcher,
    pub paths: Paths,
    pub workflows: Workflows,
}

impl Context {
    /// Where files are brought and taken; without a server there is no such place.
    fn server(&self) -> Result<Server<'_>, Failed> {
        let credentials = self.credentials.as_ref().ok_or_else(|| {
            Failed::because(error_code::UNSUPPORTED, "this agent runs without a server")
        })?;
        Ok(Server { credentials, clock: &*self.clock })
    }
}

/// Does one step of an operation, but for those that take the host or the agent down.
async fn run(
    context: &Context,
    operation: &Operation,
    step: &str,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    match operation {
        Operation::RunScript(payload) => script::run(context, payload, end, reports).await,
        Operation::RestartService(payload) => {
            owner::restart_service(context, payload, end, reports).await
        }
        Operation::RestartApp(payload) => owner::restart_app(context, payload, end, reports).await,
        Operation::RestartAgent
        | Operation::RebootHost
        | Operation::Restart
        | Operation::ShutdownHost => going_down::announce(end, reports).await,
        Operation::CollectLogs(payload) if step == "collecting" => {
            transfers::collect(context, payload, end, reports).await
        }
        Operation::LogUpload(payload) if step == "collecting" => {
            or_ended(end, configs::collect_log(context, payload, reports.id)).await
        }
        Operation::CollectLogs(_) | Operation::LogUpload(_) => {
            or_ended(end, transfers::upload_collected(context, reports.id)).await
        }
        Operation::FilePull(payload) => {
            or_ended(end, transfers::pull(context, payload, reports.id)).await
        }
        Operation::FilePush(payload) if step == "fetching" => {
            or_ended(end, transfers::fetch(context, payload, reports.id)).await
        }
        // Not to be ended: the file is put in place at once.
        Operation::FilePush(payload) => transfers::install(context, payload, reports.id).await,
        Operation::Ping => Ok(info::ping(context)),
        Operation::SystemInfo => blocking(info::system_info).await,
        Operation::ListProcesses(payload) => {
            let payload = payload.clone();
            blocking(move || info::list_processes(&payload)).await
        }
        Operation::DiskUsage(payload) => {
            let payload = payload.clone();
            or_ended(end, may_hang(move || info::disk_usage(&payload))).await
        }
        Operation::NetworkInfo => blocking(network::network_info).await,
        Operation::SoftwareList => software::list(context, end, reports).await,
        Operation::SoftwareUpdate(payload) => {
            software::update(context, payload, end, reports).await
        }
        Operation::HealthCheck(payload) => {
            health::check(context, &payload.checks, end, reports).await
        }
        Operation::ConfigSnapshot(payload) => {
            or_ended(end, configs::snapshot(context, payload, reports.id)).await
        }
        Operation::ConfigUpdate(payload) if step == "fetching" => {
            or_ended(end, configs::fetch(context, payload, reports.id)).await
        }
        Operation::ConfigUpdate(payload) => {
            let file = configs::file_of(context, payload)?;
            configs::apply(context, file, end, reports).await
        }
        Operation::UpdateConfig if step == "fetching" => {
            or_ended(end, configs::fetch_own(context, reports.id)).await
        }
        Operation::UpdateConfig => {
            configs::apply(context, configs::own_file(context)?, end, reports).await
        }
    }
}

async fn or_ended(end: &CancellationToken, work: impl Future<Output = WorkEnd>) -> WorkEnd {
    tokio::select! {
        ended = work => ended,
        // The machine says why it was ended; this text is not shown.
        () = end.cancelled() => fail(error_code::INTERRUPTED, "ended"),
    }
}

async fn blocking(work: impl FnOnce() -> WorkEnd + Send + 'static) -> WorkEnd {
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(_) => {
            fail(error_code::INTERNAL, "the operation itself failed; the agent's log says why")
        }
    }
}

/// Looks at a file system, which may hold the thread for ever if its server is
/// gone: on a thread of its own, so that the journal never waits for one.
async fn may_hang(work: impl FnOnce() -> WorkEnd + Send + 'static) -> WorkEnd {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    if RUNNING.fetch_add(1, Ordering::SeqCst) >= HANGING_MAX_THREADS {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return fail(error_code::BUSY, "earlier looks at file systems still hang");
    }
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let end = work();
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        // Nobody waits for it once the command was ended.
        let _ = done.send(end);
    });
    ended.await.unwrap_or_else(|_| fail(error_code::INTERNAL, "the operation itself failed"))
}

fn fail(code: &'static str, message: impl Into<String>) -> WorkEnd {
    Err(Failed::because(code, message))
}

/// Says that a file could not be dealt with; a full disk has its own code.
fn io_failure(what: &str, error: &io::Error) -> Failed {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if is_full { error_code::DISK_FULL } else { error_code::TRANSFER_FAILED };
    Failed::because(code, format!("{what}: {error}"))
}

/// A result that is too long to send is refused rather than cut into something else.
fn result(value: Value) -> WorkEnd {
    let size = serde_json::to_vec(&value).map_or(usize::MAX, |text| text.len());
    if size > RESULT_MAX_BYTES {
        return fail(
            error_code::INTERNAL,
            format!("the result has {size} bytes, {RESULT_MAX_BYTES} at most are sent"),
        );
    }
    Ok(Outcome::result(value))
}

/// Turns a program's end into the command's.
fn program_end(name: &str, finished: Result<Finished, ProcessError>) -> WorkEnd {
    let finished = match finished {
        Ok(finished) => finished,
        Err(ProcessError::NotSaved) => {
            return fail(
                error_code::DISK_FULL,
                "the device cannot save that it starts a program; it was not run",
            );
        }
        Err(error) => {
            return fail(error_code::LAUNCH_FAILED, crate::io::http::describe(&error));
        }
    };
    let (exit_code, failure) = match finished.ending {
        Ending::Code(0) => (Some(0), None),
        Ending::Code(code) => (
            Some(code),
            Some(Failure::new(
                error_code::SCRIPT_FAILED,
                format!("{name} ended with exit status {code}"),
            )),
        ),
        Ending::Signal(signal) => (
            // As shells show it.
            Some(128 + signal),
            Some(Failure::new(
                error_code::SCRIPT_FAILED,
                format!("{name} was killed by signal {signal}"),
            )),
        ),
        Ending::NotStarted(why) => (None, Some(Failure::new(error_code::LAUNCH_FAILED, why))),
        Ending::Lost => (
            None,
            Some(Failure::new(
                error_code::INTERRUPTED,
                format!("{name} was killed together with its supervisor"),
            )),
        ),
    };
    let outcome = Outcome {
        result: None,
        exit_code,
        stdout: Some(finished.stdout),
        stderr: Some(finished.stderr),
    };
    match failure {
        None => Ok(outcome),
        Some(failure) => Err(Failed::new(failure, outcome)),
    }
}

/// Forgets the files of a command that is over.
pub fn clean_up(paths: &Paths, id: CommandId) {
    let folder = paths.work_of(id);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove a command's files");
    }
}
