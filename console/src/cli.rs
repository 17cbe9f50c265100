//! The command line of `quarterdeck`: the full-screen console, and the same
//! abilities as subcommands for scripts (chapter 1).
//!
//! stdout carries what was asked for, as a table or as one JSON array; all else
//! goes to stderr. Exit codes: 0 success, 1 the thing asked for failed, 2 wrong
//! usage; what runs a program on a device has that program's, and 255. No secret is ever an argument; whatever others wrote is shown escaped.
//!
//! | module | subject |
//! | --- | --- |
//! | [`options`], [`context`] | options of all subcommands, and what they become |
//! | [`output`], [`table`], [`rows`], [`units`] | what is printed, and how |
//! | [`error`], [`input`] | how it ends; secrets and prompts |
//! | [`fields`] | fields of a payload, and their types |
//! | [`listing`] | filters of what lists |
//! | [`several`] | the same asked for several things |
//! | [`line`] | the command line that equals a submission of the TUI |
//! | [`session`] | what `shell`, `exec`, `proxy` and `forward` have in common |
//! | the others | one noun each |

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use quarterdeck_protocol::log_filter::{self, Directive};
use tokio::runtime::Runtime;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub mod alerts;
pub mod commands;
pub mod context;
pub mod debug;
pub mod devices;
mod direct;
pub mod docs;
pub mod error;
pub mod exec;
pub mod fields;
pub mod forward;
pub mod input;
pub mod line;
pub mod listing;
pub mod login;
pub mod options;
pub mod output;
pub mod people;
pub mod proxy;
pub mod recordings;
pub mod rows;
pub mod run;
pub mod screen;
pub mod session;
pub mod several;
pub mod shell;
pub mod ssh_config;
pub mod table;
pub mod tokens;
pub mod tunnels;
pub mod units;
pub mod wait;

use context::Context;
use error::CliError;

use crate::net::auth;

const LOG_VARIABLE: &str = "QUARTERDECK_LOG";
/// What this program's own words are logged as.
const OWN_TARGET: &str = "quarterdeck_console";
/// The exit code of wrong usage.
const USAGE: u8 = 2;
/// How long a login that is being refreshed may hold up the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Operations console for fleets of devices.
///
/// Without a subcommand it opens the full-screen console. Subcommands do the
/// same things for scripts: what was asked for goes to stdout, all else to
/// stderr; exit code 0 is success, 1 a failure, 2 wrong usage.
///
/// Options may also stand in a TOML file (--config) and in the environment.
/// QUARTERDECK_SERVER, QUARTERDECK_PROJECT and QUARTERDECK_TOKEN stand for a
/// login: with a token, a remembered one counts only where --profile names it.
#[derive(Debug, Parser)]
#[command(name = "quarterdeck", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub tui: options::TuiArgs,
    #[command(flatten)]
    pub global: options::GlobalArgs,
    #[command(subcommand)]
    pub command: Option<Subcommands>,
}

const EXAMPLES: &str = "Examples:
  quarterdeck login --server https://fleet.example.com
  quarterdeck                                             the full-screen console
  quarterdeck --wall --rotate 15s --read-only             a wall screen
  quarterdeck devices --status offline
  quarterdeck run run_script pi-1 pi-2 script=uptime --wait
  quarterdeck commands --status failed --from 2h --output json
  quarterdeck shell pi-1
  quarterdeck exec pi-1 -- tar -C /var/log -cf - . > logs.tar
  quarterdeck forward pi-1 8080:127.0.0.1:80";

#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Sign in, and remember server and project
    Login(login::LoginArgs),
    /// End the login, here and at the server
    Logout,
    /// List, show, tag and retire devices
    Devices(devices::DevicesArgs),
    /// List, show, cancel and retry commands; get what they brought
    Commands(commands::CommandsArgs),
    /// Run an operation on devices
    Run(run::RunArgs),
    /// List the operations that devices know
    Operations,
    /// Open a terminal on a device, or join one
    Shell(shell::ShellArgs),
    /// Run a program on a device, its stdin, stdout and stderr being ours
    Exec(exec::ExecArgs),
    /// Join stdin and stdout to a port of a device: ssh's ProxyCommand
    Proxy(proxy::ProxyArgs),
    /// Forward ports to what a device reaches, or from it
    Forward(forward::ForwardArgs),
    /// Print what ssh needs to know to reach devices
    SshConfig(ssh_config::SshConfigArgs),
    /// List, show and end sessions with devices
    Tunnels(tunnels::TunnelsArgs),
    /// List, play, export and check recorded sessions
    Recordings(recordings::RecordingsArgs),
    /// List, acknowledge and silence alerts
    Alerts(alerts::AlertsArgs),
    /// Show who did what
    Audit(alerts::AuditArgs),
    /// List, create and lock out users (server admins)
    Users(people::UsersArgs),
    /// Say who may do what in the project (admins)
    Members(people::MembersArgs),
    /// List and create projects; show and change settings
    Projects(people::ProjectsArgs),
    /// Make tokens with which devices enrol (admins)
    EnrollToken(tokens::EnrollTokenArgs),
    /// Make tokens for scripts (admins)
    ServiceToken(tokens::ServiceTokenArgs),
    /// Look into the console's own parts
    #[command(subcommand)]
    Debug(debug::DebugCommands),
    /// Print completions for a shell
    Completions(docs::CompletionsArgs),
    /// Print the man page
    Man(docs::ManArgs),
}

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_screen = cli.command.is_none();
    if let Err(error) = start_log(is_screen) {
        eprintln!("quarterdeck: {error}");
        return ExitCode::from(USAGE);
    }
    let ended = match runtime(is_screen) {
        Ok(runtime) => {
            let ended = runtime.block_on(async {
                let ended = dispatch(cli).await;
                auth::settled(FAREWELL).await;
                ended
            });
            // A prompt that still reads stdin must not hold the program.
            runtime.shutdown_background();
            ended
        }
        Err(e) => Err(CliError::Io(e)),
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    if let Some(message) = error.message() {
        output::note(&format!("quarterdeck: {message}"));
    }
    error.exit_code()
}

