//! The command line: serve, or one of the subcommands.
//!
//! Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage or configuration.

mod admin;
mod audit;
mod backup;
mod logging;
mod serve;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};

use crate::{
    config::{self, Config, ConfigError, Options},
    limits::{self, Limit},
};

/// The server of Quarterdeck, an operations console for device fleets.
#[derive(Debug, Parser)]
#[command(name = "quarterdeck-server", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Read options from this TOML file; flags and QUARTERDECK_SERVER_… go before it
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the database's schema up to date, and do what a first start does
    Migrate,
    /// Add a user
    CreateUser(admin::CreateUser),
    /// Give a user another password, and end all their sessions
    ResetPassword(admin::ResetPassword),
    /// Check the audit trail: exit 0 when all of it holds
    VerifyAudit(audit::VerifyAudit),
    /// Write the audit trail, one JSON object a line
    ExportAudit(audit::ExportAudit),
    /// Copy database and files into a new folder, while the server runs
    Backup(backup::Backup),
    /// Put a backup in place; the server must not run
    Restore(backup::Restore),
    /// Show all limits
    Limits,
}

/// Why a run failed.
#[derive(Debug)]
enum Failure {
    /// Exit 2.
    Usage(ConfigError),
    /// Exit 1.
    Failed(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            eprintln!("quarterdeck-server: {error}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("quarterdeck-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    // Whatever is written, databases by their engine too, is for nobody but its owner.
    umask(Mode::from_bits_truncate(0o077));
    logging::install()?;
    let Arguments { command, config, options } = arguments;
    if matches!(command, Some(Command::Limits)) {
        print_limits();
        return Ok(ExitCode::SUCCESS);
    }
    let config = config::load(options, config.as_deref(), text_environment())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    let done = runtime.block_on(dispatch(command, config)).map_err(Failure::Failed);
    // A thread that still hashes a password is not waited for.
    runtime.shutdown_background();
    done
}

async fn dispatch(command: Option<Command>, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        None => serve::run(config).await?,
        Some(Command::Migrate) => admin::migrate(config).await?,
        Some(Command::CreateUser(options)) => admin::create_user(config, options).await?,
        Some(Command::ResetPassword(options)) => admin::reset_password(config, options).await?,
        Some(Command::VerifyAudit(options)) => return audit::verify(config, options).await,
        Some(Command::ExportAudit(options)) => audit::export(config, options).await?,
        Some(Command::Backup(options)) => backup::backup(config, options).await?,
        Some(Command::Restore(options)) => backup::restore(config, options).await?,
        Some(Command::Limits) => print_limits(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Variables that are no UTF-8 are not ours.
fn text_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

fn print_limits() {
    let mut out = std::io::stdout().lock();
    for Limit { name, value, over } in limits::ALL {
        // A reader that has gone away, e.g. `head`, wants no more.
        if writeln!(out, "{name:<28} {value:>14}  {over}").is_err() {
            return;
        }
    }
}
