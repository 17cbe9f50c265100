//! Whether an exported asciicast file is as the server wrote it.
//!
//! ```text
//!  header ── events ── end mark (SHA-256 of all before it)
//!                         ├─ missing, or of other bytes ──▶ cut or altered
//!                         └─ of these bytes ──▶ whole ── the server's own export
//!                                                          ├─ the same ──▶ genuine
//!                                                          └─ another ──▶ altered
//! ```
//!
//! The mark finds what was cut or damaged on its way. Who alters a file on purpose
//! can make a mark for it: only a comparison with the server tells that. Pure:
//! bytes in, findings out.

use std::fmt::Write as _;

use quarterdeck_protocol::api::{CAST_END, CAST_SO_FAR};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::cast::Reader;

/// Where a file says that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Origin {
    pub project: String,
    pub recording: String,
}

#[derive(Debug, Deserialize)]
struct Header {
    quarterdeck: Option<Origin>,
}

/// What the end mark of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    is_final: bool,
    sha256: String,
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub events: u64,
    pub seconds: f64,
    pub origin: Option<Origin>,
    /// All that the mark is about: the bytes before it, and their digest.
    pub sealed_bytes: u64,
    pub sha256: String,
    /// It was exported when its session had ended.
    pub is_final: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Goes through a file, cut anyhow.
#[derive(Debug, Default)]
pub(super) struct Checker {
    reader: Reader,
    line: Vec<u8>,
    digest: Sha256,
    sealed_bytes: u64,
    mark: Option<Mark>,
    origin: Option<Origin>,
    events: u64,
    seconds: f64,
    problem: Option<String>,
}

impl Checker {
    /// Takes the next bytes; after a problem they change nothing.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.problem.is_some() {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let taken = self.reader.feed(piece);
            if self.note(taken.map_err(|wrong| wrong.to_string())).is_none() {
                return;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let taken = self.take_line(&line);
                self.note(taken);
            }
        }
    }

    /// Nothing more comes.
    pub(super) fn end(mut self) -> Found {
        if self.problem.is_none() {
            let ended = self.reader.end().map_err(|wrong| wrong.to_string());
            self.note(ended);
        }
        let sha256 = hex(self.digest);
        let is_final = self.mark.as_ref().is_some_and(|mark| mark.is_final);
        let problem = self.problem.or_else(|| match &self.mark {
            None => {
                Some("it has no end mark: it was cut, or not exported by Quarterdeck".to_owned())
            }
            Some(mark) if mark.sha256 != sha256 => {
                Some("it is not what its end mark says: it was altered".to_owned())
            }
            Some(_) => None,
        });
        Found {
            events: self.events,
            seconds: self.seconds,
            origin: self.origin,
            sealed_bytes: self.sealed_bytes,
            sha256,
            is_final,
            problem,
        }
    }

    /// Keeps the first problem, and counts what came; `None` when there is a problem.
    fn note(&mut self, taken: Result<(), String>) -> Option<()> {
        while let Some(event) = self.reader.next_event() {
            self.events += 1;
            self.seconds = event.at;
        }
        match taken {
            Ok(()) => Some(()),
            Err(why) => {
                self.problem.get_or_insert(why);
                None
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), String> {
        if self.mark.is_some() {
            return Err("something stands behind its end mark: it was altered".to_owned());
        }
        if self.sealed_bytes == 0 {
            self.origin = serde_json::from_slice::<Header>(line).ok().and_then(|h| h.quarterdeck);
        } else if let Some(mark) = mark_of(line) {
            // It stands for itself, and is no event of the session.
            self.events = self.events.saturating_sub(1);
            self.mark = Some(mark);
            return Ok(());
        }
        self.digest.update(line);
        self.sealed_bytes += line.len() as u64;
        Ok(())
    }
}

/// The digest of the first bytes of a stream, as many as were sealed.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    digest: Sha256,
    taken_bytes: u64,
}

impl Beginning {
    /// Takes what still belongs to the first `wanted_bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8], wanted_bytes: u64) {
        let room = wanted_bytes.saturating_sub(self.taken_bytes);
        let length = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.digest.update(&bytes[..length]);
        self.taken_bytes += length as u64;
    }

    pub(super) fn sha256(self) -> String {
        hex(self.digest)
    }
}

fn mark_of(line: &[u8]) -> Option<Mark> {
    let (_, kind, label): (f64, String, String) = serde_json::from_slice(line).ok()?;
    let (is_final, sha256) = match label.strip_prefix(CAST_END) {
        Some(sha256) => (true, sha256),
        None => (false, label.strip_prefix(CAST_SO_FAR)?),
    };
    (kind == "m").then(|| Mark { is_final, sha256: sha256.to_owned() })
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = concat!(
        r#"{"version":2,"width":80,"height":24,"quarterdeck":{"project":"p","recording":"r"}}"#,
        "\n",
        r#"[0.500, "o", "hello"]"#,
        "\n",
        r#"[1.500, "o", "bye"]"#,
        "\n",
    );

    fn exported() -> String {
        let sha256 = hex(Sha256::new_with_prefix(LINES));
        format!("{LINES}[1.500, \"m\", \"{CAST_END}{sha256}\"]\n")
    }

    fn found(cast: &[u8]) -> Found {
        let mut checker = Checker::default();
        checker.feed(cast);
        checker.end()
    }

    #[test]
    fn a_file_as_it_was_exported_is_whole() {
        let found = found(exported().as_bytes());
        assert_eq!((found.problem, found.events, found.is_final), (None, 2, true));
        assert_eq!(found.sealed_bytes, LINES.len() as u64);
        assert_eq!(found.origin.map(|origin| origin.recording).as_deref(), Some("r"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = exported();
        for (cast, expected) in [
            (LINES.to_owned(), "no end mark"),
            (whole.replace("hello", "hullo"), "altered"),
            (whole.replace("80", "81"), "altered"),
            (format!("{whole}[2.0, \"o\", \"more\"]\n"), "behind its end mark"),
            (whole.replace("[1.500, \"o\", \"bye\"]\n", ""), "altered"),
            (String::new(), "it is empty"),
        ] {
            let problem = found(cast.as_bytes()).problem.expect(expected);
            assert!(problem.contains(expected), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_cut_and_no_changed_byte_is_called_whole(
            at in any::<prop::sample::Index>(), other in any::<u8>(),
        ) {
            let whole = exported().into_bytes();
            let at = at.index(whole.len());
            prop_assert!(found(&whole[..at]).problem.is_some());
            let mut altered = whole.clone();
            altered[at] = other;
            // The mark's own blanks and time may be written in another way.
            if altered != whole && at < LINES.len() {
                prop_assert!(found(&altered).problem.is_some());
            }
        }

        #[test]
        fn pieces_make_no_difference(cut in any::<prop::sample::Index>()) {
            let whole = exported().into_bytes();
            let (a, b) = whole.split_at(cut.index(whole.len()));
            let mut checker = Checker::default();
            checker.feed(a);
            checker.feed(b);
            prop_assert_eq!(checker.end(), found(&whole));
        }
    }
}
