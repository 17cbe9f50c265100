//! The one table of actions (chapter 8).
//!
//! Dispatch, the footer, `?` help, the `:` palette, the `a` menu, read-only
//! gating and the documentation all come from [`ACTIONS`]. An action that is
//! not in it cannot be done; one that is in it can be found. It stands in [`table`].

use quarterdeck_protocol::api::Role;

use crate::tui::{
    pane::{
        copy::Take,
        layout::{Direction, Split},
    },
    tunnels::Record,
};

mod table;

pub use table::ACTIONS;

/// Where a key means something; the innermost that binds a key has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// Everywhere.
    Global,
    /// In any table.
    List,
    /// In text that scrolls: logs, JSON, help.
    Viewer,
    Overview,
    Devices,
    Device,
    Commands,
    Command,
    Alerts,
    Audit,
    Users,
    Wizard,
    Tunnels,
    Recordings,
    Player,
    /// While a pane has the keyboard.
    Pane,
    /// The key after the prefix key.
    Prefix,
    /// In the scrollback of a pane.
    Scroll,
}

impl Context {
    pub const fn title(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::List => "In tables",
            Self::Viewer => "In logs and JSON",
            Self::Overview => "Overview",
            Self::Devices => "Devices",
            Self::Device => "Device",
            Self::Commands => "Commands",
            Self::Command => "Command",
            Self::Alerts => "Alerts",
            Self::Audit => "Audit",
            Self::Users => "Users",
            Self::Wizard => "New command",
            Self::Tunnels => "Tunnels",
            Self::Recordings => "Recordings",
            Self::Player => "A recording",
            Self::Pane => "In a pane",
            Self::Prefix => "In a pane, after the prefix key",
            Self::Scroll => "In the scrollback of a pane",
        }
    }
}

/// Who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anyone: it changes nothing on the server.
    Nothing,
    Role(Role),
    /// Server admins, who manage users and projects.
    ServerAdmin,
}

/// What an operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    HalfUp,
    HalfDown,
    First,
    Last,
    Open,
    Back,
    HistoryBack,
    HistoryForward,
    FocusNext,
    FocusPrevious,
    Palette,
    Filter,
    ClearFilter,
    Jump,
    Sort,
    Columns,
    Views,
    Mark,
    MarkRange,
    Unmark,
    Copy,
    Export,
    ScreenDump,
    Search,
    NextMatch,
    PreviousMatch,
    Menu,
    New,
    Undo,
    Help,
    Freeze,
    Wall,
    Redraw,
    Reconnect,
    Quit,
    Screen(u8),
    AlertsScreen,
    Handover,
    DeviceCommands,
    DeviceTags,
    DeviceClearFailed,
    DeviceRetire,
    CommandCancel,
    CommandRetry,
    CommandDevice,
    CommandBatch,
    CommandCli,
    CommandSave,
    Fold,
    FoldAll,
    UnfoldAll,
    CopyPath,
    AlertAcknowledge,
    AlertSilence,
    AlertJump,
    AuditEntry,
    UserCreate,
    UserPassword,
    UserDisable,
    UserEnable,
    MemberRole,
    MemberRemove,
    ProjectCreate,
    ProjectOpen,
    TokenCreate,
    TokenRevoke,
    MarkAll,
    WizardSelectAll,
    WizardNext,
    Terminal(Record),
    TunnelWatch,
    TunnelCopilot,
    TunnelKill,
    TunnelRecording,
    RecordingSave,
    RecordingDelete,
    PlayerPause,
    PlayerSlower,
    PlayerFaster,
    PlayerStep,
    PlayerStepBack,
    PlayerBack,
    PlayerOn,
    PlayerPageBack,
    PlayerPageOn,
    PlayerJump,
    PanePrefix,
    PaneSplit(Split),
    PaneFocus(Direction),
    PaneFocusNext,
    PaneMove(Direction),
    PaneResize(Direction),
    PaneZoom,
    PaneClose,
    PaneDetach,
    PaneLeave,
    PaneRename,
    PaneTabNew,
    PaneTabNext,
    PaneTabPrevious,
    PaneTab(u8),
    PaneSync,
    PaneQueue,
    PaneScroll,
    PaneSearch,
    PanePaste,
    PaneSelect(Take),
}

/// All there is to know of an action.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub action: Action,
    /// Stable: what a keymap file names.
    pub id: &'static str,
    pub title: &'static str,
    pub contexts: &'static [Context],
    pub keys: &'static [&'static str],
    /// Ends or takes away something: only by a capital or through the menu, always confirmed.
    pub danger: bool,
    pub needs: Needs,
    /// Its word in the footer, and how soon it is left out there: 0 last.
    pub footer: Option<(&'static str, u8)>,
}

impl Action {
    pub fn spec(self) -> &'static Spec {
        ACTIONS.iter().find(|spec| spec.action == self).expect("every action is in the table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::term::input::Key;

    #[test]
    fn ids_are_unique_and_keys_are_keys() {
        for (at, spec) in ACTIONS.iter().enumerate() {
            assert!(ACTIONS[at + 1..].iter().all(|other| other.id != spec.id), "{}", spec.id);
            for key in spec.keys {
                assert!(Key::parse(key).is_some(), "{}: {key}", spec.id);
            }
            assert!(!spec.contexts.is_empty());
        }
    }

    #[test]
    fn no_key_means_two_things_in_one_context() {
        for (at, spec) in ACTIONS.iter().enumerate() {
            for other in &ACTIONS[at + 1..] {
                let shared = spec.contexts.iter().find(|c| other.contexts.contains(c));
                let key = spec.keys.iter().find(|key| other.keys.contains(key));
                if let (Some(context), Some(key)) = (shared, key) {
                    // One key does the one of the two that the tab of the Users screen is about.
                    let by_tab = *context == Context::Users;
                    assert!(by_tab, "{key} in {context:?}: {} and {}", spec.id, other.id);
                }
            }
        }
    }

    #[test]
    fn danger_has_no_lower_case_key() {
        for spec in ACTIONS.iter().filter(|spec| spec.danger) {
            for key in spec.keys {
                assert!(key.chars().all(|c| c.is_ascii_uppercase()), "{}: {key}", spec.id);
            }
            assert_ne!(spec.needs, Needs::Nothing, "{}", spec.id);
        }
    }
}
