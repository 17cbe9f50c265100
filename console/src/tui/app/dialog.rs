//! What lies over the screen: one thing at a time, with the keyboard.

use super::{actions::Action, calls::Outgoing, field::TextField, form::Form, palette::Palette};
use quarterdeck_protocol::api::AuditEntry;

use crate::tui::{effects::RequestId, pane::layout::PaneId, store::WindowKey};

/// The one thing that lies over the screen.
#[derive(Debug, Clone)]
pub enum Overlay {
    Palette(Palette),
    /// How far help is scrolled.
    Help(usize),
    Entry(Entry),
    Menu(Menu),
    Confirm(Box<Confirm>),
    Form(Box<FormDialog>),
    Pick(Pick),
    Prompt(Prompt),
    Secret(Secret),
}

/// An audit entry as a whole.
#[derive(Debug, Clone)]
pub struct Entry {
    pub entry: Box<AuditEntry>,
    /// How far it is scrolled, in rows.
    pub top: usize,
}

/// The actions that are possible here.
#[derive(Debug, Clone)]
pub struct Menu {
    pub title: String,
    pub items: Vec<Action>,
    pub cursor: usize,
}

/// A question before something that cannot be undone. Cancel is preselected.
#[derive(Debug, Clone)]
pub struct Confirm {
    pub title: String,
    pub lines: Vec<String>,
    /// The word on the button that does it.
    pub proceed: String,
    pub danger: bool,
    /// What must be typed first.
    pub typed: Option<String>,
    pub field: TextField,
    pub on_proceed: bool,
    /// Enter was pressed on what does not match.
    pub is_wrong: bool,
    pub then: Then,
}

/// What a confirmed question does.
#[derive(Debug, Clone)]
pub enum Then {
    /// Sends it at once.
    Now(Outgoing),
    /// Sends it after a grace in which it can be called back under this title.
    Grace(String, Outgoing),
    Quit,
    /// Pastes it into the pane.
    Paste(String),
    /// Ends what runs in a pane, and takes the pane away.
    ClosePane(PaneId),
}

impl Confirm {
    /// Whether the button may be pressed.
    pub fn is_ready(&self) -> bool {
        self.typed.as_ref().is_none_or(|typed| self.field.text().trim() == typed)
    }
}

/// A form in a dialog, and what it is for.
#[derive(Debug, Clone)]
pub struct FormDialog {
    pub title: String,
    pub form: Form,
    pub purpose: FormPurpose,
    /// What the server says against it, where it names no field.
    pub error: Option<String>,
    /// Sent, and not answered yet.
    pub pending: Option<RequestId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormPurpose {
    CreateUser,
    Password { username: String },
    SetMember,
    CreateProject,
    CreateToken,
    DeviceTags { ids: Vec<String> },
    Silence { ids: Vec<String> },
    SaveView,
}

/// A list to choose from, or to tick in.
#[derive(Debug, Clone)]
pub struct Pick {
    pub title: String,
    pub items: Vec<PickItem>,
    pub cursor: usize,
    pub purpose: PickPurpose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickItem {
    pub label: String,
    pub note: String,
    pub value: String,
    /// With a tick box.
    pub ticked: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickPurpose {
    Sort(WindowKey),
    Columns(WindowKey),
    Views(WindowKey),
    /// Of all rows, or of the marked ones; the value is the format.
    Export(WindowKey),
    /// Of what was left unsent in the wizard; the value is its place among them.
    Drafts,
}

/// A line that is typed at the bottom.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub kind: PromptKind,
    pub field: TextField,
    /// What was there before, for Esc.
    pub before: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    Filter(WindowKey),
    /// Of the wizard's operations; they follow what is typed.
    Operations,
    Search,
    Jump,
    /// In the scrollback of a pane.
    PaneSearch,
    /// In a recording.
    PlayerSearch,
    /// What the pane is called.
    PaneName,
}

/// Something that is shown once.
#[derive(Debug, Clone)]
pub struct Secret {
    pub title: String,
    pub lines: Vec<String>,
    pub secret: String,
}
