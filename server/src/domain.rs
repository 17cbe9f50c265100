//! The decisions, and nothing else: pure functions over values.
//!
//! | module | decides |
//! | --- | --- |
//! | [`command`] | what becomes of a command |
//! | [`presence`] | whether a device is online, stale or offline |
//! | [`safety`] | whether one more reboot or app restart may go |
//! | [`skew`] | whether a device's clock is off |
//! | [`tunnel`] | the life of a session with a device |
//!
//! Never here: tokio, sqlx, a clock, randomness, IO.

pub mod command;
pub mod presence;
pub mod safety;
pub mod skew;
pub mod tunnel;
