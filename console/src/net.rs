//! Everything the console says to a server, and the only IO to it.
//!
//! | module | subject |
//! | --- | --- |
//! | [`server`] | where a server is, and whether plaintext may be spoken there |
//! | [`profile`] | what `quarterdeck login` remembers |
//! | [`auth`] | the credentials of one client, refreshed once however many ask |
//! | `call`, [`client`] | one request: retries, answers, problems |
//! | [`api`] | the routes, typed |
//! | [`pages`] | a listing as a stream of pages |
//! | `rows` | pages of any listing, for marks and exports |
//! | [`files`] | downloads into files |
//! | [`live`] | one WebSocket that keeps windows up to date |
//! | [`link`] | that WebSocket kept up for ever |
//! | [`session`] | both, as the full-screen console wants them |
//! | [`tunnel`] | terminals, programs and connections on devices |
//! | `websocket` | a WebSocket of the server, watched for silence |
//! | [`clock`] | the only `now()` and the only chance |
//!
//! Nothing here prints, and no error text holds a secret.

pub mod api;
pub mod auth;
mod call;
pub mod client;
pub mod clock;
pub mod error;
pub mod files;
pub mod link;
pub mod live;
pub mod pages;
pub mod panes;
pub mod profile;
mod rows;
pub mod server;
pub mod session;
pub mod tunnel;
mod websocket;

pub use client::{Client, ClientOptions};
pub use error::ApiError;