/// The screens draw beside what the network brings. A command does one thing after the other, and
/// on one thread, as in ssh, no byte of a session waits until another thread is awake.
fn runtime(is_screen: bool) -> io::Result<Runtime> {
    use tokio::runtime::Builder;
    let mut runtime =
        if is_screen { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    runtime.worker_threads(2).enable_all().build()
}

async fn dispatch(cli: Cli) -> Result<(), CliError> {
    let Cli { mut global, mut tui, command } = cli;
    match &command {
        Some(Subcommands::Completions(args)) => return docs::completions(Cli::command(), args),
        Some(Subcommands::Man(args)) => return docs::man(Cli::command(), args),
        Some(Subcommands::Debug(command)) => return debug::run(command),
        _ => options::merge_config(&mut global, &mut tui)?,
    }
    let Some(command) = command else { return screen::run(&global, &tui).await };
    match command {
        Subcommands::Login(args) => return login::login(&global, &args).await,
        Subcommands::Logout => return login::logout(&global).await,
        _ => {}
    }
    let mut context = Context::new(&global)?;
    match command {
        Subcommands::Devices(args) => devices::run(&mut context, args).await,
        Subcommands::Commands(args) => commands::run(&mut context, args).await,
        Subcommands::Run(args) => run::run(&mut context, args).await,
        Subcommands::Operations => alerts::operations(&mut context).await,
        Subcommands::Shell(args) => shell::run(&context, args).await,
        Subcommands::Exec(args) => exec::run(&context, args).await,
        Subcommands::Proxy(args) => proxy::run(&context, args).await,
        Subcommands::Forward(args) => forward::run(&mut context, args).await,
        Subcommands::SshConfig(args) => ssh_config::run(&mut context, &global, args).await,
        Subcommands::Tunnels(args) => tunnels::run(&mut context, args).await,
        Subcommands::Recordings(args) => recordings::run(&mut context, args).await,
        Subcommands::Alerts(args) => alerts::alerts(&mut context, args).await,
        Subcommands::Audit(args) => alerts::audit(&mut context, args).await,
        Subcommands::Users(args) => people::users(&mut context, args).await,
        Subcommands::Members(args) => people::members(&mut context, args).await,
        Subcommands::Projects(args) => people::projects(&mut context, args).await,
        Subcommands::EnrollToken(args) => tokens::enroll_token(&mut context, args).await,
        Subcommands::ServiceToken(args) => tokens::service_token(&mut context, args).await,
        Subcommands::Login(_)
        | Subcommands::Logout
        | Subcommands::Debug(_)
        | Subcommands::Completions(_)
        | Subcommands::Man(_) => Ok(()),
    }
}

/// Logs to stderr what `QUARTERDECK_LOG` says, `warn` by default; never onto the full screen. Only
/// what this program says itself: libraries would log tickets and frames.
fn start_log(is_screen: bool) -> Result<(), String> {
    let text = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let given = if text.is_empty() { "warn" } else { &text };
    let directives = log_filter::directives(given)
        .map_err(|error| format!("{LOG_VARIABLE} {given:?}: {error}"))?;
    let level = level_of(&directives);
    if is_screen && std::io::stderr().is_terminal() {
        return Ok(());
    }
    let filter = Targets::new().with_target(OWN_TARGET, level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(layer).with(filter).init();
    Ok(())
}

/// The level for this program: its own, else the one for all.
fn level_of(directives: &[Directive<'_>]) -> LevelFilter {
    let own = |directive: &&Directive<'_>| directive.target == Some(OWN_TARGET);
    let all = |directive: &&Directive<'_>| directive.target.is_none();
    let found = directives.iter().rfind(own).or_else(|| directives.iter().rfind(all));
    found.and_then(|found| found.level.parse().ok()).unwrap_or(LevelFilter::WARN)
}
