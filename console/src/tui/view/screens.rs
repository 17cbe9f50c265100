//! The screens, each a function of the state.

pub mod cells;
pub mod command;
pub mod commands;
pub mod device;
pub mod devices;
pub mod handover;
pub mod lists;
pub mod overview;
pub mod panes;
pub mod player;
pub mod sessions;
pub mod users;
pub mod wall;
pub mod wizard;
