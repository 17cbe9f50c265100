//! `quarterdeck recordings`: sessions as they were seen: listed, played, taken
//! along, checked. The server writes down who looked.

mod cast;
mod check;
mod player;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use quarterdeck_protocol::{
    api::{Recording, RecordingCheck, RecordingStatus, RecordingUse},
    ids::ProjectId,
    time::Timestamp,
};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::{
    commands::{check_new, transfer},
    context::Context,
    error::CliError,
    input,
    listing::{query, wanted, when},
    output::{Printer, StatusLine, note},
    rows::{Details, Row},
    several::each,
    table::{Cell, Tone},
    units::{Moment, age, moment, short_span},
};
use crate::net::{
    Client,
    api::{Query, RecordingFile},
    clock,
    error::ApiError,
    files,
};

use self::{
    cast::Reader,
    check::{Beginning, Checker, Found, Origin},
    player::Pace,
};

#[derive(Debug, Args)]
pub struct RecordingsArgs {
    #[command(subcommand)]
    command: Option<RecordingsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum RecordingsCommand {
    /// List recordings (what `recordings` alone does)
    Ls(ListArgs),
    /// Show what is known of one, and nothing of what was seen
    Show {
        #[arg(value_name = "RECORDING")]
        id: String,
    },
    /// Play one as it was seen: space pauses, . steps, + and - change the speed, q leaves
    Play(PlayArgs),
    /// Save one as an asciicast file or as the bytes that were shown
    Export(ExportArgs),
    /// Check one at the server against what was written, or an exported asciicast file
    Verify {
        /// An id, or an exported file
        #[arg(value_name = "RECORDING|FILE")]
        what: String,
        /// Look at the file alone, and do not ask the server whether it recorded the same
        #[arg(long)]
        offline: bool,
    },
    /// Delete recordings for good, as an admin
    Delete {
        #[arg(value_name = "RECORDING", required = true)]
        ids: Vec<String>,
        /// Do not ask; needed where there is no terminal to ask on
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

#[derive(Debug, Default, PartialEq, Args)]
struct ListArgs {
    /// Only these: recording, complete, incomplete
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only of this user's sessions
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Begun since: a time, or how long ago
    #[arg(long, value_name = "WHEN")]
    from: Option<Moment>,
    /// Begun until
    #[arg(long, value_name = "WHEN")]
    to: Option<Moment>,
    /// Order by a field; `-` before it for descending
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
struct PlayArgs {
    /// An id, or an exported asciicast file
    #[arg(value_name = "RECORDING|FILE")]
    what: String,
    /// How fast: 2 is twice as fast
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: f64,
    /// No pause is longer than this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_limit: Option<f64>,
    /// Begin so many seconds in; what was shown before is shown at once
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true, value_parser = seconds)]
    start: f64,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[arg(value_name = "RECORDING")]
    id: String,
    /// What to save
    #[arg(long, value_enum, default_value = "cast")]
    format: ExportFormat,
    /// Where to; `-` is stdout [default: the server's name for it]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file when there is one already
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// asciicast v2, for the usual players
    Cast,
    /// The output, byte for byte
    Raw,
}

fn speed(text: &str) -> Result<f64, String> {
    let is_good = |speed: &f64| (player::SPEED_MIN..=player::SPEED_MAX).contains(speed);
    text.parse().ok().filter(is_good).ok_or_else(|| {
        format!("expected a number from {} to {}", player::SPEED_MIN, player::SPEED_MAX)
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let is_good = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
    text.parse().ok().filter(is_good).ok_or_else(|| "expected seconds, such as 2.5".to_owned())
}

impl ListArgs {
    fn query(&self) -> Query {
        query([
            ("status", self.status.clone()),
            ("device", self.device.clone()),
            ("user", self.user.clone()),
            ("from", when(self.from)),
            ("to", when(self.to)),
            ("sort", self.sort.clone()),
        ])
    }
}

pub async fn run(context: &mut Context, args: RecordingsArgs) -> Result<(), CliError> {
    let command = wanted(args.command, args.list, RecordingsCommand::Ls)?;
    match command {
        RecordingsCommand::Ls(list) => {
            let Context { client, project, printer, .. } = context;
            let pages = client.project(project).recordings(list.query(), list.limit);
            printer.pages::<Recording>(pages).await?;
            Ok(())
        }
        RecordingsCommand::Show { id } => {
            let recording = context.project().recording(&id).await?;
            context.printer.item(&recording, details)
        }
        RecordingsCommand::Play(args) => play(context, args).await,
        RecordingsCommand::Export(args) => export(context, args).await,
        RecordingsCommand::Verify { what, offline } => verify(context, &what, offline).await,
        RecordingsCommand::Delete { ids, yes } => delete(context, &ids, yes).await,
    }
}

/// Whether a word names a file of this machine: ids have neither slashes nor dots.
fn is_file(what: &str) -> bool {
    what.contains(['/', '.'])
}

async fn play(context: &Context, args: PlayArgs) -> Result<(), CliError> {
    let pace = Pace::new(args.speed, args.idle_limit, args.start);
    let mut reader = Reader::default();
    if is_file(&args.what) {
        let mut file = open(Path::new(&args.what)).await?;
        let next = async |buffer: &mut Vec<u8>| -> Result<bool, CliError> {
            buffer.resize(64 * 1024, 0);
            let length = file.read(buffer).await?;
            buffer.truncate(length);
            Ok(length > 0)
        };
        return player::play(&mut reader, next, pace).await;
    }
    let file = RecordingFile::Cast(RecordingUse::View);
    let mut download = context.project().recording_file(&args.what, file).await?;
    let next = async |buffer: &mut Vec<u8>| -> Result<bool, CliError> {
        match download.chunk().await {
            Ok(Some(chunk)) => {
                buffer.clear();
                buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(broken_off(context, &args.what, error).await),
        }
    };
    player::play(&mut reader, next, pace).await
}

/// Why a recording's download broke off: its server cannot say so within it, but is asked.
async fn broken_off(context: &Context, id: &str, error: ApiError) -> CliError {
    if !matches!(error, ApiError::Unreachable { .. }) {
        return error.into();
    }
    let check = context.project().check_recording(id).await.ok();
    match check.and_then(|check| check.problem.clone()) {
        Some(problem) => CliError::Failed(format!("the recording is damaged: {problem}")),
        None => error.into(),
    }
}

async fn open(path: &Path) -> Result<File, CliError> {
    File::open(path).await.map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))
}

async fn export(context: &Context, args: ExportArgs) -> Result<(), CliError> {
    let (file, ending) = match args.format {
        ExportFormat::Cast => (RecordingFile::Cast(RecordingUse::Export), "cast"),
        ExportFormat::Raw => (RecordingFile::Bytes, "bin"),
    };
    let is_stdout = args.out.as_deref() == Some(Path::new("-"));
    if is_stdout && std::io::stdout().is_terminal() {
        let why = "what a device wrote is not put on a terminal as it is; play it, or put it into a file: -o FILE";
        return Err(CliError::Usage(why.to_owned()));
    }
    let proposed = || PathBuf::from(format!("{}.{ending}", args.id));
    let path = args.out.clone().unwrap_or_else(proposed);
    if !is_stdout && !args.force {
        check_new(&path)?;
    }
    let mut download = context.project().recording_file(&args.id, file).await?;
    if is_stdout {
        let mut stdout = tokio::io::stdout();
        return match files::copy(&mut download, &mut stdout, "stdout", |_, _| {}).await {
            Ok(_) => Ok(()),
            Err(error) => Err(broken_off(context, &args.id, error).await),
        };
    }
    let mut line = StatusLine::new();
    let saved =
        files::save(download, &path, |done, total| line.set(|| transfer(done, total))).await;
    line.clear();
    let size = match saved {
        Ok(size) => size,
        Err(error) => {
            let verify = context.line(&format!("recordings verify {}", args.id));
            note(&format!("nothing is saved; `{verify}` says whether something of it is missing"));
            return Err(broken_off(context, &args.id, error).await);
        }
    };
    note(&format!("{}: {size} bytes", path.display()));
    Ok(())
}

async fn verify(context: &mut Context, what: &str, is_offline: bool) -> Result<(), CliError> {
    if is_file(what) {
        let found = check_file(&mut open(Path::new(what)).await?).await?;
        let compared = match (&found.problem, &found.origin) {
            _ if is_offline => Compared::Not { why: "it was not to be".to_owned() },
            (Some(_), _) => Compared::Not { why: "it is not whole".to_owned() },
            (None, None) => {
                Compared::Not { why: "it does not say which recording it is of".to_owned() }
            }
            (None, Some(origin)) => compare(&context.client, &found, origin).await,
        };
        return say_checked(&mut context.printer, what, &found, &compared);
    }
    let Context { client, project, printer, .. } = context;
    let check = client.project(project).check_recording(what).await?;
    printer.item(&check, check_details)?;
    if check.is_whole { Ok(()) } else { Err(CliError::Said) }
}

async fn delete(context: &mut Context, ids: &[String], is_sure: bool) -> Result<(), CliError> {
    let (what, expected) = match ids {
        [id] => (format!("recording {id}"), id.clone()),
        ids => (format!("{} recordings", ids.len()), ids.len().to_string()),
    };
    if !is_sure {
        input::confirm(&format!("{what} will be gone for good"), &expected)?;
    }
    let Context { client, project, printer, .. } = context;
    let in_project = client.project(project);
    let delete = async |id: &String| in_project.delete_recording(id).await.map(|()| id.clone());
    let several = each(ids, delete).await;
    if printer.is_json() || !several.done.is_empty() {
        printer.done::<Recording>(&[], &format!("deleted {}", several.done.join(" ")))?;
    }
    several.end()
}

/// What a comparison with the server's own recording brought.
#[derive(Debug)]
enum Compared {
    Same,
    Differs,
    Not { why: String },
}

/// What is known of an exported file.
#[derive(Debug, serde::Serialize)]
struct Checked<'a> {
    is_whole: bool,
    /// It is what the server has; `null` when it was not compared.
    is_as_recorded: Option<bool>,
    events: u64,
    seconds: f64,
    sha256: &'a str,
    problem: Option<&'a str>,
    not_compared: Option<&'a str>,
}

async fn check_file(file: &mut File) -> Result<Found, CliError> {
    let mut checker = Checker::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer).await?;
        if length == 0 {
            return Ok(checker.end());
        }
        checker.feed(&buffer[..length]);
    }
}

