//! Tunnel frames on the wire: `tunnel/down`, `tunnel/up` and the WebSocket.
//!
//! One frame a message: a header of 30 bytes, then what its kind carries.
//! Numbers are big-endian.
//!
//! ```text
//!  byte  0       version (high 4 bits) and kind (low 4 bits)
//!        1       flags
//!        2..6    tunnel: its handle, given by the server when it opens
//!        6..10   stream within the tunnel
//!       10..12   life of the sender      ┐ the epoch: see the module
//!       12..14   life of the receiver    ┘ `tunnel`
//!       14..20   offset of the first byte carried
//!       20..26   ack: all before it is safe, the peer may forget it
//!       26..30   credit: how many bytes from `ack` the peer may send
//!       30..     payload
//! ```
//!
//! A frame that does not read back as exactly what is written here is refused
//! whole; nothing is repaired.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{
    StreamKey,
    close::CloseCode,
    limits::{FRAME_MAX_BYTES, OFFSET_MAX, RANGES_MAX, RESET_DETAIL_MAX_BYTES},
    mark::{Mark, UnknownMark},
};

/// What stands before a frame's payload, in bytes.
pub const HEADER_BYTES: usize = 30;
/// The version spoken today.
pub const VERSION: u8 = 1;

/// Which lives of the two ends a frame speaks of: one that was sent to or by a
/// former life is told from one of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    pub from: u16,
    pub to: u16,
}

impl Epoch {
    /// The same, seen from the other end.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// One message of the stream protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub key: StreamKey,
    pub epoch: Epoch,
    /// The sender has not heard of the peer yet: an unknown stream begins here.
    pub is_opening: bool,
    /// The peer is to answer at once, whatever it has to say.
    pub wants_reply: bool,
    /// All bytes up to the peer's end were taken, and their hash agreed.
    pub has_taken_end: bool,
    pub offset: u64,
    pub ack: u64,
    pub credit: u32,
    pub body: Body,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of the stream from `offset` on; none to open a stream that has nothing to say yet.
    Data(Bytes),
    /// Something that happened between two bytes; it takes one place in the order of bytes.
    Mark(Mark),
    /// `offset` is the end of this direction; all before it hashes to this.
    End { hash: [u8; 16] },
    /// What arrived beyond `ack`, as `start..end`, rising: the gaps between are asked for.
    Ack { ranges: Vec<(u64, u64)> },
    /// The sender's end began a new life: `ack` is what it needs next, `offset`
    /// the first byte it still has, `None` of which it remembers when `adopts`.
    Resume { adopts: bool },
    /// The answer: `ack` is what the answering end needs next.
    Resumed,
    /// The stream is over, now, with this reason. `is_answer`: to the peer's own.
    Reset { is_answer: bool, code: CloseCode, detail: String },
}

impl Body {
    /// How much of the order of bytes it takes.
    pub const fn span(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Mark(_) => 1,
            _ => 0,
        }
    }
}

/// Says why some bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("{size_bytes} bytes are less than a header")]
    Short { size_bytes: usize },
    #[error("{size_bytes} bytes are more than a frame may have")]
    Long { size_bytes: usize },
    #[error("version {0} is not spoken here")]
    Version(u8),
    #[error("kind {0} is not known")]
    Kind(u8),
    #[error("flags {0:#04x} are not known with this kind")]
    Flags(u8),
    #[error("the payload does not fit its kind")]
    Payload,
    #[error("offsets end at 2^48")]
    Offset,
    #[error(transparent)]
    Mark(#[from] UnknownMark),
}

const DATA: u8 = 1;
const MARK: u8 = 2;
const END: u8 = 3;
const ACK: u8 = 4;
const RESUME: u8 = 5;
const RESUMED: u8 = 6;
const RESET: u8 = 7;

const OPENING: u8 = 1;
const WANTS_REPLY: u8 = 1 << 1;
const TAKEN_END: u8 = 1 << 2;
/// Of a resume: adopts. Of a reset: is an answer.
const OF_KIND: u8 = 1 << 3;

