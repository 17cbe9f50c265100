//! The seam between the TUI and the network.
//!
//! The TUI does no IO of its own beyond the terminal. What it wants leaves as
//! [`Effect`]s; what the network has to say comes back as [`NetEvent`]s
//! through the [`mailbox`](super::mailbox). The contract in full is in the
//! module documentation of [`tui`](super).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use quarterdeck_protocol::{
    api::{
        CancelCommands, CancelledCommands, ChangeDevice, ChangeUser, Command, CreateCommands,
        CreateEnrollmentToken, CreateProject, CreateUser, CreatedCommands, DeviceHealth,
        EnrollmentToken, Problem, ProjectSettings, RecordingEvent, Role,
    },
    ids::{CommandId, DeviceId, ProjectId, TunnelId},
    live::{ClientMessage, Listing, Row, ServerMessage},
};

use super::tunnels::{TunnelEvent, TunnelRequest};

/// What `update` asks of the world.
#[derive(Debug, Clone)]
pub enum Effect {
    /// For the network.
    Net(NetRequest),
    /// To the operator's clipboard, by OSC 52.
    CopyToClipboard(String),
    /// A file of the operator's. `name` has no folder.
    WriteFile { name: String, content: String },
    /// A file of the operator's that grows; one at a time.
    Export(ExportStep),
    /// Saved views and the like, kept between runs.
    SaveState(String),
    /// Rings the bell and shows a desktop notification, where the terminal can.
    Notify(String),
    /// Ends the program.
    Quit,
}

/// How a file of rows comes to be: it has its name only once it is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportStep {
    /// `name` has no folder.
    Begin {
        name: String,
    },
    Rows(String),
    /// `what` is in it, for the message that says where it is.
    End {
        what: String,
    },
    /// Nothing of it stays.
    Drop,
}

/// What the TUI asks of the network.
#[derive(Debug, Clone)]
pub enum NetRequest {
    /// Sent on the live WebSocket as it is; dropped while there is no connection.
    Live(ClientMessage),
    /// One HTTP request; answered exactly once, by [`NetEvent::Answer`] with the same id.
    Call { id: RequestId, call: ApiRequest },
    /// Tries to connect now instead of when the pause is over; nothing while there is a connection.
    Reconnect,
    /// Goes on with another project of the same server: a new connection, so a new `hello`.
    OpenProject(ProjectId),
    /// Of a pane; see [`tunnels`](super::tunnels).
    Tunnel(TunnelRequest),
}

/// Tells the calls of one run of the TUI apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An HTTP request, in the project that is open.
#[derive(Debug, Clone)]
pub enum ApiRequest {
    /// Answered by [`ApiAnswer::Created`].
    CreateCommands(CreateCommands),
    /// Answered by [`ApiAnswer::Cancelled`].
    CancelCommands(CancelCommands),
    /// Answered by [`ApiAnswer::Command`].
    RetryCommand {
        id: CommandId,
        /// The operator has confirmed that a dangerous one goes again.
        confirm: bool,
    },
    /// A page of a listing beside its live window, with whole rows; answered by [`ApiAnswer::Page`].
    ListPage {
        listing: Listing,
        filter: BTreeMap<String, String>,
        sort: Option<String>,
        cursor: Option<String>,
    },
    AcknowledgeAlert {
        id: String,
    },
    SilenceAlert {
        id: String,
        duration_s: u64,
    },
    ChangeDevice {
        id: DeviceId,
        change: ChangeDevice,
    },
    RetireDevice(DeviceId),
    ClearServiceFailed(DeviceId),
    /// Answered by [`ApiAnswer::Health`].
    DeviceHealth(DeviceId),
    /// Answered by [`ApiAnswer::Settings`].
    ProjectSettings,
    /// What a command brought (`…/commands/{id}/output`), into a file; answered by [`ApiAnswer::Saved`].
    SaveOutput {
        id: CommandId,
        path: PathBuf,
    },
    CreateUser(CreateUser),
    ChangeUser {
        username: String,
        change: ChangeUser,
    },
    SetMember {
        username: String,
        role: Role,
    },
    RemoveMember {
        username: String,
    },
    CreateProject(CreateProject),
    /// Answered by [`ApiAnswer::Token`], the only one that carries the token itself.
    CreateEnrollmentToken(CreateEnrollmentToken),
    RevokeEnrollmentToken {
        id: String,
    },
    /// Ends a tunnel: an own one, or as an admin anybody's.
    CloseTunnel(TunnelId),
    /// A page of what was recorded; answered by [`ApiAnswer::Events`].
    RecordingEvents {
        id: String,
        cursor: Option<String>,
    },
    /// Gone for good, as an admin.
    DeleteRecording {
        id: String,
    },
    /// A recording as an asciicast file; answered by [`ApiAnswer::Saved`].
    SaveRecording {
        id: String,
        path: PathBuf,
    },
}

/// The body of a successful answer, where the TUI has a use for it.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiAnswer {
    /// Done; of the body nothing is shown.
    Done,
    Created(CreatedCommands),
    Cancelled(CancelledCommands),
    Command(Box<Command>),
    Health(Box<DeviceHealth>),
    Settings(ProjectSettings),
    Token(EnrollmentToken),
    Saved {
        path: PathBuf,
        size_bytes: u64,
    },
    Page(ListPage),
    Events(EventsPage),
}

/// What was recorded, in order, and where it goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsPage {
    pub events: Vec<RecordingEvent>,
    pub next_cursor: Option<String>,
}

/// Rows of a listing, with the keys that they have in its windows.
#[derive(Debug, Clone, PartialEq)]
pub struct ListPage {
    pub rows: Vec<Row>,
    pub next_cursor: Option<String>,
    pub total: u64,
}

/// What the network tells the TUI.
#[derive(Debug, Clone, PartialEq)]
pub enum NetEvent {
    /// A message of the live WebSocket, every one of them. `hello` means that a (new)
    /// connection stands: the TUI then subscribes to all it shows, so the network keeps no list.
    Live(ServerMessage),
    /// The connection is gone, or could not be made; the network tries again by itself.
    Lost {
        why: String,
        /// How long it waits before it does.
        again_in: Duration,
    },
    /// The server no longer knows this login.
    SignedOut {
        why: String,
        /// A new login of the same profile is taken up by itself; else nothing is tried again.
        waits_for_login: bool,
    },
    Answer {
        id: RequestId,
        result: Result<ApiAnswer, Problem>,
    },
    /// Of a pane; its output goes another way, see [`tunnels`](super::tunnels).
    Tunnel(TunnelEvent),
}
