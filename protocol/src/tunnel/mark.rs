//! What happens between two bytes of a stream: a resize, a signal, an exit.
//!
//! A mark takes one place in the order of bytes, so it is acknowledged, sent
//! again and delivered in order exactly as a byte is. A resize that the device
//! applied therefore stands in the output where it took effect, and an exit
//! after the last byte of output.

use bytes::{BufMut as _, BytesMut};
use serde::{Deserialize, Serialize};

/// One mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// To the device: make the terminal this large. From the device: it is, from here on.
    Resize(Size),
    /// To the device: send this to the foreground of the terminal, or to the program's group.
    Signal(Signal),
    /// From the device: how the program ended. The end of the stream follows.
    Exit(Exit),
}

/// The size of a terminal, in cells; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    #[schemars(range(min = 1))]
    pub cols: std::num::NonZeroU16,
    #[schemars(range(min = 1))]
    pub rows: std::num::NonZeroU16,
}

impl Size {
    /// Takes a size; `None` when a side is 0.
    pub fn new(cols: u16, rows: u16) -> Option<Self> {
        Some(Self { cols: cols.try_into().ok()?, rows: rows.try_into().ok()? })
    }
}

/// The signals that may be sent to what runs in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
    Kill,
    User1,
    User2,
    Continue,
    Stop,
}

impl Signal {
    pub const ALL: [Self; 9] = [
        Self::Hangup,
        Self::Interrupt,
        Self::Quit,
        Self::Terminate,
        Self::Kill,
        Self::User1,
        Self::User2,
        Self::Continue,
        Self::Stop,
    ];

    const fn to_byte(self) -> u8 {
        self as u8
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Its exit code.
    Code(u8),
    /// The number of the signal that killed it, as the device counts signals.
    Signal(u8),
}

impl Exit {
    /// The code that a shell shows for it.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

/// Says that some bytes are no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mark is not known")]
pub struct UnknownMark;

const RESIZE: u8 = 1;
const SIGNAL: u8 = 2;
const EXIT_CODE: u8 = 3;
const EXIT_SIGNAL: u8 = 4;

impl Mark {
    pub(super) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Resize(size) => {
                out.put_u8(RESIZE);
                out.put_u16(size.cols.get());
                out.put_u16(size.rows.get());
            }
            Self::Signal(signal) => out.put_slice(&[SIGNAL, signal.to_byte()]),
            Self::Exit(Exit::Code(code)) => out.put_slice(&[EXIT_CODE, code]),
            Self::Exit(Exit::Signal(signal)) => out.put_slice(&[EXIT_SIGNAL, signal]),
        }
    }

    pub(super) fn decode(input: &[u8]) -> Result<Self, UnknownMark> {
        match *input {
            [RESIZE, c1, c2, r1, r2] => {
                let (cols, rows) = (u16::from_be_bytes([c1, c2]), u16::from_be_bytes([r1, r2]));
                Size::new(cols, rows).map(Self::Resize).ok_or(UnknownMark)
            }
            [SIGNAL, signal] => Signal::from_byte(signal).map(Self::Signal).ok_or(UnknownMark),
            [EXIT_CODE, code] => Ok(Self::Exit(Exit::Code(code))),
            [EXIT_SIGNAL, signal] => Ok(Self::Exit(Exit::Signal(signal))),
            _ => Err(UnknownMark),
        }
    }
}