/// Compares a file with what the server exports now of the recording that it names. The server
/// writes down that it was asked.
async fn compare(client: &Client, found: &Found, origin: &Origin) -> Compared {
    let not = |why: String| Compared::Not { why };
    let project: ProjectId = match origin.project.parse() {
        Ok(project) => project,
        Err(error) => return not(format!("{error}")),
    };
    let mut beginning = Beginning::default();
    let in_project = client.project(&project);
    let file = RecordingFile::Cast(RecordingUse::Verify);
    let mut download = match in_project.recording_file(&origin.recording, file).await {
        Ok(download) => download,
        Err(error) => return not(error.to_string()),
    };
    loop {
        match download.chunk().await {
            Ok(Some(chunk)) => beginning.feed(&chunk, found.sealed_bytes),
            Ok(None) => break,
            Err(error) => return not(error.to_string()),
        }
    }
    match beginning.sha256() == found.sha256 {
        true => Compared::Same,
        // The last character may have been cut in two then.
        false if !found.is_final => not("it was exported before its session had ended".to_owned()),
        false => Compared::Differs,
    }
}

fn say_checked(
    printer: &mut Printer,
    what: &str,
    found: &Found,
    compared: &Compared,
) -> Result<(), CliError> {
    let (is_as_recorded, not_compared) = match compared {
        Compared::Same => (Some(true), None),
        Compared::Differs => (Some(false), None),
        Compared::Not { why } => (None, Some(why.as_str())),
    };
    let altered = "the server recorded something else: it was altered, end mark and all";
    let problem = found.problem.as_deref().or((is_as_recorded == Some(false)).then_some(altered));
    let checked = Checked {
        is_whole: problem.is_none(),
        is_as_recorded,
        events: found.events,
        seconds: found.seconds,
        sha256: &found.sha256,
        problem,
        not_compared,
    };
    if printer.is_json() {
        let raw = serde_json::value::to_raw_value(&checked).expect("plain data");
        printer.json(&[&raw])?;
    } else {
        let as_recorded = match compared {
            Compared::Same => "yes".to_owned(),
            Compared::Differs => "NO".to_owned(),
            Compared::Not { why } => format!("not compared: {why}"),
        };
        let details = Details::default()
            .field("file", what)
            .field("whole", if checked.is_whole { "yes" } else { "NO" })
            .field("as recorded", &as_recorded)
            .field("events", checked.events.to_string())
            .field("length", format!("{:.1} s", checked.seconds))
            .maybe("problem", checked.problem.map(str::to_owned).as_ref());
        printer.text(&details.finish())?;
    }
    if checked.is_whole { Ok(()) } else { Err(CliError::Said) }
}

