//! What a script tells its workflow: the text between two markers of its stdout
//! (source 003, rule O2), whatever else it prints and however much.
//!
//! ```text
//! :::begin-tedge:::
//! {"status": "next", "field": 1}
//! :::end-tedge:::
//! ```
//!
//! A value of a payload may hold the markers too, and a script may print that
//! value. So a block that stands word for word in a value that was filled into
//! the script's command line is no word of the script: it is passed over.

use memchr::memmem;
use serde_json::Value;

use super::message::{PAYLOAD_MAX_BYTES, Payload};

const BEGIN: &[u8] = b":::begin-tedge:::\n";
const END: &[u8] = b"\n:::end-tedge:::";
/// The longest block; a longer one counts as none.
pub const BLOCK_MAX_BYTES: usize = PAYLOAD_MAX_BYTES;
/// How many blocks are kept: one, and some that may be forged.
const BLOCKS_MAX: usize = 8;

/// Finds the blocks in a stream of any length, in bounded memory.
#[derive(Debug, Default)]
pub struct Scanner {
    blocks: Vec<Vec<u8>>,
    kept: Vec<u8>,
    place: Place,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Inside,
    /// No block is looked for any more.
    Done,
}

/// The blocks that a script printed, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpts(Vec<Vec<u8>>);

/// What the block of a script's output is.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Absent,
    NotJson(String),
    /// JSON, and ignored (O3).
    NotAnObject,
    Object(Payload),
}

impl Scanner {
    /// Takes the next bytes of stdout.
    pub fn push(&mut self, mut bytes: &[u8]) {
        // In parts, so that what is kept stays near its bound whatever comes at once.
        while !bytes.is_empty() && self.place != Place::Done {
            let (part, rest) = bytes.split_at(bytes.len().min(64 * 1024));
            self.push_part(part);
            bytes = rest;
        }
    }

    fn push_part(&mut self, bytes: &[u8]) {
        let mut from = self.kept.len().saturating_sub(BEGIN.len().max(END.len()));
        self.kept.extend_from_slice(bytes);
        loop {
            let marker = if self.place == Place::Inside { END } else { BEGIN };
            let Some(at) = find(&self.kept, marker, from) else { break };
            let rest = self.kept.split_off(at + marker.len());
            let mut block = std::mem::replace(&mut self.kept, rest);
            from = 0;
            if self.place == Place::Outside {
                self.place = Place::Inside;
                continue;
            }
            block.truncate(at);
            self.blocks.push(block);
            self.place = if self.blocks.len() < BLOCKS_MAX { Place::Outside } else { Place::Done };
            if self.place == Place::Done {
                break;
            }
        }
        match self.place {
            Place::Outside => {
                let surplus = self.kept.len().saturating_sub(BEGIN.len() - 1);
                self.kept.drain(..surplus);
            }
            Place::Inside if self.kept.len() > BLOCK_MAX_BYTES + END.len() => {
                self.place = Place::Done;
            }
            Place::Inside => {}
            Place::Done => self.kept = Vec::new(),
        }
    }

    pub fn finish(self) -> Excerpts {
        Excerpts(self.blocks)
    }
}

fn find(bytes: &[u8], marker: &[u8], from: usize) -> Option<usize> {
    memmem::find(bytes.get(from..)?, marker).map(|at| from + at)
}

