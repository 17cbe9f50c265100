//! The TUI as its user has it: keys in, screens out, on a fleet in memory.

#[path = "tui/ages.rs"]
mod ages;
#[path = "tui/any_sequence.rs"]
mod any_sequence;
#[path = "tui/audit.rs"]
mod audit;
#[path = "tui/bytes.rs"]
mod bytes;
#[path = "tui/drafts.rs"]
mod drafts;
#[path = "tui/finding.rs"]
mod finding;
#[path = "tui/many_panes.rs"]
mod many_panes;
#[path = "tui/many_rows.rs"]
mod many_rows;
#[path = "tui/network.rs"]
mod network;
#[path = "tui/offers.rs"]
mod offers;
#[path = "tui/panes.rs"]
mod panes;
#[path = "tui/picture.rs"]
mod picture;
#[path = "tui/reconnecting.rs"]
mod reconnecting;
#[path = "tui/recordings.rs"]
mod recordings;
#[path = "tui/runner.rs"]
mod runner;
#[path = "tui/screens.rs"]
mod screens;
#[path = "tui/sessions.rs"]
mod sessions;
#[path = "tui/stories.rs"]
mod stories;
#[path = "tui/svg.rs"]
mod svg;
#[path = "tui/truth.rs"]
mod truth;
#[path = "tui/wizard.rs"]
mod wizard;
