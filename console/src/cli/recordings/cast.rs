//! asciicast v2: a header, then an event a line.
//!
//! ```text
//!  {"version":2,"width":80,"height":24,…}
//!  [0.25,"o","text"]        o: output   r: "COLSxROWS"   i: input   m: a marker
//! ```
//!
//! Pure: bytes in, events out. Kinds that are not known are passed over, as the
//! format wants it; what is no event at all is an error with its line.

use std::collections::VecDeque;

use serde::Deserialize;

/// The longest line, in bytes.
const LINE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What happened at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// Since the beginning, in seconds.
    pub at: f64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Output(String),
    Resize {
        cols: u16,
        rows: u16,
    },
    /// Input, markers, and what later versions know.
    Other,
}

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    version: u32,
    pub width: u16,
    pub height: u16,
}

/// What is no asciicast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("line {line}: {why}")]
    Line { line: u64, why: String },
    #[error("it is empty")]
    Empty,
    #[error("it breaks off in the middle of line {line}")]
    Cut { line: u64 },
}

/// Reads a cast, cut anyhow.
#[derive(Debug, Default)]
pub(super) struct Reader {
    header: Option<Header>,
    events: VecDeque<Event>,
    partial: Vec<u8>,
    line: u64,
    last_at: f64,
}

impl Reader {
    pub(super) const fn header(&self) -> Option<Header> {
        self.header
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes the next bytes. What came before a wrong line is there all the same.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            self.take_line(&line)?;
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LINE_MAX_BYTES {
            return Err(self.wrong(format!("longer than {LINE_MAX_BYTES} bytes")));
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        if !self.partial.is_empty() {
            return Err(Wrong::Cut { line: self.line + 1 });
        }
        if self.header.is_none() { Err(Wrong::Empty) } else { Ok(()) }
    }

    fn wrong(&self, why: String) -> Wrong {
        Wrong::Line { line: self.line + 1, why }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Wrong> {
        if self.header.is_none() {
            let header: Header = serde_json::from_slice(line)
                .map_err(|e| self.wrong(format!("no header of an asciicast: {e}")))?;
            if header.version != 2 {
                return Err(self.wrong(format!("version {}, expected 2", header.version)));
            }
            self.header = Some(header);
        } else if !line.trim_ascii().is_empty() {
            let (at, kind, data): (f64, String, String) =
                serde_json::from_slice(line).map_err(|e| self.wrong(format!("no event: {e}")))?;
            if !at.is_finite() || at < self.last_at {
                return Err(self.wrong(format!("{at} s after {} s", self.last_at)));
            }
            self.last_at = at;
            let what = match kind.as_str() {
                "o" => What::Output(data),
                "r" => resize(&data).ok_or_else(|| self.wrong("expected COLSxROWS".to_owned()))?,
                _ => What::Other,
            };
            self.events.push_back(Event { at, what });
        }
        self.line += 1;
        Ok(())
    }
}

fn resize(data: &str) -> Option<What> {
    let (cols, rows) = data.split_once('x')?;
    Some(What::Resize { cols: cols.parse().ok()?, rows: rows.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAST: &str = "{\"version\":2,\"width\":80,\"height\":24}\n[0.5,\"o\",\"h\\u00e9\"]\n[1,\"r\",\"90x30\"]\n[1.5,\"i\",\"x\"]\n";

    fn read(cast: &str) -> (Vec<Event>, Option<Wrong>) {
        let mut reader = Reader::default();
        let wrong = reader.feed(cast.as_bytes()).and_then(|()| reader.end()).err();
        (std::iter::from_fn(|| reader.next_event()).collect(), wrong)
    }

    #[test]
    fn events_have_their_time() {
        let (events, wrong) = read(CAST);
        let event = |at, what| Event { at, what };
        assert_eq!(wrong, None);
        assert_eq!(
            events,
            [
                event(0.5, What::Output("hé".to_owned())),
                event(1.0, What::Resize { cols: 90, rows: 30 }),
                event(1.5, What::Other),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (cast, expected) in [
            ("", "it is empty"),
            ("{}\n", "line 1: no header"),
            ("{\"version\":1,\"width\":1,\"height\":1}\n", "line 1: version 1"),
            (&CAST[..CAST.len() - 3], "it breaks off in the middle of line 4"),
            (&format!("{CAST}[1.0,\"o\",\"back\"]\n"), "line 5: 1 s after 1.5 s"),
            (&format!("{CAST}[\"o\"]\n"), "line 5: no event"),
            (&format!("{CAST}[2,\"r\",\"big\"]\n"), "line 5: expected COLSxROWS"),
        ] {
            let (_, wrong) = read(cast);
            let wrong = wrong.expect(cast).to_string();
            assert!(wrong.starts_with(expected), "{cast:?}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference_and_no_bytes_do_harm(
            bytes in prop::collection::vec(prop::sample::select(CAST.as_bytes().to_vec()), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = [CAST.as_bytes(), &bytes].concat();
            let (mut once, mut twice) = (Reader::default(), Reader::default());
            let first = once.feed(&whole).is_err();
            let (a, b) = whole.split_at(cut.index(whole.len() + 1));
            let second = twice.feed(a).and_then(|()| twice.feed(b)).is_err();
            prop_assert_eq!(first, second);
            if !first {
                prop_assert_eq!(once.events, twice.events);
            }
        }
    }
}
