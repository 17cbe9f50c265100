//! What a program writes: decoded, cut, counted, within fixed memory.
//!
//! ```text
//!  bytes ─▶ Decoder ─▶ text ─┬─▶ live chunks, until LIVE_MAX_BYTES
//!                            └─▶ head + tail, for the last response
//! ```
//!
//! All offsets and sizes count the text as it is sent, not the bytes as they
//! were written: invalid UTF-8 becomes U+FFFD before anything is counted.

use std::collections::VecDeque;

use quarterdeck_protocol::{
    limits::{OUTPUT_IN_RESPONSE_MAX_BYTES, OUTPUT_KEPT_MAX_BYTES},
    text::cut_marker,
};

/// How much of a stream is sent live: what the server keeps.
pub const LIVE_MAX_BYTES: u64 = OUTPUT_KEPT_MAX_BYTES as u64;
/// The longest live chunk.
pub const CHUNK_MAX_BYTES: usize = OUTPUT_IN_RESPONSE_MAX_BYTES;
/// Output waits at most this long for more before it is sent, in milliseconds.
pub const FLUSH_AFTER_MS: u64 = 150;
/// Room for the marker between head and tail.
const MARKER_MAX_BYTES: usize = 64;
const HEAD_MAX_BYTES: usize = OUTPUT_IN_RESPONSE_MAX_BYTES / 2;
const TAIL_MAX_BYTES: usize = OUTPUT_IN_RESPONSE_MAX_BYTES - HEAD_MAX_BYTES - MARKER_MAX_BYTES;

/// Turns bytes into text; a character that is cut between two reads waits for its rest.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut bytes = if self.rest.is_empty() {
            bytes
        } else {
            self.rest.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.rest);
            joined.as_slice()
        };
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => {
                    out.push_str(text);
                    return;
                }
                Err(error) => {
                    let (good, bad) = bytes.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(good).expect("valid up to there"));
                    let Some(bad_len) = error.error_len() else {
                        self.rest = bad.to_vec();
                        return;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    bytes = &bad[bad_len..];
                }
            }
        }
    }

    /// Says that no more bytes come.
    pub fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.rest).is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// What stays of the end: enough to be whole while head and tail fit one response.
const TAIL_KEPT_BYTES: usize = OUTPUT_IN_RESPONSE_MAX_BYTES - HEAD_MAX_BYTES;

/// One of a program's two streams.
#[derive(Debug, Default)]
pub struct Capture {
    decoder: Decoder,
    total_bytes: u64,
    head: String,
    /// The end of what follows the head; cut anywhere, made whole when read.
    tail: VecDeque<u8>,
    live: Live,
}

/// The part that is sent while the program runs.
#[derive(Debug, Default)]
struct Live {
    sent_bytes: u64,
    waiting: String,
    /// It has reached its end: whatever follows would leave a gap.
    is_over: bool,
}

/// A piece of output on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub offset: u64,
    pub text: String,
}

impl Live {
    fn push(&mut self, text: &str) {
        if self.is_over {
            return;
        }
        let room = LIVE_MAX_BYTES - self.sent_bytes - self.waiting.len() as u64;
        let fits = text.floor_char_boundary(room as usize);
        self.waiting.push_str(&text[..fits]);
        self.is_over = fits < text.len();
    }
}

impl Capture {
    pub fn push(&mut self, bytes: &[u8]) {
        let mut text = String::with_capacity(bytes.len());
        self.decoder.push(bytes, &mut text);
        self.keep(&text);
    }

    /// Says that no more comes of this program; another may follow.
    pub fn finish(&mut self) {
        let mut text = String::new();
        self.decoder.finish(&mut text);
        self.keep(&text);
    }

    fn keep(&mut self, text: &str) {
        self.live.push(text);
        let mut rest = text;
        if self.total_bytes == self.head.len() as u64 {
            let fits = text.floor_char_boundary(HEAD_MAX_BYTES - self.head.len());
            self.head.push_str(&text[..fits]);
            rest = &text[fits..];
        }
        self.total_bytes += text.len() as u64;
        let rest = rest.as_bytes();
        self.tail.extend(&rest[rest.len().saturating_sub(TAIL_KEPT_BYTES)..]);
        let too_many = self.tail.len().saturating_sub(TAIL_KEPT_BYTES);
        self.tail.drain(..too_many);
    }

