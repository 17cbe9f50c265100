//! `quarterdeck commands …`

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use quarterdeck_protocol::{
    api::{CancelCommands, Command, TimelineEntry},
    command::CommandStatus,
    ids::{BatchId, CommandId, DeviceId},
    text,
    time::Timestamp,
};

use super::{
    context::Context,
    error::CliError,
    listing::{one_of, query, wanted, when},
    output::{StatusLine, note},
    rows::{self, Details},
    several::each,
    units::{Moment, moment},
};
use crate::net::{
    api::{Item, Query},
    clock, files,
};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CommandsArgs {
    #[command(subcommand)]
    command: Option<CommandsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

const EXAMPLES: &str = "Examples:
  quarterdeck commands --status failed,timed_out --from 2h   what went wrong in the last two hours
  quarterdeck commands --device pi-1 --limit 20              the last 20 of a device
  quarterdeck commands -q nginx --sort -created_at           words in type, device, notes and payload
  quarterdeck commands --batch 018f…                         all of one submission
  quarterdeck commands cancel --batch 018f…
  quarterdeck commands output 018f… -o syslog.txt";

#[derive(Debug, Subcommand)]
enum CommandsCommand {
    /// List commands (what `commands` alone does)
    Ls(ListArgs),
    /// Show a command with its payload, result and output
    Show { id: CommandId },
    /// Cancel commands, or all of a batch
    Cancel {
        #[arg(required_unless_present = "batch", conflicts_with = "batch")]
        ids: Vec<CommandId>,
        /// All that have not ended of one submission
        #[arg(long, value_name = "BATCH")]
        batch: Option<BatchId>,
    },
    /// Submit commands again, as new ones
    Retry {
        #[arg(required = true)]
        ids: Vec<CommandId>,
        /// Yes, also when it is dangerous
        #[arg(long, visible_alias = "yes", short = 'y')]
        confirm: bool,
    },
    /// Get the file that a command brought: logs or a pulled file
    Output {
        id: CommandId,
        /// Where to put it [default: stdout]
        #[arg(short = 'o', long = "out", value_name = "FILE")]
        file: Option<PathBuf>,
        /// Replace the file when there is one already
        #[arg(long, requires = "file")]
        force: bool,
    },
    /// Show what happened to a command
    Timeline { id: CommandId },
}

#[derive(Debug, Default, PartialEq, Args)]
struct ListArgs {
    /// Only these, such as queued, completed, failed, timed_out
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = one_of::<CommandStatus>(CommandStatus::ALL.map(CommandStatus::as_str)),
        hide_possible_values = true
    )]
    status: Vec<CommandStatus>,
    /// Only of this operation
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceId>,
    /// Only what this user submitted
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only of this submission
    #[arg(long, value_name = "BATCH")]
    batch: Option<BatchId>,
    /// Created at this moment or later: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Created before this moment
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Only those with these words; !word for without, ~word for its letters in order
    #[arg(short, long = "query", value_name = "TEXT")]
    q: Option<String>,
    /// Order by a field; `-` before it for descending, as in --sort=-created_at
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl ListArgs {
    fn query(&self) -> Query {
        let status: Vec<_> = self.status.iter().map(|status| status.as_str()).collect();
        query([
            ("status", (!status.is_empty()).then(|| status.join(","))),
            ("type", self.kind.clone()),
            ("device", self.device.as_ref().map(ToString::to_string)),
            ("user", self.user.clone()),
            ("batch_id", self.batch.map(|batch| batch.to_string())),
            ("from", when(self.from)),
            ("to", when(self.to)),
            ("q", self.q.clone()),
            ("sort", self.sort.clone()),
        ])
    }
}

pub async fn run(context: &mut Context, args: CommandsArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    let command = wanted(args.command, args.list, CommandsCommand::Ls)?;
    match command {
        CommandsCommand::Ls(list) => {
            printer.pages::<Command>(api.commands(list.query(), list.limit)).await?;
        }
        CommandsCommand::Show { id } => {
            let command = api.command(id).await?;
            printer.item(&command, |command| show(command, clock::now()))?;
        }
        CommandsCommand::Cancel { batch: Some(batch), .. } => {
            let cancel = CancelCommands { ids: Vec::new(), batch_id: Some(batch.to_string()) };
            let done = api.cancel_commands(&cancel).await?;
            let sentence = format!(
                "{} cancelled, {} asked to stop, {} had ended",
                done.cancelled, done.requested, done.already_finished
            );
            printer.done(&[done], &sentence)?;
        }
        CommandsCommand::Cancel { ids, batch: None } => {
            each(&ids, async |id| api.cancel_command(*id).await).await.print(printer)?;
        }
        CommandsCommand::Retry { ids, confirm } => {
            let retry =
                async |id: &CommandId| api.retry_command(*id, confirm, &clock::fresh_key()).await;
            each(&ids, retry).await.print(printer)?;
        }
        CommandsCommand::Output { id, file, force } => {
            if let Some(file) = file.as_deref().filter(|_| !force) {
                check_new(file)?;
            }
            output(context, id, file.as_deref()).await?;
        }
        CommandsCommand::Timeline { id } => {
            let entries = api.command_timeline::<Item<TimelineEntry>>(id, None).await?;
            printer.items(&entries)?;
        }
    }
    Ok(())
}

