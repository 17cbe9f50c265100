//! The way to the devices: MQTT, behind one seam.
//!
//! The engine talks to a [`link::Link`] and reads [`link::Inbound`] events; it
//! does not know which broker carries them.
//!
//! ```text
//!            publish, disconnect                    PUBLISH
//!   engine ----------------------> link::Link ----------------> device
//!   engine <---------------------- one bounded channel <------- device
//!            Inbound (+ AckHandle)                  PUBACK/PUBREC only after
//!                                                   the AckHandle is resolved
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`link`] | the seam: requests, events, acknowledgements |
//! | [`acl`] | what a device may say and hear (chapter 2) |
//! | [`limits`] | the named bounds of this module |
//! | [`embedded`] | the broker inside the server |
//! | [`external`] | a client of a broker elsewhere |
//!
//! It never stores anything: a message is either handed on or refused, and what
//! a device has not been given waits in the server's store.

pub mod acl;
pub mod embedded;
pub mod external;
pub mod limits;
pub mod link;
