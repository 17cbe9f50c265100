//! The table itself: what can be done where, by which keys, by whom.

use quarterdeck_protocol::api::Role;

use super::{Action as A, Action, Context as C, Context, Needs, Spec};
use crate::tui::{
    pane::{
        copy::Take,
        layout::{Direction, Split},
    },
    tunnels::Record,
};

const EVERY_SCREEN: &[Context] = &[C::Global];
/// Everywhere, also while a pane has the keyboard.
const EVERYWHERE: &[Context] = &[C::Global, C::Prefix];
const TEXT: &[Context] = &[C::List, C::Viewer, C::Scroll];
/// Everywhere but where a pane has the keyboard.
const MOVING: &[Context] = &[C::Global, C::Scroll];
const FILTERED: &[Context] = &[C::List, C::Wizard];
const SEARCHED: &[Context] = &[C::Viewer, C::Scroll];
const PREFIX: &[Context] = &[C::Prefix];
/// Where something is about a device.
const WITH_DEVICE: &[Context] =
    &[C::Overview, C::Devices, C::Device, C::Commands, C::Command, C::Alerts, C::Tunnels];
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMIN: Needs = Needs::Role(Role::Admin);

const fn read(
    action: Action,
    id: &'static str,
    title: &'static str,
    contexts: &'static [Context],
    keys: &'static [&'static str],
) -> Spec {
    Spec { action, id, title, contexts, keys, danger: false, needs: Needs::Nothing, footer: None }
}

const fn change(
    action: Action,
    id: &'static str,
    title: &'static str,
    contexts: &'static [Context],
    keys: &'static [&'static str],
    needs: Needs,
) -> Spec {
    Spec { needs, ..read(action, id, title, contexts, keys) }
}

impl Spec {
    const fn foot(self, word: &'static str, rank: u8) -> Self {
        Self { footer: Some((word, rank)), ..self }
    }

    const fn dangerous(self) -> Self {
        Self { danger: true, ..self }
    }
}

