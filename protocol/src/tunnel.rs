//! Tunnels: streams of bytes over frames that may be lost (chapter 7).
//!
//! MQTT carries tunnel frames at QoS 0: they may be lost, doubled, delayed, cut
//! off with their connection. What is here makes streams of them of which no
//! byte is lost, or which end with a reason. It is pure: frames and the time
//! come in, frames and changes come out; both ends of a stream run the same
//! code, whoever they are.
//!
//! ```text
//!   tunnel   what a user opened: a terminal, an exec, a forward; has a handle
//!     stream   bytes in both directions, each with its own end and hash;
//!              opened by either end, ids of the device's have the top bit
//!       frame    one message: bytes at an offset, an acknowledgement, …
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`frame`] | frames on the wire |
//! | [`mark`] | resize, signal, exit: between two bytes of a stream |
//! | [`endpoint`] | one end of all tunnels of a connection: budgets and turns |
//! | [`stream`] | one stream: lives, time-outs, acknowledgements |
//! | `send`, `receive` | its two halves |
//! | [`control`] | open, opened, error, close: on `tunnel/control` |
//! | [`session`] | the WebSocket between a console and its server |
//! | [`window`] | how much of a terminal's output may be on its way |
//! | [`close`] | why a stream or tunnel ended |
//! | [`limits`] | the bounds |
//!
//! Five rules make it safe:
//!
//! - The sender keeps every byte until the peer says that it is *safe*, which
//!   means what the stream's kind says: appended to the session's log, written
//!   to the terminal, taken by the socket at the far end.
//! - The receiver takes the next byte and no other.
//! - The receiver's credit bounds its memory; the budgets of messages under way
//!   bound the broker's queue, which drops in silence what is over its bound.
//! - A frame of a former life of either end changes nothing ([`stream`]).
//! - The end of a direction carries the hash of all its bytes; another hash at
//!   the receiver is an explicit error, never an end.

pub mod close;
pub mod control;
pub mod endpoint;
pub mod frame;
mod hash;
pub mod limits;
pub mod mark;
mod pieces;
mod receive;
mod rtt;
mod send;
pub mod session;
pub mod stream;
pub mod window;

pub use pieces::Content;
pub use receive::Item;
pub use send::{Flight, Gather};

use serde::{Deserialize, Serialize};

/// The first id of the streams that a device opens; those below are the other end's.
pub const DEVICE_STREAM: u32 = 1 << 31;

/// One stream among all of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The tunnel's handle.
    pub tunnel: u32,
    pub stream: u32,
}

/// A point on a clock that never goes back, in microseconds from wherever it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    pub const fn as_us(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to `self`; 0 when `self` is earlier.
    pub const fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
