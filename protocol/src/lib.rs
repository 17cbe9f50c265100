//! What Quarterdeck's server, agent and console say to one another.
//!
//! Only types, their validation, and pure functions over them: no IO, no
//! clock, no randomness. A value of a type of this crate is valid; whatever
//! comes from a socket or a file is turned into one at the edge, once.
//!
//! | module | subject |
//! | --- | --- |
//! | [`ids`] | project, device, command and batch ids |
//! | [`time`] | the instant that all messages carry |
//! | [`topics`] | the only place with MQTT topic strings |
//! | [`command`] | a command, its cancellation, its responses, its status |
//! | [`device`] | what a device says of itself |
//! | [`operations`] | the operations that every device knows |
//! | [`payload`] | the typed payloads of those operations |
//! | [`api`] | objects and requests of the HTTP interface |
//! | [`live`] | the WebSocket that keeps a console up to date |
//! | [`search`] | words and names that listings are searched for |
//! | [`log_filter`] | `QUARTERDECK_LOG`, which all programs read alike |
//! | [`text`] | untrusted text made fit for a terminal |
//! | [`tunnel`] | streams over lossy frames, for terminals and forwards |
//! | [`limits`] | bounds that both ends of a wire must agree on |

pub mod api;
pub mod command;
pub mod device;
pub mod ids;
pub mod json;
pub mod limits;
pub mod live;
pub mod log_filter;
pub mod operations;
pub mod payload;
pub mod search;
pub mod text;
pub mod time;
pub mod topics;
pub mod tunnel;
