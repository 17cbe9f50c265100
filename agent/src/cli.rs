//! Arguments, and the way from them to a running agent.

mod workflows;

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    clock::{Clock, SystemClock},
    config::{Config, ConfigError, Layers, layers},
    data_dir::{DataDir, Paths},
    domain::Lifetime,
    engine::{After, Engine},
    enroll::{self, EnrollError},
    io::{cgroup::Cgroups, host, process::Launcher},
    journal::storage::DiskFolder,
    local_status,
    operations::{Context, steps::Steps},
    runner::{
        self, Runner,
        bus::{Events, local, mqtt},
        requests::Workflows,
        scripts::Host,
    },
    tunnel,
};

/// Wrong usage: nothing was bound or written.
const EXIT_USAGE: u8 = 2;
/// Threads beside the loop: for fsync, and for work that may block.
const BLOCKING_THREADS_MAX: usize = 64;
const THREAD_STACK_BYTES: usize = 512 * 1024;

/// The daemon on a device: it runs the operations that its fleet's operators ask for.
///
/// Every option can also be set in a TOML file (--config) and as QUARTERDECK_AGENT_…;
/// flags win over the environment, which wins over the file. Logs go to stderr; their
/// level is set by QUARTERDECK_LOG.
#[derive(Debug, Parser)]
#[command(name = "quarterdeck-agent", version)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Args)]
struct Options {
    /// The server: https://… or, on this host, http://127.0.0.1:8470
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The enrolment token, needed at the first start only
    #[arg(long, global = true)]
    token: Option<String>,
    /// A file that holds the enrolment token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<String>,
    /// This device's id within its project
    #[arg(long, global = true, value_name = "ID")]
    device_id: Option<String>,
    /// What kind of device this is
    #[arg(long = "type", global = true, value_name = "TYPE")]
    kind: Option<String>,
    /// Tags of this device; may be given more than once
    #[arg(long, global = true, value_name = "K=V")]
    tags: Vec<String>,
    /// Where the agent keeps its state [default: the XDG state folder]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// The folder with this device's own operations [default: workflows in --data-dir]
    #[arg(long, global = true, value_name = "DIR")]
    workflows: Option<String>,
    /// This device's own broker: mqtt://127.0.0.1:1883 [default: a bus inside the agent]
    #[arg(long, global = true, value_name = "URL")]
    bus: Option<String>,
    /// A file that holds the password of the user in --bus
    #[arg(long, global = true, value_name = "FILE")]
    bus_password_file: Option<String>,
    /// What topics on the bus begin with [default: te]
    #[arg(long, global = true, value_name = "ROOT")]
    bus_root: Option<String>,
    /// Whose commands on the bus are this agent's [default: device/main//]
    #[arg(long, global = true, value_name = "TARGET")]
    target: Option<String>,
    /// Run workflows on --bus alone: no server
    #[arg(long, global = true)]
    offline: bool,
    /// The CA by which the server and the broker are known
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<String>,
    /// Allow plaintext to other hosts than this one
    #[arg(long, global = true)]
    allow_plaintext: bool,
    /// Seconds between heartbeats [default: 30]
    #[arg(long, global = true, value_name = "SECONDS")]
    heartbeat_s: Option<String>,
    /// A TOML file with all of these, and [exec], [files], [limits], [tunnels], [[children]]
    #[arg(long, global = true, value_name = "FILE", env = "QUARTERDECK_AGENT_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the device, its connection and its open commands; needs no server
    Status {
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Look at this device's operations, and check files of new ones; needs no server
    Workflows(workflows::Look),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Options {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.read_file(path)?;
        }
        layers.read_environment(|name| std::env::var(name).ok());
        let flags = [
            ("server", &self.server),
            ("token", &self.token),
            ("token_file", &self.token_file),
            ("device_id", &self.device_id),
            ("type", &self.kind),
            ("data_dir", &self.data_dir),
            ("workflows", &self.workflows),
            ("bus", &self.bus),
            ("bus_password_file", &self.bus_password_file),
            ("bus_root", &self.bus_root),
            ("target", &self.target),
            ("ca_file", &self.ca_file),
            ("heartbeat_s", &self.heartbeat_s),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                layers.set_flag(key, value);
            }
        }
        if !self.tags.is_empty() {
            layers.set_flag("tags", &self.tags.join(","));
        }
        for (key, is_set) in [("allow_plaintext", self.allow_plaintext), ("offline", self.offline)]
        {
            if is_set {
                layers.set_flag(key, "true");
            }
        }
        Config::load(&layers)
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Also for --help and --version, which exit with 0.
        Err(error) => error.exit(),
    };
    let config = match cli.options.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("quarterdeck-agent: {}", crate::io::http::describe(&error));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if cli.task.is_none()
        && !config.offline
        && let Err(error @ EnrollError::Missing { .. }) =
            enroll::check_options(&config, &Paths::new(&config.data_dir))
    {
        eprintln!("quarterdeck-agent: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    let done = match cli.task {
        None => serve(config).map(|after| match after {
            After::Exit => ExitCode::SUCCESS,
            After::StartAnew => start_anew(),
        }),
        Some(Task::Status { output }) => show_status(&config, output).map(|()| ExitCode::SUCCESS),
        Some(Task::Workflows(look)) => workflows::run(&config, &look),
    };
    done.unwrap_or_else(|error| {
        eprintln!("quarterdeck-agent: {error:#}");
        ExitCode::FAILURE
    })
}

fn show_status(config: &Config, output: Output) -> anyhow::Result<()> {
    let status = local_status::collect(config)?;
    let text = match output {
        Output::Text => local_status::to_text(&status),
        Output::Json => serde_json::to_string(&status)?,
    };
    // Whoever reads may have gone: `status | head -1`.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn serve(config: Config) -> anyhow::Result<After> {
    let filter =
        EnvFilter::try_from_env("QUARTERDECK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
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
    let data_dir = DataDir::hold(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .context("cannot start the runtime")?;
    let after = runtime.block_on(run(config, &data_dir))?;
    // Work that hangs in the kernel must not hold up the end.
    runtime.shutdown_background();
    Ok(after)
}

async fn run(config: Config, data_dir: &DataDir) -> anyhow::Result<After> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let boot_id = host::boot_id().context("cannot read the boot id")?;
    let paths = data_dir.paths().clone();
    let here = Lifetime { boot_id, run_id: clock.random_id() };
    if config.offline {
        return run_offline(config, data_dir, clock, here, stop).await;
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
fn start_anew() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "quarterdeck-agent".into());
    let on_disk = std::env::current_exe().ok().filter(|path| path.exists());
    let program = on_disk.map_or_else(|| name.clone(), Into::into);
    let error = Command::new(program).args(words).exec();
    eprintln!("quarterdeck-agent: cannot start anew: {error}");
    ExitCode::FAILURE
}
