//! Quarterdeck's agent: the daemon on a device (chapters 2 and 3).
//!
//! It takes commands from the broker, runs each at most once whatever crashes,
//! and answers until the broker has the answer.
//!
//! ```text
//!  cli ─▶ config ─▶ enroll ─▶ engine ──▶ domain      decides, pure
//!                               ├──────▶ journal     remembers
//!                               ├──────▶ operations  work of the stages
//!                               └──────▶ io          broker, HTTP, programs, files
//!                           tunnel ──────┘           terminals and connections, beside the engine
//! ```

#![deny(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod domain;
pub mod engine;
pub mod enroll;
pub mod failpoint;
#[doc(hidden)]
pub mod fuzz;
pub mod io;
pub mod journal;
pub mod local_status;
pub mod operations;
pub mod runner;
pub mod tunnel;
pub mod work;
pub mod workflow;
