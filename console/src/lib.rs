//! The console: the full-screen TUI, and the same abilities as subcommands.

pub mod cli;
pub mod net;
pub mod tui;