    /// Whether there is enough for a chunk of its own.
    pub const fn has_full_chunk(&self) -> bool {
        self.live.waiting.len() >= CHUNK_MAX_BYTES
    }

    pub const fn has_chunk(&self) -> bool {
        !self.live.waiting.is_empty()
    }

    /// How much waits to be sent live.
    pub const fn waiting_bytes(&self) -> usize {
        self.live.waiting.len()
    }

    /// Whether nothing was written so far.
    pub const fn is_empty(&self) -> bool {
        self.total_bytes == 0
    }

    /// Takes what is to be sent live, at most [`CHUNK_MAX_BYTES`] of it.
    pub fn take_chunk(&mut self) -> Option<Chunk> {
        let live = &mut self.live;
        if live.waiting.is_empty() {
            return None;
        }
        let rest = live.waiting.split_off(live.waiting.floor_char_boundary(CHUNK_MAX_BYTES));
        let text = std::mem::replace(&mut live.waiting, rest);
        let offset = live.sent_bytes;
        live.sent_bytes += text.len() as u64;
        Some(Chunk { offset, text })
    }

    /// The whole; of a long one head and tail, with a marker between.
    pub fn whole(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        if (self.head.len() + bytes.len()) as u64 == self.total_bytes {
            return self.head.clone() + std::str::from_utf8(&bytes).expect("nothing was cut");
        }
        let from = bytes.len().saturating_sub(TAIL_MAX_BYTES);
        let first = bytes[from..].iter().position(|byte| (*byte as i8) >= -0x40);
        let tail = &bytes[from + first.unwrap_or(0)..];
        let tail = std::str::from_utf8(tail).expect("cut at the beginning of a character");
        let missing = self.total_bytes - (self.head.len() + tail.len()) as u64;
        format!("{}{}{tail}", self.head, cut_marker(missing))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_cut_between_two_reads_stays_whole() {
        let mut capture = Capture::default();
        for byte in "grün 日本".bytes() {
            capture.push(&[byte]);
        }
        capture.finish();
        assert_eq!(capture.whole(), "grün 日本");
    }

    #[test]
    fn a_long_output_keeps_its_head_and_its_tail() {
        let mut capture = Capture::default();
        for n in 0..100_000 {
            capture.push(format!("line {n}\n").as_bytes());
        }
        let whole = capture.whole();
        assert!(whole.len() <= OUTPUT_IN_RESPONSE_MAX_BYTES, "{}", whole.len());
        assert!(whole.starts_with("line 0\n") && whole.ends_with("line 99999\n"));
        assert!(whole.contains(" bytes cut …]"));
    }

    fn chunks(capture: &mut Capture) -> Vec<Chunk> {
        std::iter::from_fn(|| capture.take_chunk()).collect()
    }

    proptest! {
        #[test]
        fn however_it_is_read_the_text_is_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..3_000),
            cuts in prop::collection::vec(1..400_usize, 1..20),
        ) {
            let mut capture = Capture::default();
            let mut sent = String::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                capture.push(now);
                for chunk in chunks(&mut capture) {
                    prop_assert_eq!(chunk.offset, sent.len() as u64);
                    sent += &chunk.text;
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            capture.finish();
            sent.extend(chunks(&mut capture).into_iter().map(|chunk| chunk.text));
            let expected = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&sent, &expected);
            if expected.len() <= HEAD_MAX_BYTES {
                prop_assert_eq!(capture.whole(), expected);
            }
        }

        #[test]
        fn a_huge_output_is_cut_within_its_bounds(piece in "[a-zü日]{1,50}", times in 1..30_000_usize) {
            let mut capture = Capture::default();
            let mut live = 0;
            for _ in 0..times {
                capture.push(piece.as_bytes());
                while capture.has_full_chunk() {
                    live += capture.take_chunk().map_or(0, |chunk| chunk.text.len());
                }
            }
            live += chunks(&mut capture).iter().map(|chunk| chunk.text.len()).sum::<usize>();
            let total = piece.len() * times;
            prop_assert!(live <= total.min(OUTPUT_KEPT_MAX_BYTES));
            prop_assert!(live + 4 > total.min(OUTPUT_KEPT_MAX_BYTES));
            prop_assert!(capture.whole().len() <= OUTPUT_IN_RESPONSE_MAX_BYTES);
        }
    }
}