fn check_details(check: &RecordingCheck) -> String {
    Details::default()
        .field("whole", if check.is_whole { "yes" } else { "NO" })
        .field("chunks", check.chunks.to_string())
        .field("output", format!("{} bytes", check.bytes))
        .field("sha256", &check.sha256)
        .maybe("problem", check.problem.as_ref())
        .finish()
}

impl Row for Recording {
    const TITLES: &'static [&'static str] =
        &["ID", "DEVICE", "USER", "STATUS", "BEGAN", "TOOK", "BYTES", "COMMAND"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let tone = match self.status {
            RecordingStatus::Recording => Tone::Plain,
            RecordingStatus::Complete => Tone::Good,
            RecordingStatus::Incomplete => Tone::Bad,
        };
        vec![
            Cell::new(&self.id),
            Cell::new(&self.device_id),
            Cell::new(&self.user),
            Cell::new(self.status.as_str()).tone(tone),
            Cell::new(age(self.started_at, now)),
            Cell::maybe(took(self)),
            Cell::new(self.bytes.to_string()),
            Cell::new(program(self)),
        ]
    }
}

/// How long its session was.
fn took(recording: &Recording) -> Option<String> {
    Some(short_span(recording.ended_at?.millis_since(recording.started_at)))
}

/// What ran in it.
fn program(recording: &Recording) -> String {
    match recording.argv.as_slice() {
        [] => "login shell".to_owned(),
        argv => shell_words::join(argv),
    }
}

fn details(recording: &Recording) -> String {
    let now = clock::now();
    let when = |at: Option<Timestamp>| at.map(|at| moment(at, now));
    Details::default()
        .field("id", &recording.id)
        .field("tunnel", recording.tunnel_id.to_string())
        .field("device", &recording.device_id)
        .field("by", &recording.user)
        .field("program", program(recording))
        .field("status", recording.status.as_str())
        .field("output", format!("{} bytes", recording.bytes))
        .field("typed keys", if recording.has_input { "recorded" } else { "not recorded" })
        .field("began", moment(recording.started_at, now))
        .maybe("ended", when(recording.ended_at))
        .maybe("took", took(recording))
        .maybe("kept until", when(recording.expires_at))
        .finish()
}
