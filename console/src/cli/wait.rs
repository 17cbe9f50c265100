//! Waiting for the commands of a submission: `run --wait`.
//!
//! It asks again and again, with a pause that grows from a tenth of a second
//! to a second or, for large batches, more; a server that is away for a while
//! is waited for. Each command that ends is a line on stderr.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use quarterdeck_protocol::{
    api::Command,
    command::CommandStatus,
    ids::{BatchId, CommandId},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{
    context::Context,
    error::CliError,
    output::{StatusLine, note},
    rows,
};
use crate::net::{ApiError, api::Item};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A batch is asked for at most so often that it costs one page of this size a pause.
const COMMANDS_PER_PAUSE: usize = 1_000;
/// How many commands are read side by side in the end.
const READS_MAX: usize = 8;

/// How a wait ended.
#[derive(Debug)]
pub struct Waited {
    /// All commands of the batches, whole.
    pub commands: Vec<Item<Command>>,
    /// Whether every one is `completed`.
    pub is_complete: bool,
}

/// Waits until all commands of the batches have ended, at most `limit`.
pub async fn for_batches(
    context: &Context,
    batches: &[BatchId],
    limit: Option<Duration>,
) -> Result<Waited, CliError> {
    let line = |batch| context.line(&format!("commands --batch {batch}"));
    let names: Vec<_> = batches.iter().map(line).collect();
    let names = names.join("; ");
    let mut progress = Progress::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let waiting = poll(context, batches, &mut progress);
    let ended = tokio::select! {
        ended = async {
            match limit {
                Some(limit) => tokio::time::timeout(limit, waiting).await.ok(),
                None => Some(waiting.await),
            }
        } => ended,
        _ = interrupt.recv() => {
            progress.line.clear();
            note(&format!("the commands go on; see: {names}"));
            return Err(CliError::Interrupted);
        }
    };
    progress.line.clear();
    let ids = if let Some(ids) = ended {
        ids?
    } else {
        note(&format!("not all have ended in time, and they go on; see: {names}"));
        progress.ids.iter().copied().collect()
    };
    let project = context.project();
    let commands: Vec<Item<Command>> = futures_util::stream::iter(ids)
        .map(|id| project.command(id))
        .buffered(READS_MAX)
        .try_collect()
        .await?;
    let is_complete = !commands.is_empty()
        && commands.iter().all(|command| command.status == CommandStatus::Completed);
    Ok(Waited { commands, is_complete })
}

async fn poll(
    context: &Context,
    batches: &[BatchId],
    progress: &mut Progress,
) -> Result<Vec<CommandId>, CliError> {
    let mut pause = PAUSE_FIRST;
    let mut is_away = false;
    loop {
        match commands_of(context, batches).await {
            Ok(commands) => {
                if std::mem::take(&mut is_away) {
                    progress.say("the server is back");
                }
                progress.show(&commands);
                if !commands.is_empty() && commands.iter().all(|c| c.status.is_terminal()) {
                    return Ok(commands.iter().map(|command| command.id).collect());
                }
                let pages = u32::try_from(commands.len() / COMMANDS_PER_PAUSE).unwrap_or(1) + 1;
                tokio::time::sleep(pause * pages).await;
            }
            Err(error) if is_passing(&error) => {
                if !is_away {
                    progress.say(&format!("{error}; waiting for it"));
                }
                is_away = true;
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

async fn commands_of(context: &Context, batches: &[BatchId]) -> Result<Vec<Command>, ApiError> {
    let mut commands = Vec::new();
    for batch in batches {
        let query = vec![
            ("batch_id".to_owned(), batch.to_string()),
            ("sort".to_owned(), "created_at".to_owned()),
        ];
        commands.extend(context.project().commands(query, None).all::<Command>().await?);
    }
    Ok(commands)
}

/// Whether an error may be gone in a while: no answer, or a server that is not well.
fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } => true,
        ApiError::Refused(problem) => problem.status >= 500 || problem.status == 429,
        // A proxy in front of a server that restarts answers in its own words.
        ApiError::Unexpected { reason, .. } => reason.starts_with("status 50"),
        _ => false,
    }
}

/// What the operator sees meanwhile, on stderr.
struct Progress {
    started: Instant,
    line: StatusLine,
    ended: BTreeSet<CommandId>,
    ids: BTreeSet<CommandId>,
}

impl Progress {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            line: StatusLine::new(),
            ended: BTreeSet::new(),
            ids: BTreeSet::new(),
        }
    }

    fn show(&mut self, commands: &[Command]) {
        for command in commands {
            self.ids.insert(command.id);
            if command.status.is_terminal() && self.ended.insert(command.id) {
                self.say(&ended_line(command));
            }
        }
        let elapsed = self.started.elapsed();
        self.line.set(|| status_line(commands, elapsed));
    }

    fn say(&mut self, said: &str) {
        self.line.clear();
        note(said);
    }
}

fn ended_line(command: &Command) -> String {
    let mut line = format!("{}: {}", command.device_id, command.status);
    if let Some(took) = rows::took(command) {
        let _ = write!(line, " in {took}");
    }
    if let Some(error) = rows::error(command) {
        let _ = write!(line, ", {error}");
    }
    line
}

fn status_line(commands: &[Command], elapsed: Duration) -> String {
    let mut counts: BTreeMap<CommandStatus, usize> = BTreeMap::new();
    for command in commands {
        *counts.entry(command.status).or_default() += 1;
    }
    let ended = commands.iter().filter(|command| command.status.is_terminal()).count();
    let counts: Vec<_> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let mut line = format!(
        "{ended} of {} ended  {}s  {}",
        commands.len(),
        elapsed.as_secs(),
        counts.join(", ")
    );
    if let [command] = commands
        && let Some(step) = &command.step
    {
        let _ = write!(
            line,
            "  {step} {}",
            command.progress.map_or(String::new(), |p| format!("{p}%"))
        );
    }
    line
}
