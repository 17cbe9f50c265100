//! Arguments, and what they ask for; [`serve`] is the agent itself.

mod serve;
mod workflows;

use std::{fmt::Display, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use quarterdeck_protocol::log_filter;
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, ConfigError, Layers},
    data_dir::Paths,
    enroll::{self, EnrollError},
    local_status,
};

const LOG_VARIABLE: &str = "QUARTERDECK_LOG";
/// Wrong usage: nothing was bound or written.
const EXIT_USAGE: u8 = 2;

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
    let filter = match log_filter() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("quarterdeck-agent: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
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
        None => serve::run(&config, filter),
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

/// Reads what is to be logged.
fn log_filter() -> Result<EnvFilter, String> {
    let text = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let text = if text.is_empty() { "info" } else { &text };
    let refused = |error: &dyn Display| format!("{LOG_VARIABLE} {text:?}: {error}");
    log_filter::directives(text).map_err(|error| refused(&error))?;
    EnvFilter::try_new(text).map_err(|error| refused(&error))
}
