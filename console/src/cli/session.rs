//! What `shell`, `exec`, `proxy` and `forward` have in common: the words that say
//! what to open, the way to it, and how its end is told.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use quarterdeck_protocol::{
    api::{CreateTunnel, CreatedTunnel, Device, TunnelKind},
    device::DeviceStatus,
    ids::DeviceId,
    time::Timestamp,
    tunnel::{close::CloseCode, mark::Size},
};

use tokio::time::{sleep, timeout};

use super::{context::Context, error::CliError, output::note, units};
use crate::net::{
    ApiError,
    api::Item,
    clock,
    tunnel::{self, Attach, Attachment, Ended, Event, State},
};

/// The exit code when a program on a device could not be reached or its end is not known (chapter 1).
pub const TRANSPORT_FAILED: u8 = 255;
/// The exit code when the device could not start the program, as shells have it.
const LAUNCH_FAILED: u8 = 127;
/// The exit code when nobody reads what a program writes: as if SIGPIPE had ended it.
pub const UNREAD: u8 = 128 + 13;

/// A device that did not answer within this time is asked after.
const QUIET: Duration = Duration::from_millis(500);
/// How long the end of a tunnel may take that is given up before it is open.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a program on a device is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ProgramArgs {
    /// A variable of the program's environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Run as this user, if the device's owner allows it
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

/// What of a terminal is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct RecordArgs {
    /// Record the session, also where the project does not
    #[arg(long)]
    pub record: bool,
    /// Record also what is typed, passwords too
    #[arg(long, requires = "record")]
    pub record_input: bool,
}

impl RecordArgs {
    /// Asks for it.
    pub fn ask(self, request: CreateTunnel) -> CreateTunnel {
        let Self { record, record_input } = self;
        CreateTunnel { record: record.then_some(true), record_input, ..request }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl ProgramArgs {
    /// A request for a tunnel in which a program runs.
    pub fn request(&self, device: &str, kind: TunnelKind) -> Result<CreateTunnel, CliError> {
        let env: BTreeMap<_, _> = self.env.iter().cloned().collect();
        Ok(CreateTunnel { env, run_as: self.user.clone(), ..request(device, kind)? })
    }
}

/// A request that says nothing but the device and the kind.
pub fn request(device: &str, kind: TunnelKind) -> Result<CreateTunnel, CliError> {
    let device_id: DeviceId =
        device.parse().map_err(|e| CliError::Usage(format!("DEVICE: {e}")))?;
    Ok(CreateTunnel {
        device_id,
        kind,
        argv: Vec::new(),
        cols: None,
        rows: None,
        term: None,
        env: BTreeMap::new(),
        run_as: None,
        host: None,
        port: None,
        reverse: false,
        record: None,
        record_input: false,
    })
}

/// Opens a tunnel, attaches as its owner, and waits until the device has it.
pub async fn open(
    context: &Context,
    request: &CreateTunnel,
    size: Option<Size>,
) -> Result<(Item<CreatedTunnel>, Attachment), Failed> {
    let created = tunnel::create(&context.client, &context.project, request).await?;
    let attach = Attach::created(&created, size);
    let attachment = Attachment::start(&context.client, &context.project, attach);
    tokio::select! {
        attached = attachment.attached() => attached?,
        _ = tokio::signal::ctrl_c() => {
            // Nobody waits for it any more: it is not to count against the limits.
            attachment.close();
            let ended = timeout(FAREWELL, attachment.ended()).await;
            return Err(Failed::Ended(ended.unwrap_or(Ended::Detached)));
        }
        () = explain_silence(context, &request.device_id) => {}
    }
    Ok((created, attachment))
}

/// Says whom one waits for, when it takes long. Never ends.
async fn explain_silence(context: &Context, device: &DeviceId) {
    sleep(QUIET).await;
    if let Ok(device) = context.project().device(device).await
        && let Some(why) = absence(&device.value, clock::now())
    {
        note(&format!("quarterdeck: {why}; waiting for it, ^C gives up"));
    }
    std::future::pending::<()>().await;
}

/// Why a device does not answer, when it is known.
fn absence(device: &Device, now: Timestamp) -> Option<String> {
    let state = match (device.status, device.unheard_since) {
        (DeviceStatus::Online, None) => return None,
        (status, None) => format!("is {}", status.as_str()),
        (_, Some(_)) => "has not come back to the server yet".to_owned(),
    };
    let last = device.last_seen_at.map_or_else(
        || "never heard of".to_owned(),
        |at| format!("last heard of {} ago", units::age(at, now)),
    );
    Some(format!("{} {state}, {last}", device.id))
}

/// Why a session did not come to its own end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl Failed {
    /// Says it on stderr; what is left is the exit code of what runs a program.
    pub fn say_for_program(&self) -> CliError {
        note(&format!("quarterdeck: {self}"));
        match self {
            Self::Ended(Ended::Closed(closed)) if closed.code == CloseCode::LaunchFailed => {
                CliError::Exit(LAUNCH_FAILED)
            }
            _ => CliError::Exit(TRANSPORT_FAILED),
        }
    }
}

impl From<Failed> for CliError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Api(error) => Self::Api(error),
            Failed::Ended(ended) => Self::Failed(ended.to_string()),
        }
    }
}

/// Says on stderr how the way to the device changes, until the end. Run beside what moves bytes.
pub async fn watch(attachment: &Attachment, is_wanted: bool) -> Ended {
    let (mut was_away, mut was_idle) = (false, false);
    loop {
        match attachment.next().await {
            Event::Status => {
                let status = attachment.status();
                let is_away = matches!(status.state, State::Lost);
                if is_wanted && is_away != was_away {
                    match (is_away, status.why) {
                        (true, Some(why)) => {
                            note(&format!("quarterdeck: connection lost ({why}); going on"));
                        }
                        (true, None) => note("quarterdeck: the device is away; going on"),
                        (false, _) => note("quarterdeck: connected again"),
                    }
                }
                was_away = is_away;
                let is_idle = status.idle_warning_s.is_some();
                if let Some(seconds) = status.idle_warning_s
                    && is_wanted
                    && !was_idle
                {
                    note(&format!("quarterdeck: idle; it ends in {seconds} s if nothing passes"));
                }
                was_idle = is_idle;
            }
            Event::Piece(_) => {}
            Event::Ended(ended) => return ended,
        }
    }
}
