//! The agent itself: from a configuration to what runs, until it is told to stop.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    clock::{Backoff, Clock, SystemClock},
    config::{Config, layers},
    data_dir::{DataDir, Paths},
    domain::Lifetime,
    engine::{After, Engine},
    enroll,
    io::{cgroup::Cgroups, host, process::Launcher, signals::Spared},
    journal::storage::DiskFolder,
    operations::{Context, steps::Steps},
    runner::{
        self, Runner,
        bus::{Events, local, mqtt},
        requests::Workflows,
        scripts::Host,
    },
    tunnel,
};

/// Threads beside the loop: for fsync, and for work that may block.
const BLOCKING_THREADS_MAX: usize = 64;
const THREAD_STACK_BYTES: usize = 512 * 1024;
/// The first and the longest wait for room on a full disk before the next start, in milliseconds.
const FULL_RETRY_FIRST_MS: u64 = 500;
const FULL_RETRY_MOST_MS: u64 = 30_000;

/// Serves until it is told to stop, or to start anew.
///
/// A disk too full to start on is waited for: there may be nobody to start the agent again.
pub(super) fn run(config: &Config, filter: EnvFilter) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would say on stderr that stderr is closed, and panic over it.
        .log_internal_errors(false)
        .init();
    for key in layers::unknown_variables(std::env::vars_os().map(|(key, _)| key)) {
        tracing::warn!(key, "no such option; the variable is ignored");
    }
    for problem in &config.refused_children {
        tracing::error!(problem, "this child is left out; all else goes on without it");
    }
    let spared = Spared::find().context("cannot read which signals are ignored")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut backoff = Backoff::new(FULL_RETRY_FIRST_MS, FULL_RETRY_MOST_MS);
    loop {
        // One for each try: nothing that a start has begun goes on beside the next.
        let runtime = runtime()?;
        let done = runtime.block_on(async {
            spared.shield().context("cannot handle the signals that are ignored")?;
            let stop = CancellationToken::new();
            stop_on_signals(stop.clone())?;
            match Box::pin(serve(config.clone(), Arc::clone(&clock), stop.clone())).await {
                Err(error) if is_disk_full(&error) => {
                    let wait_ms = backoff.next_ms(&*clock);
                    let error = format!("{error:#}");
                    tracing::error!(
                        error,
                        wait_ms,
                        "the disk is full: the agent cannot start, and tries again"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => Ok(None),
                        () = stop.cancelled() => Ok(Some(After::Exit)),
                    }
                }
                done => done.map(Some),
            }
        });
        // Work that hangs in the kernel must not hold up the end.
        runtime.shutdown_background();
        match done? {
            None => {}
            Some(After::Exit) => return Ok(ExitCode::SUCCESS),
            Some(After::StartAnew) => return Ok(start_anew(&spared)),
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .context("cannot start the runtime")
}

/// Whether it failed for want of room alone.
fn is_disk_full(error: &anyhow::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| full.contains(&error.kind()))
    })
}

async fn serve(
    config: Config,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<After> {
    let data_dir = DataDir::hold(&config.data_dir)?;
    let boot_id = host::boot_id().context("cannot read the boot id")?;
    let paths = data_dir.paths().clone();
    let here = Lifetime { boot_id, run_id: clock.random_id() };
    if config.offline {
        return run_offline(config, &data_dir, clock, here, stop).await;
    }
    let credentials = tokio::select! {
        enrolled = enroll::ensure(&config, &paths, &*clock) => enrolled?,
        () = stop.cancelled() => return Ok(After::Exit),
    };
    let cgroups = Arc::new(Cgroups::of(paths.root()));
    let (mut runner, workflows) = start_runner(&config, &paths, &clock, &here, &cgroups, &stop)?;
    let launcher = Launcher::new(here.boot_id.clone(), cgroups);
    let held = Some(credentials.clone());
    let context = Context { config, credentials: held, here, clock, launcher, paths, workflows };
    let context = Arc::new(context);
    let tunnels = tunnel::start(&context, credentials.clone(), stop.clone())
        .context("cannot read which tunnels were started")?;
    let engine = Engine::start(Arc::clone(&context), credentials, stop.clone())?;
    let reports = Some(engine.reports());
    runner.set_handlers(Arc::new(Steps::new(context, reports, stop.clone())));
    data_dir.empty_work(&[engine.work_ids(), runner.work_ids()].concat());
    let (of_engine, of_runner) =
        tokio::join!(and_stop(engine.run(), &stop), and_stop(runner.run(), &stop));
    tunnels.ended().await;
    Ok(if of_runner == After::StartAnew { of_runner } else { of_engine })
}

/// Has everything else stop when one part has, be it to start anew.
async fn and_stop(part: impl Future<Output = After>, stop: &CancellationToken) -> After {
    let after = part.await;
    stop.cancel();
    after
}

/// Runs workflows on the device's own broker, without a server.
async fn run_offline(
    config: Config,
    data_dir: &DataDir,
    clock: Arc<dyn Clock>,
    here: Lifetime,
    stop: CancellationToken,
) -> anyhow::Result<After> {
    let paths = data_dir.paths().clone();
    let cgroups = Arc::new(Cgroups::of(paths.root()));
    let (mut runner, workflows) = start_runner(&config, &paths, &clock, &here, &cgroups, &stop)?;
    let launcher = Launcher::new(here.boot_id.clone(), cgroups);
    let context = Context { config, credentials: None, here, clock, launcher, paths, workflows };
    runner.set_handlers(Arc::new(Steps::new(Arc::new(context), None, stop)));
    data_dir.empty_work(&runner.work_ids());
    Ok(runner.run().await)
}

/// Starts the runner of workflows, on the device's own broker or the bus inside the agent.
fn start_runner(
    config: &Config,
    paths: &Paths,
    clock: &Arc<dyn Clock>,
    here: &Lifetime,
    cgroups: &Arc<Cgroups>,
    stop: &CancellationToken,
) -> anyhow::Result<(Runner, Workflows)> {
    raise_open_files();
    let scope = config.scope.clone();
    let events = match config.bus.clone() {
        Some(broker) => {
            let (to, events) = mpsc::channel(mqtt::EVENTS_MAX);
            // It ends with the one who listens.
            tokio::spawn(mqtt::run(broker, scope.clone(), Arc::clone(clock), to));
            Events::Mqtt(events)
        }
        None => local::connect(),
    };
    let setup = runner::Setup {
        scope,
        workflows: config.workflows.clone(),
        log: Arc::new(DiskFolder::of(paths.root(), runner::log::LOG)),
        here: here.clone(),
        clock: Arc::clone(clock),
        host: Host::new(std::env::vars_os(), &paths.root().to_string_lossy(), Arc::clone(cgroups)),
        restart_agent: config.exec.restart_agent.clone(),
    };
    Ok(Runner::start(setup, events, stop.clone())?)
}

/// Lets a thousand scripts run at once: each takes three files.
fn raise_open_files() {
    const WANTED: u64 = 65_536;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let soft = soft.max(WANTED.min(hard));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Becomes a new run of the program as it now lies on the disk, with the same arguments.
fn start_anew(spared: &Spared) -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "quarterdeck-agent".into());
    let on_disk = std::env::current_exe().ok().filter(|path| path.exists());
    let program = on_disk.map_or_else(|| name.clone(), Into::into);
    spared.hand_on();
    let error = Command::new(program).args(words).exec();
    eprintln!("quarterdeck-agent: cannot start anew: {error}");
    ExitCode::FAILURE
}