impl Frame {
    /// Writes the frame to the end of `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let (kind, of_kind) = match &self.body {
            Body::Data(_) => (DATA, false),
            Body::Mark(_) => (MARK, false),
            Body::End { .. } => (END, false),
            Body::Ack { .. } => (ACK, false),
            Body::Resume { adopts } => (RESUME, *adopts),
            Body::Resumed => (RESUMED, false),
            Body::Reset { is_answer, .. } => (RESET, *is_answer),
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let payload_bytes = match &self.body {
            Body::Data(bytes) => bytes.len(),
            _ => 16,
        };
        out.reserve(HEADER_BYTES + payload_bytes);
        out.put_u8(VERSION << 4 | kind);
        out.put_u8(
            flag(self.is_opening, OPENING)
                | flag(self.wants_reply, WANTS_REPLY)
                | flag(self.has_taken_end, TAKEN_END)
                | flag(of_kind, OF_KIND),
        );
        out.put_u32(self.key.tunnel);
        out.put_u32(self.key.stream);
        out.put_u16(self.epoch.from);
        out.put_u16(self.epoch.to);
        out.put_uint(self.offset, 6);
        out.put_uint(self.ack, 6);
        out.put_u32(self.credit);
        match &self.body {
            Body::Data(bytes) => out.put_slice(bytes),
            Body::Mark(mark) => mark.encode(out),
            Body::End { hash } => out.put_slice(hash),
            Body::Ack { ranges } => {
                let mut at = self.ack;
                for (start, end) in ranges {
                    out.put_u32((start - at) as u32);
                    out.put_u32((end - start) as u32);
                    at = *end;
                }
            }
            Body::Resume { .. } | Body::Resumed => {}
            Body::Reset { code, detail, .. } => {
                out.put_u8(code.to_byte());
                out.put_slice(cut(detail, RESET_DETAIL_MAX_BYTES).as_bytes());
            }
        }
    }

    /// Writes the frame alone.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Reads a frame; its bytes are shared, not copied.
    pub fn decode(mut input: Bytes) -> Result<Self, BadFrame> {
        let size_bytes = input.len();
        if size_bytes > FRAME_MAX_BYTES {
            return Err(BadFrame::Long { size_bytes });
        }
        if size_bytes < HEADER_BYTES {
            return Err(BadFrame::Short { size_bytes });
        }
        let first = input.get_u8();
        if first >> 4 != VERSION {
            return Err(BadFrame::Version(first >> 4));
        }
        let kind = first & 0x0f;
        let flags = input.get_u8();
        let key = StreamKey { tunnel: input.get_u32(), stream: input.get_u32() };
        let epoch = Epoch { from: input.get_u16(), to: input.get_u16() };
        let offset = input.get_uint(6);
        let ack = input.get_uint(6);
        let credit = input.get_u32();
        let of_kind = flags & OF_KIND != 0;
        if flags > 0x0f || (of_kind && !matches!(kind, RESUME | RESET)) {
            return Err(BadFrame::Flags(flags));
        }
        let body = match kind {
            DATA => Body::Data(input),
            MARK => Body::Mark(Mark::decode(&input)?),
            END => Body::End { hash: input[..].try_into().map_err(|_| BadFrame::Payload)? },
            ACK => Body::Ack { ranges: decode_ranges(ack, &mut input)? },
            RESUME if input.is_empty() => Body::Resume { adopts: of_kind },
            RESUMED if input.is_empty() => Body::Resumed,
            RESUME | RESUMED => return Err(BadFrame::Payload),
            RESET => decode_reset(of_kind, &input)?,
            unknown => return Err(BadFrame::Kind(unknown)),
        };
        if offset.saturating_add(body.span()) > OFFSET_MAX
            || ack.saturating_add(u64::from(credit)) > OFFSET_MAX
        {
            return Err(BadFrame::Offset);
        }
        Ok(Self {
            key,
            epoch,
            is_opening: flags & OPENING != 0,
            wants_reply: flags & WANTS_REPLY != 0,
            has_taken_end: flags & TAKEN_END != 0,
            offset,
            ack,
            credit,
            body,
        })
    }

    /// Reads only whose frame this is: what a relay needs to know.
    pub fn peek_key(input: &[u8]) -> Result<StreamKey, BadFrame> {
        let size_bytes = input.len();
        if size_bytes > FRAME_MAX_BYTES {
            return Err(BadFrame::Long { size_bytes });
        }
        let mut header = input.get(..HEADER_BYTES).ok_or(BadFrame::Short { size_bytes })?;
        let version = header.get_u8() >> 4;
        if version != VERSION {
            return Err(BadFrame::Version(version));
        }
        header.advance(1);
        Ok(StreamKey { tunnel: header.get_u32(), stream: header.get_u32() })
    }
}

fn decode_ranges(ack: u64, input: &mut Bytes) -> Result<Vec<(u64, u64)>, BadFrame> {
    let count = input.len() / 8;
    if !input.len().is_multiple_of(8) || count > RANGES_MAX {
        return Err(BadFrame::Payload);
    }
    let mut ranges = Vec::with_capacity(count);
    let mut at = ack;
    while input.has_remaining() {
        let (gap, run) = (u64::from(input.get_u32()), u64::from(input.get_u32()));
        // Only the first range may begin where what is safe ends.
        if run == 0 || (gap == 0 && !ranges.is_empty()) {
            return Err(BadFrame::Payload);
        }
        let (start, end) = (at + gap, at + gap + run);
        if end > OFFSET_MAX {
            return Err(BadFrame::Offset);
        }
        ranges.push((start, end));
        at = end;
    }
    Ok(ranges)
}

fn decode_reset(is_answer: bool, input: &Bytes) -> Result<Body, BadFrame> {
    let (code, detail) = input.split_first().ok_or(BadFrame::Payload)?;
    if detail.len() > RESET_DETAIL_MAX_BYTES {
        return Err(BadFrame::Payload);
    }
    let detail = std::str::from_utf8(detail).map_err(|_| BadFrame::Payload)?.to_owned();
    Ok(Body::Reset { is_answer, code: CloseCode::from_byte(*code), detail })
}

/// The longest beginning of `text` that fits and ends at a character's border.
fn cut(text: &str, most_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(most_bytes)]
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