/// Every action there is.
pub const ACTIONS: &[Spec] = &[
    // Moving.
    read(A::Up, "move.up", "Up", &[C::List, C::Viewer, C::Wizard, C::Scroll], &["k", "Up"]),
    read(A::Down, "move.down", "Down", &[C::List, C::Viewer, C::Wizard, C::Scroll], &["j", "Down"]),
    read(A::Left, "move.left", "Left, or the tab before", MOVING, &["h", "Left"]),
    read(A::Right, "move.right", "Right, or the next tab", MOVING, &["l", "Right"]),
    read(A::PageUp, "move.page_up", "Page up", TEXT, &["PageUp", "C-b"]),
    read(A::PageDown, "move.page_down", "Page down", TEXT, &["PageDown", "C-f"]),
    read(A::HalfUp, "move.half_up", "Half a page up", TEXT, &["C-u"]),
    read(A::HalfDown, "move.half_down", "Half a page down", TEXT, &["C-d"]),
    read(A::First, "move.first", "To the first row", TEXT, &["g", "Home"]),
    read(A::Last, "move.last", "To the last row", TEXT, &["G", "End"]),
    read(A::Open, "open", "Open", EVERY_SCREEN, &["Enter"]).foot("open", 2),
    read(A::Back, "back", "Back; drops marks and filter first", MOVING, &["Esc"]),
    read(A::HistoryBack, "history.back", "Back in the history", EVERY_SCREEN, &["["]),
    read(A::HistoryForward, "history.forward", "Forward in the history", EVERY_SCREEN, &["]"]),
    read(A::FocusNext, "focus.next", "Next pane or tab", EVERY_SCREEN, &["Tab"]).foot("focus", 6),
    read(A::FocusPrevious, "focus.previous", "Pane or tab before", EVERY_SCREEN, &["S-Tab"]),
    // Finding.
    read(A::Palette, "palette", "Palette: any screen, any action", EVERYWHERE, &[":"])
        .foot("palette", 3),
    read(A::Filter, "filter", "Filter the table", FILTERED, &["/"]).foot("filter", 3),
    read(A::ClearFilter, "filter.clear", "Drop the filter", FILTERED, &["\\"]),
    read(A::Jump, "jump", "Jump to a row number, device or command", EVERY_SCREEN, &["'"]),
    read(A::Search, "search", "Search in the text", SEARCHED, &["/"]).foot("search", 3),
    read(A::NextMatch, "search.next", "Next match", SEARCHED, &["n"]),
    read(A::PreviousMatch, "search.previous", "Match before", SEARCHED, &["N"]),
    // The table.
    read(A::Sort, "table.sort", "Sort by a column", &[C::List], &["o"]).foot("sort", 5),
    read(A::Columns, "table.columns", "Choose columns", &[C::List], &["S"]).foot("columns", 7),
    read(A::Views, "table.views", "Saved views", &[C::List], &["v"]).foot("views", 7),
    read(A::Mark, "mark", "Mark the row", &[C::List], &["Space"]).foot("mark", 5),
    read(
        A::MarkRange,
        "mark.range",
        "Mark from here to where V is pressed again",
        &[C::List],
        &["V"],
    ),
    read(
        A::MarkAll,
        "mark.all",
        "Mark all rows that match; again unmarks them",
        &[C::List],
        &["*"],
    ),
    read(A::Unmark, "mark.clear", "Unmark all", &[C::List], &["U"]),
    read(A::Copy, "copy", "Copy id or text", MOVING, &["y"]).foot("copy", 7),
    read(A::Export, "export", "Export rows or text to a file", EVERY_SCREEN, &["x"]),
    read(A::ScreenDump, "screen.dump", "Write the screen to a file", EVERY_SCREEN, &["C-s"]),
    // Screens.
    read(A::Screen(1), "screen.overview", "Overview", EVERY_SCREEN, &["1"]),
    read(A::Screen(2), "screen.devices", "Devices", EVERY_SCREEN, &["2"]),
    read(A::Screen(3), "screen.commands", "Commands", EVERY_SCREEN, &["3"]),
    read(A::Screen(4), "screen.alerts", "Alerts", EVERY_SCREEN, &["4"]),
    read(A::Screen(5), "screen.audit", "Audit", EVERY_SCREEN, &["5"]),
    read(A::Screen(6), "screen.users", "Users", EVERY_SCREEN, &["6"]),
    read(A::Screen(7), "screen.tunnels", "Tunnels", EVERY_SCREEN, &["7"]),
    read(A::Screen(8), "screen.panes", "Panes", EVERY_SCREEN, &["8"]),
    read(A::Screen(9), "screen.recordings", "Recordings", EVERY_SCREEN, &["9"]),
    read(A::AlertsScreen, "alerts", "Go to the alerts", EVERY_SCREEN, &["!"]),
    read(A::Handover, "handover", "Shift handover", EVERY_SCREEN, &["H"]),
    read(A::Wall, "wall", "Wall screen", EVERY_SCREEN, &["W"]),
    // Doing.
    read(A::Menu, "actions", "Actions on this row or the marked ones", EVERY_SCREEN, &["a"])
        .foot("actions", 1),
    change(
        A::New,
        "new",
        "New command",
        &[C::Overview, C::Devices, C::Device, C::Commands, C::Command],
        &["n"],
        OPERATOR,
    )
    .foot("new command", 2),
    read(A::Undo, "undo", "Call back what has not left yet", EVERY_SCREEN, &["u"]),
    read(
        A::DeviceCommands,
        "device.commands",
        "Show the device's commands",
        &[C::Devices, C::Device],
        &["c"],
    ),
    change(A::DeviceTags, "device.tags", "Edit tags", &[C::Devices, C::Device], &["T"], OPERATOR),
    change(
        A::DeviceClearFailed,
        "device.clear_failed",
        "Clear the failed service",
        &[C::Devices, C::Device],
        &["F"],
        OPERATOR,
    ),
    change(
        A::DeviceRetire,
        "device.retire",
        "Retire the device",
        &[C::Devices, C::Device],
        &["R"],
        ADMIN,
    )
    .dangerous(),
    change(
        A::CommandCancel,
        "command.cancel",
        "Cancel",
        &[C::Commands, C::Command, C::Device],
        &["C"],
        OPERATOR,
    )
    .dangerous()
    .foot("cancel", 4),
    change(
        A::CommandRetry,
        "command.retry",
        "Retry as a new command",
        &[C::Commands, C::Command],
        &["r"],
        OPERATOR,
    )
    .foot("retry", 4),
    read(
        A::CommandDevice,
        "command.device",
        "Go to its device",
        &[C::Commands, C::Command, C::Tunnels, C::Recordings],
        &["d"],
    ),
    read(
        A::CommandBatch,
        "command.batch",
        "Show all commands of its batch",
        &[C::Commands, C::Command],
        &["b"],
    ),
    read(
        A::CommandCli,
        "command.cli",
        "Copy the equivalent command line",
        &[C::Commands, C::Command, C::Wizard],
        &["Y"],
    ),
    read(A::Fold, "json.fold", "Fold or unfold, as Enter does", &[C::Viewer], &["Space"]),
    read(A::FoldAll, "json.fold_all", "Fold all", &[C::Viewer], &["-"]),
    read(A::UnfoldAll, "json.unfold_all", "Unfold all", &[C::Viewer], &["+"]),
    read(A::CopyPath, "json.path", "Copy the path of the JSON value", &[C::Viewer], &["."]),
    read(A::CommandSave, "command.save", "Save the file it brought", &[C::Command], &["s"]),
    read(A::AlertJump, "alert.jump", "Go to its cause", &[C::Alerts], &["d"]),
    change(A::AlertAcknowledge, "alert.acknowledge", "Acknowledge", &[C::Alerts], &["A"], OPERATOR)
        .foot("acknowledge", 2),
    change(A::AlertSilence, "alert.silence", "Silence for a time", &[C::Alerts], &["s"], OPERATOR)
        .foot("silence", 4),
    read(A::AuditEntry, "audit.entry", "Show the whole entry", &[C::Audit], &["i"])
        .foot("entry", 2),
    // People.
    change(A::UserCreate, "user.create", "Create a user", &[C::Users], &["n"], Needs::ServerAdmin)
        .foot("new user", 2),
    change(
        A::UserPassword,
        "user.password",
        "Set the password",
        &[C::Users],
        &["P"],
        Needs::ServerAdmin,
    ),
    change(
        A::UserDisable,
        "user.disable",
        "Disable the user",
        &[C::Users],
        &["D"],
        Needs::ServerAdmin,
    )
    .dangerous(),
    change(
        A::UserEnable,
        "user.enable",
        "Enable the user",
        &[C::Users],
        &["E"],
        Needs::ServerAdmin,
    ),
    change(
        A::MemberRole,
        "member.role",
        "Set the role in this project",
        &[C::Users],
        &["r"],
        ADMIN,
    )
    .foot("role", 3),
    change(
        A::MemberRemove,
        "member.remove",
        "Remove from this project",
        &[C::Users],
        &["X"],
        ADMIN,
    )
    .dangerous(),
    change(
        A::ProjectCreate,
        "project.create",
        "Create a project",
        &[C::Users],
        &["m"],
        Needs::ServerAdmin,
    )
    .foot("new project", 7),
    read(A::ProjectOpen, "project.open", "Open the project", &[C::Users], &["O"]),
    change(
        A::TokenCreate,
        "token.create",
        "Create an enrolment token",
        &[C::Users, C::Devices],
        &["e"],
        ADMIN,
    )
    .foot("enrolment token", 6),
    change(A::TokenRevoke, "token.revoke", "Revoke the token", &[C::Users], &["R"], ADMIN)
        .dangerous(),
    // Terminals on devices.
    change(
        A::Terminal(Record::AsProject),
        "terminal",
        "Open a terminal on the device",
        WITH_DEVICE,
        &["t"],
        OPERATOR,
    )
    .foot("terminal", 3),
    change(
        A::Terminal(Record::Output),
        "terminal.recorded",
        "Open a recorded terminal",
        WITH_DEVICE,
        &[],
        OPERATOR,
    ),
    change(
        A::Terminal(Record::OutputAndKeys),
        "terminal.recorded_keys",
        "Open a recorded terminal, typed keys too",
        WITH_DEVICE,
        &[],
        OPERATOR,
    ),
    read(A::TunnelWatch, "tunnel.watch", "Watch it", &[C::Tunnels], &["w"]).foot("watch", 3),
    change(
        A::TunnelCopilot,
        "tunnel.copilot",
        "Join it, and type into it",
        &[C::Tunnels],
        &["c"],
        OPERATOR,
    )
    .foot("join", 4),
    change(A::TunnelKill, "tunnel.kill", "End it", &[C::Tunnels], &["K"], OPERATOR)
        .dangerous()
        .foot("end", 4),
    read(A::TunnelRecording, "tunnel.recording", "Play its recording", &[C::Tunnels], &["r"])
        .foot("recording", 5),
    read(
        A::RecordingSave,
        "recording.save",
        "Save it as an asciicast file",
        &[C::Recordings, C::Player],
        &["s"],
    )
    .foot("save", 4),
    change(
        A::RecordingDelete,
        "recording.delete",
        "Delete it for good",
        &[C::Recordings],
        &["D"],
        ADMIN,
    )
    .dangerous(),
    read(A::PlayerPause, "player.pause", "Play, or pause", &[C::Player], &["Space"])
        .foot("play/pause", 1),
    read(A::PlayerSlower, "player.slower", "Slower", &[C::Player], &["-", "<"]).foot("slower", 5),
    read(A::PlayerFaster, "player.faster", "Faster", &[C::Player], &["+", ">"]).foot("faster", 5),
    read(A::PlayerStep, "player.step", "One event on", &[C::Player], &["."]).foot("step", 4),
    read(A::PlayerStepBack, "player.step_back", "One event back", &[C::Player], &[","]),
    read(A::PlayerBack, "player.back", "5 seconds back", &[C::Player], &["Left", "h"]),
    read(A::PlayerOn, "player.on", "5 seconds on", &[C::Player], &["Right", "l"]),
    read(A::PlayerPageBack, "player.page_back", "A minute back", &[C::Player], &["PageUp", "C-b"]),
    read(A::PlayerPageOn, "player.page_on", "A minute on", &[C::Player], &["PageDown", "C-f"]),
    read(
        A::PlayerJump,
        "player.jump",
        "Jump to a time: 2:30, 90 (seconds), 50%",
        &[C::Player],
        &["'"],
    ),
    // Panes: what follows the prefix key.
    read(A::PanePrefix, "pane.prefix", "The prefix key; twice sends it", &[C::Pane], &["C-g"]),
    change(
        A::PaneSplit(Split::Columns),
        "pane.split_right",
        "Split: one more terminal, to the right",
        PREFIX,
        &["|", "%"],
        OPERATOR,
    )
    .foot("split right", 3),
    change(
        A::PaneSplit(Split::Rows),
        "pane.split_below",
        "Split: one more terminal, below",
        PREFIX,
        &["-", "\""],
        OPERATOR,
    )
    .foot("split below", 4),
    read(A::PaneFocus(Direction::Left), "pane.left", "Go left", PREFIX, &["h", "Left"]),
    read(A::PaneFocus(Direction::Down), "pane.down", "Go down", PREFIX, &["j", "Down"]),
    read(A::PaneFocus(Direction::Up), "pane.up", "Go up", PREFIX, &["k", "Up"]),
    read(A::PaneFocus(Direction::Right), "pane.right", "Go right", PREFIX, &["l", "Right"]),
    read(A::PaneFocusNext, "pane.next", "Go to the next pane", PREFIX, &["o", "Tab"])
        .foot("next", 2),
    read(A::PaneMove(Direction::Left), "pane.move_left", "Change places, left", PREFIX, &["<"]),
    read(A::PaneMove(Direction::Right), "pane.move_right", "Change places, right", PREFIX, &[">"]),
    read(A::PaneMove(Direction::Up), "pane.move_up", "Change places, above", PREFIX, &["{"]),
    read(A::PaneMove(Direction::Down), "pane.move_down", "Change places, below", PREFIX, &["}"]),
    read(A::PaneResize(Direction::Left), "pane.border_left", "Border left", PREFIX, &["H"]),
    read(A::PaneResize(Direction::Down), "pane.border_down", "Border down", PREFIX, &["J"]),
    read(A::PaneResize(Direction::Up), "pane.border_up", "Border up", PREFIX, &["K"]),
    read(A::PaneResize(Direction::Right), "pane.border_right", "Border right", PREFIX, &["L"]),
    read(A::PaneZoom, "pane.zoom", "Zoom, and back", PREFIX, &["z"]).foot("zoom", 3),
    read(A::PaneClose, "pane.close", "Close the pane; ends what runs in it", PREFIX, &["x"])
        .foot("close", 5),
    read(A::PaneDetach, "pane.detach", "Detach: what runs, runs on", PREFIX, &["D"]),
    read(A::PaneLeave, "pane.leave", "Leave the panes; they stay open", PREFIX, &["d"])
        .foot("leave", 1),
    read(A::PaneRename, "pane.rename", "Name the pane", PREFIX, &["r"]),
    change(
        A::PaneTabNew,
        "pane.tab_new",
        "New tab: one more terminal on this device",
        PREFIX,
        &["c"],
        OPERATOR,
    ),
    read(A::PaneTabNext, "pane.tab_next", "Next tab", PREFIX, &["n"]),
    read(A::PaneTabPrevious, "pane.tab_previous", "Tab before", PREFIX, &["p"]),
    read(A::PaneTab(1), "pane.tab_1", "Tab 1", PREFIX, &["1"]),
    read(A::PaneTab(2), "pane.tab_2", "Tab 2", PREFIX, &["2"]),
    read(A::PaneTab(3), "pane.tab_3", "Tab 3", PREFIX, &["3"]),
    read(A::PaneTab(4), "pane.tab_4", "Tab 4", PREFIX, &["4"]),
    read(A::PaneTab(5), "pane.tab_5", "Tab 5", PREFIX, &["5"]),
    read(A::PaneTab(6), "pane.tab_6", "Tab 6", PREFIX, &["6"]),
    read(A::PaneTab(7), "pane.tab_7", "Tab 7", PREFIX, &["7"]),
    read(A::PaneTab(8), "pane.tab_8", "Tab 8", PREFIX, &["8"]),
    read(A::PaneTab(9), "pane.tab_9", "Tab 9", PREFIX, &["9"]),
    change(A::PaneSync, "pane.sync", "Type into all panes, or into one", PREFIX, &["s"], OPERATOR)
        .foot("sync", 6),
    read(A::PaneQueue, "pane.queue", "Keep keys while it is lost, or not", PREFIX, &["q"]),
    read(A::PaneScroll, "pane.scroll", "Scroll back, and copy", PREFIX, &["[", "PageUp"])
        .foot("scroll", 4),
    read(A::PaneSearch, "pane.search", "Search the scrollback", PREFIX, &["/"]).foot("search", 6),
    change(A::PanePaste, "pane.paste", "Paste what was copied", PREFIX, &["]"], OPERATOR),
    read(A::PaneSelect(Take::Text), "pane.select", "Select", &[C::Scroll], &["v", "Space"])
        .foot("select", 3),
    read(A::PaneSelect(Take::Rows), "pane.select_rows", "Select rows", &[C::Scroll], &["V"]),
    read(A::PaneSelect(Take::Block), "pane.select_block", "Select a block", &[C::Scroll], &["C-v"]),
    // The wizard.
    read(A::WizardSelectAll, "wizard.all", "Mark all devices that match", &[C::Wizard], &["A"])
        .foot("mark all", 4),
    read(A::WizardNext, "wizard.next", "Continue", &[C::Wizard], &["Enter", "C-n"])
        .foot("continue", 1),
    // The program.
    read(A::Freeze, "freeze", "Freeze what is shown; again to go on", EVERY_SCREEN, &["p"])
        .foot("freeze", 8),
    read(A::Help, "help", "All keys of this screen", EVERYWHERE, &["?", "F1"]).foot("keys", 0),
    read(A::Reconnect, "reconnect", "Try to connect now", EVERYWHERE, &["C-r"]),
    read(A::Redraw, "redraw", "Draw the screen anew", EVERY_SCREEN, &["C-l"]),
    read(A::Quit, "quit", "Quit", EVERY_SCREEN, &["q", "C-c"]).foot("quit", 8),
];
