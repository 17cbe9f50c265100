//! The server.
pub mod mqtt;
pub mod store;
