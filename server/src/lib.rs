//! Quarterdeck's server: state, engines, broker and API of a fleet.
//!
//! ```text
//!   config ──▶ Server::start ──▶ store ─ engine ─ broker ─ http ──▶ Running
//!                                                                     │ shutdown
//!        listeners closed, sockets told, devices' last words committed ◀┘
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`], [`cli`] | options and subcommands |
//! | [`auth`] | who somebody is |
//! | [`http`], [`live`] | routes, and the WebSocket that keeps a console up to date |
//! | [`engine`], [`domain`] | what changes devices and commands, and by which rules |
//! | [`mqtt`] | the way to the devices |
//! | [`store`] | durable state |
//! | [`tunnels`] | sessions with devices |
//! | [`clock`] | the only time, ids and randomness |
//! | [`limits`] | the named bounds of all of them |

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod domain;
pub mod engine;
pub mod first_start;
#[doc(hidden)]
pub mod fuzz;
pub mod hex;
pub mod http;
pub mod limits;
pub mod live;
pub mod mqtt;
pub mod server;
pub mod store;
pub mod tunnels;

pub use self::server::{Running, Server, StartError};