impl Excerpts {
    /// Finds the blocks in a whole stdout.
    pub fn of(stdout: &[u8]) -> Self {
        let mut scanner = Scanner::default();
        scanner.push(stdout);
        scanner.finish()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the first block that does not stand in one of the values that the script was given.
    pub fn read(&self, values: &[String]) -> Output {
        let suspects = values.iter().map(String::as_bytes);
        let suspects: Vec<_> = suspects.filter(|value| find(value, BEGIN, 0).is_some()).collect();
        let is_forged = |block: &[u8]| {
            let block = || [BEGIN, block, END].concat();
            suspects.iter().any(|value| find(value, &block(), 0).is_some())
        };
        let Some(block) = self.0.iter().find(|block| !is_forged(block)) else {
            return Output::Absent;
        };
        match serde_json::from_slice(block) {
            Ok(Value::Object(fields)) => Output::Object(fields),
            Ok(_) => Output::NotAnObject,
            Err(error) => Output::NotJson(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(stdout: &str) -> Output {
        Excerpts::of(stdout.as_bytes()).read(&[])
    }

    fn object(value: &Value) -> Output {
        Output::Object(value.as_object().expect("an object").clone())
    }

    #[test]
    fn o2_the_first_text_between_the_markers_counts() {
        let table: [(&str, Output); 10] = [
            ("", Output::Absent),
            ("{\"x\":1}", Output::Absent),
            (
                "noise\n:::begin-tedge:::\n{\"x\":1}\n:::end-tedge:::\nnoise",
                object(&json!({"x": 1})),
            ),
            (
                ":::begin-tedge:::\n{\"x\":1}\n:::end-tedge:::\n:::begin-tedge:::\n{\"x\":2}\n:::end-tedge:::",
                object(&json!({"x": 1})),
            ),
            ("no newline:::begin-tedge:::\n{}\n:::end-tedge:::", object(&json!({}))),
            (":::begin-tedge::: {\"x\":1}\n:::end-tedge:::", Output::Absent),
            (":::begin-tedge:::\n:::end-tedge:::", Output::Absent),
            (":::begin-tedge:::\n{\"x\":1}", Output::Absent),
            (":::begin-tedge:::\n[1]\n:::end-tedge:::", Output::NotAnObject),
            (":::begin-tedge:::\n{\n \"x\":\n 1}\n\n:::end-tedge:::", object(&json!({"x": 1}))),
        ];
        for (stdout, expected) in table {
            assert_eq!(read(stdout), expected, "{stdout}");
        }
        assert!(matches!(read(":::begin-tedge:::\nx\n:::end-tedge:::"), Output::NotJson(_)));
        let invalid = b"\xff\n:::begin-tedge:::\n{\"x\":1}\n:::end-tedge:::\n\xfe";
        assert_eq!(Excerpts::of(invalid).read(&[]), object(&json!({"x": 1})));
        let invalid = Excerpts::of(b":::begin-tedge:::\n{\"x\":\"\xff\"}\n:::end-tedge:::");
        assert!(matches!(invalid.read(&[]), Output::NotJson(_)));
    }

    #[test]
    fn a_block_in_a_value_of_the_payload_is_no_word_of_the_script() {
        let forged = ":::begin-tedge:::\n{\"status\":\"successful\"}\n:::end-tedge:::".to_owned();
        let stdout = format!(
            "got {forged}\n:::begin-tedge:::\n{{\"status\":\"failed\"}}\n:::end-tedge:::\n"
        );
        let excerpts = Excerpts::of(stdout.as_bytes());
        assert_eq!(
            excerpts.read(std::slice::from_ref(&forged)),
            object(&json!({"status": "failed"}))
        );
        assert_eq!(excerpts.read(&[]), object(&json!({"status": "successful"})));
        assert_eq!(Excerpts::of(forged.as_bytes()).read(&[forged]), Output::Absent);
    }

    #[test]
    fn memory_is_bounded_whatever_is_printed() {
        let mut scanner = Scanner::default();
        let noise = vec![b':'; 1024 * 1024];
        for _ in 0..64 {
            scanner.push(&noise);
            assert!(scanner.kept.capacity() < 1024 * 1024, "{}", scanner.kept.capacity());
        }
        scanner.push(b"\n:::begin-tedge:::\n{}\n:::end-tedge:::");
        assert_eq!(scanner.finish().read(&[]), object(&json!({})));

        let mut endless = Scanner::default();
        endless.push(BEGIN);
        for _ in 0..64 {
            endless.push(&noise);
            assert!(endless.kept.len() <= BLOCK_MAX_BYTES + 128 * 1024);
        }
        assert!(endless.finish().is_empty());

        let many = ":::begin-tedge:::\n{}\n:::end-tedge:::".repeat(1_000);
        assert_eq!(Excerpts::of(many.as_bytes()).0.len(), BLOCKS_MAX);
    }

    proptest! {
        #[test]
        fn the_same_is_found_however_the_stream_is_cut(
            before in "[:a\n]{0,40}", inner in "[:a\n]{0,40}", after in "[:a\n]{0,40}",
            cuts in proptest::collection::vec(1_usize..20, 1..20),
        ) {
            let text = format!("{before}:::begin-tedge:::\n{inner}\n:::end-tedge:::{after}");
            let expected = text
                .split_once(":::begin-tedge:::\n")
                .and_then(|(_, rest)| rest.split_once("\n:::end-tedge:::"))
                .map(|(block, _)| block.as_bytes().to_vec());
            let mut scanner = Scanner::default();
            let mut rest = text.as_bytes();
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (part, next) = rest.split_at(cuts.next().expect("endless").min(rest.len()));
                scanner.push(part);
                rest = next;
            }
            prop_assert_eq!(scanner.finish().0.into_iter().next(), expected);
        }

        #[test]
        fn garbage_never_panics(stdout in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = Excerpts::of(&stdout).read(&[]);
        }
    }
}
