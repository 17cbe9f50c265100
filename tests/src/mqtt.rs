//! A minimal MQTT 3.1.1 client, written by hand so that it can also misbehave.
//!
//! | module | subject |
//! | --- | --- |
//! | [`codec`] | packets to bytes and back |
//! | [`client`] | one connection that waits for its acknowledgements |

pub mod bare;
pub mod client;
pub mod codec;

pub use client::{Client, Login, Message};
pub use codec::{Packet, Qos};
