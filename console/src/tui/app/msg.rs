//! What happens to the TUI.

use ratatui::layout::Rect;

use crate::tui::{mailbox::Batch, pane::layout::PaneId, store::WindowKey, term::input::Input};

/// All that can happen.
#[derive(Debug)]
pub enum Msg {
    Input(Input),
    Net(Batch),
    /// Time has passed.
    Tick,
    /// A screen was drawn, and this is where things are on it.
    Drawn(Layout),
    /// Something that the loop did on our behalf did not work, or did.
    Said {
        text: String,
        is_error: bool,
    },
    /// The file of an export cannot be written.
    ExportFailed {
        why: String,
    },
}

/// Where things are on the screen that was drawn last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The rows of tables.
    pub lists: Vec<(WindowKey, Rect)>,
    /// How wide the widest name is that was seen in a column of a table.
    pub names: Vec<(WindowKey, &'static str, u16)>,
    /// The text that scrolls, and how many lines it has.
    pub viewer: Option<(Rect, usize)>,
    /// The rows of the line under the cursor in a JSON document: from, and up to.
    pub viewer_cursor: Option<(usize, usize)>,
    /// How many rows of the wizard's review are to be read before anything is sent.
    pub review_rows: Option<usize>,
    /// Cards in the wizard: how many stand side by side.
    pub card_columns: usize,
    /// Each card that is seen, by its number.
    pub cards: Vec<(usize, Rect)>,
    /// Where each pane that is seen has its text, and what all of them share.
    pub panes: Vec<(PaneId, Rect)>,
    pub panes_area: Option<Rect>,
    /// Tabs that can be clicked.
    pub tabs: Vec<(usize, Rect)>,
}