/// Refuses to write over a file. What is no file, such as a pipe, is written to.
pub(super) fn check_new(path: &Path) -> Result<(), CliError> {
    if path.is_file() {
        let text = format!("{} is there already; --force replaces it", path.display());
        return Err(CliError::Failed(text));
    }
    Ok(())
}

/// Brings a command's file. What goes to a terminal is made fit for it; a file or a pipe gets every byte as it is.
async fn output(context: &Context, id: CommandId, file: Option<&Path>) -> Result<(), CliError> {
    let mut download = context.project().command_output(id).await?;
    if let Some(path) = file {
        let mut line = StatusLine::new();
        let size =
            files::save(download, path, |done, total| line.set(|| transfer(done, total))).await;
        line.clear();
        let size = size?;
        note(&format!("{}: {size} bytes", path.display()));
        return Ok(());
    }
    let mut stdout = tokio::io::stdout();
    if !std::io::stdout().is_terminal() {
        files::copy(&mut download, &mut stdout, "stdout", |_, _| {}).await?;
        return Ok(());
    }
    let mut shown = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        if shown.len() + chunk.len() > SHOWN_MAX_BYTES {
            let name = download.file_name().unwrap_or_else(|| "FILE".to_owned());
            return Err(CliError::Failed(format!(
                "it is too long for a terminal; put it into a file: -o {name}"
            )));
        }
        shown.extend_from_slice(&chunk);
    }
    use tokio::io::AsyncWriteExt as _;
    stdout.write_all(text::block(&String::from_utf8_lossy(&shown)).as_bytes()).await?;
    stdout.flush().await?;
    Ok(())
}

/// Says how far a transfer is.
pub fn transfer(done: u64, total: Option<u64>) -> String {
    match total.filter(|total| *total > 0) {
        Some(total) => format!("{done} of {total} bytes, {} %", done.saturating_mul(100) / total),
        None => format!("{done} bytes"),
    }
}

/// The longest file that is shown on a terminal, in bytes.
const SHOWN_MAX_BYTES: usize = 16 * 1024 * 1024;

fn show(command: &Command, now: Timestamp) -> String {
    let when = |at: Option<Timestamp>| at.map(|at| moment(at, now));
    Details::default()
        .field("id", command.id.to_string())
        .field("device", &command.device_id)
        .field("type", &command.kind)
        .field("status", rows::status(command))
        .maybe("step", command.step.as_ref())
        .maybe("workflow state", command.state.as_ref())
        .maybe("error", rows::error(command))
        .maybe("exit code", command.exit_code.map(|code| code.to_string()))
        .maybe("took", rows::took(command))
        .field("by", &command.created_by)
        .maybe("notes", Some(&command.notes).filter(|notes| !notes.is_empty()))
        .field("batch", command.batch_id.to_string())
        .field("attempt", command.attempt.to_string())
        .maybe("retry of", command.retry_of.map(|id| id.to_string()))
        .field("priority", command.priority.to_string())
        .field("time-out", format!("{} s", command.timeout_s))
        .field("created", moment(command.created_at, now))
        .maybe("published", when(command.published_at))
        .maybe("accepted", when(command.accepted_at))
        .maybe("started", when(command.started_at))
        .maybe("finished", when(command.finished_at))
        .maybe("cancel requested", when(command.cancel_requested_at))
        .maybe("expires", when(Some(command.expires_at).filter(|_| !command.status.is_terminal())))
        .maybe("blocked until", when(command.blocked_until))
        .json("payload", Some(&command.payload))
        .json("result", command.result.as_ref())
        .block("stdout", command.stdout.as_deref().unwrap_or_default())
        .block("stderr", command.stderr.as_deref().unwrap_or_default())
        .finish()
}
