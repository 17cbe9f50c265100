//! A recording as others want it: events, an asciicast v2 file, plain bytes.
//!
//! A recording is as long as its session wrote, so nothing here holds all of it:
//! [`export`] reads a chunk, hands its text on, and waits until that is taken.
//!
//! A recording that a crash cut is given as far as it goes, and its status says
//! that it is incomplete; one of which something else is missing ends with an error.

use std::{cell::RefCell, fmt::Write as _};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use quarterdeck_protocol::{
    api::{CAST_END, CAST_SO_FAR, RecordingEvent, RecordingEventKind},
    tunnel::{
        Content,
        mark::{Exit, Mark},
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::log::{Chunks, Entry, Header, LogError, Place};

/// What a recording is exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Cast,
    Bytes,
}

/// A recording, as its row and its log have it.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Its project and its id: where an exported file says that it comes from.
    pub(crate) project: String,
    pub(crate) id: String,
    pub(crate) place: Place,
    /// Its session's end is in it.
    pub(crate) is_complete: bool,
}

impl Recorded {
    /// Says early whether there is anything to be read. Blocks.
    pub(crate) fn open(&self) -> Result<(), LogError> {
        Moments::of(self)?.next().map(drop)
    }
}

/// One thing that happened, when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moment {
    time_ms: u64,
    entry: Entry,
}

/// Goes through a recording.
#[derive(Debug)]
struct Moments<'a> {
    chunks: Chunks<'a>,
    is_complete: bool,
    header: Option<Header>,
    waiting: std::vec::IntoIter<Moment>,
}

impl<'a> Moments<'a> {
    fn of(recorded: &'a Recorded) -> Result<Self, LogError> {
        Ok(Self {
            chunks: Chunks::recording(&recorded.place)?,
            is_complete: recorded.is_complete,
            header: None,
            waiting: Vec::new().into_iter(),
        })
    }

    /// The next; an end also where a crash cut the recording.
    fn next(&mut self) -> Result<Option<Moment>, LogError> {
        loop {
            if let Some(moment) = self.waiting.next() {
                return Ok(Some(moment));
            }
            let opened = match self.chunks.next() {
                Ok(Some(opened)) => opened,
                Ok(None) if self.is_complete => {
                    return self.chunks.must_have_ended().map(|()| None);
                }
                Ok(None) => return Ok(None),
                Err(LogError::Cut { .. }) if !self.is_complete => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut moments = Vec::with_capacity(opened.entries.len());
            for entry in opened.entries {
                if let Entry::Header(header) = entry {
                    // The first counts: later segments repeat it.
                    self.header.get_or_insert(header);
                    continue;
                }
                let began_ms = self.header.as_ref().map_or(opened.at_ms, |h| h.started_ms);
                let time_ms = u64::try_from(opened.at_ms - began_ms).unwrap_or(0);
                moments.push(Moment { time_ms, entry });
            }
            self.waiting = moments.into_iter();
        }
    }
}

/// Makes texts of bytes that come in pieces: a character that is cut stays whole.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose rest has not come.
    held: Vec<u8>,
}

impl Utf8 {
    /// The text of `bytes` and of what was held; what can be no text stands as U+FFFD.
    pub(super) fn text(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let cut = whole_until(&all);
        self.held = all.split_off(cut);
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// Where a character begins at the end of `bytes` whose rest may still come.
fn whole_until(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let length = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        let is_cut = at + length > bytes.len()
            && matches!(std::str::from_utf8(&bytes[at..]), Err(error) if error.error_len().is_none());
        return if is_cut { at } else { bytes.len() };
    }
    bytes.len()
}

/// Writes events of a recording.
#[derive(Debug, Default)]
struct Writer {
    output: Utf8,
    input: Utf8,
}

impl Writer {
    /// The event of a moment; `None` when its text is not whole yet.
    fn event(&mut self, moment: &Moment) -> Option<RecordingEvent> {
        use RecordingEventKind::{Exit as Ended, Input, Output, Resize};
        let (kind, data) = match &moment.entry {
            Entry::Typed(bytes) => (Input, self.input.text(bytes)),
            Entry::Shown(Content::Bytes(bytes)) => (Output, self.output.text(bytes)),
            Entry::Shown(Content::Mark(Mark::Resize(size))) => {
                (Resize, format!("{}x{}", size.cols, size.rows))
            }
            Entry::Shown(Content::Mark(Mark::Exit(exit))) => (Ended, shell_code(*exit)),
            Entry::Header(_) | Entry::Shown(Content::Mark(Mark::Signal(_))) => return None,
        };
        let time_ms = moment.time_ms;
        (!data.is_empty()).then_some(RecordingEvent { time_ms, kind, data })
    }
}

fn shell_code(exit: Exit) -> String {
    exit.shell_code().to_string()
}

/// Reads events `skip` to `skip + most`, and whether there are more. Blocks.
pub(crate) fn events(
    recorded: &Recorded,
    skip: u64,
    most: usize,
) -> Result<(Vec<RecordingEvent>, u64), LogError> {
    let (mut moments, mut writer) = (Moments::of(recorded)?, Writer::default());
    let (mut found, mut count) = (Vec::new(), 0);
    while let Some(moment) = moments.next()? {
        let Some(event) = writer.event(&moment) else { continue };
        if count >= skip && found.len() < most {
            found.push(event);
        }
        count += 1;
    }
    let rest = writer.output.rest();
    if !rest.is_empty() {
        let time_ms = found.last().map_or(0, |event| event.time_ms);
        if count >= skip && found.len() < most {
            found.push(RecordingEvent { time_ms, kind: RecordingEventKind::Output, data: rest });
        }
        count += 1;
    }
    Ok((found, count))
}

/// Says that whoever wanted the export takes no more of it.
#[derive(Debug)]
struct NotWanted;

/// Hands all of a recording on; fails where that cannot be read. Blocks, also until it is taken.
pub(crate) fn export(
    recorded: &Recorded,
    format: Format,
    to: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), LogError> {
    let give = |bytes: Bytes| to.blocking_send(Ok(bytes)).map_err(|_| NotWanted);
    let exported = match format {
        Format::Bytes => export_bytes(recorded, give),
        Format::Cast => export_cast(recorded, give),
    };
    if exported.is_err() {
        // The client is told by the connection's end.
        let _ = to.blocking_send(Err(std::io::Error::other("the recording cannot be read")));
    }
    exported
}

fn export_bytes(
    recorded: &Recorded,
    give: impl Fn(Bytes) -> Result<(), NotWanted>,
) -> Result<(), LogError> {
    let mut moments = Moments::of(recorded)?;
    while let Some(moment) = moments.next()? {
        if let Entry::Shown(Content::Bytes(bytes)) = moment.entry
            && give(bytes).is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn export_cast(
    recorded: &Recorded,
    give: impl Fn(Bytes) -> Result<(), NotWanted>,
) -> Result<(), LogError> {
    let (mut moments, mut writer) = (Moments::of(recorded)?, Writer::default());
    let digest = RefCell::new(Context::new(&SHA256));
    let give = |line: String| {
        digest.borrow_mut().update(line.as_bytes());
        give(line.into())
    };
    let mut last_ms = 0;
    let mut is_first = true;
    loop {
        let moment = moments.next()?;
        if std::mem::take(&mut is_first)
            && let Some(header) = &moments.header
            && give(cast_header(&recorded.project, &recorded.id, header)).is_err()
        {
            return Ok(());
        }
        let Some(moment) = moment else { break };
        last_ms = moment.time_ms;
        let Some(event) = writer.event(&moment) else { continue };
        // Players of version 2 know no exit.
        if event.kind == RecordingEventKind::Exit {
            continue;
        }
        if give(cast_line(&event)).is_err() {
            return Ok(());
        }
    }
    for (kind, data) in [
        (RecordingEventKind::Output, writer.output.rest()),
        (RecordingEventKind::Input, writer.input.rest()),
    ] {
        if !data.is_empty() {
            let event = RecordingEvent { time_ms: last_ms, kind, data };
            if give(cast_line(&event)).is_err() {
                return Ok(());
            }
        }
    }
    let so_far = digest.borrow().clone();
    // The last of it: whether somebody takes it or not, nothing follows.
    let _ = give(cast_end(recorded, last_ms, so_far));
    Ok(())
}

/// The mark by which a file is known to be whole.
fn cast_end(recorded: &Recorded, time_ms: u64, digest: Context) -> String {
    let says = if recorded.is_complete { CAST_END } else { CAST_SO_FAR };
    let mut label = says.to_owned();
    for byte in digest.finish().as_ref() {
        write!(label, "{byte:02x}").expect("writing to a string cannot fail");
    }
    cast_event(time_ms, &json!("m"), &json!(label))
}

fn cast_header(project: &str, recording: &str, header: &Header) -> String {
    let mut cast = json!({
        "version": 2,
        "width": header.size.cols,
        "height": header.size.rows,
        "timestamp": header.started_at / 1_000,
        "env": { "TERM": header.term },
        "quarterdeck": { "project": project, "recording": recording },
    });
    if !header.argv.is_empty() {
        cast["command"] = json!(shell_words::join(&header.argv));
    }
    format!("{cast}\n")
}

fn cast_line(event: &RecordingEvent) -> String {
    cast_event(event.time_ms, &json!(event.kind), &json!(event.data))
}

fn cast_event(time_ms: u64, kind: &Value, data: &Value) -> String {
    let mut line = String::new();
    let (seconds, millis) = (time_ms / 1_000, time_ms % 1_000);
    writeln!(line, "[{seconds}.{millis:03}, {kind}, {data}]")
        .expect("writing to a string cannot fail");
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quarterdeck_protocol::tunnel::mark::Size;

    use super::*;

    #[test]
    fn a_character_that_is_cut_stays_whole() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.text("a€".as_bytes().split_at(2).0), "a");
        assert_eq!(utf8.text(&"€".as_bytes()[1..]), "€");
        assert_eq!(utf8.text(&[0xf0, 0x9f]), "");
        assert_eq!(utf8.text(b"x"), "\u{fffd}x");
        assert_eq!(utf8.text(&[0xe2, 0x82]), "");
        assert_eq!(utf8.rest(), "\u{fffd}");
    }

    proptest! {
        /// However it is cut, the text is that of the whole.
        #[test]
        fn pieces_make_the_text_of_the_whole(text in "\\PC{0,40}", cuts in prop::collection::vec(0_usize..160, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut utf8 = Utf8::default();
            let mut joined = String::new();
            for pair in cuts.windows(2) {
                joined += &utf8.text(&bytes[pair[0]..pair[1]]);
            }
            joined += &utf8.rest();
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn the_command_of_a_cast_can_be_pasted_into_a_shell() {
        let header = Header {
            started_at: 1_800_000_000_000,
            started_ms: 5_000,
            size: Size::new(80, 24).expect("not 0"),
            term: "xterm".to_owned(),
            argv: ["sh", "-c", "echo 'a b'; id"].map(str::to_owned).into(),
        };
        let cast: serde_json::Value =
            serde_json::from_str(&cast_header("p", "r", &header)).expect("JSON");
        assert_eq!(cast["quarterdeck"], json!({ "project": "p", "recording": "r" }));
        let command = cast["command"].as_str().expect("a text");
        assert_eq!(shell_words::split(command).expect("quoted"), header.argv, "{command}");
    }

    #[test]
    fn a_line_of_a_cast_is_what_players_read() {
        let event = RecordingEvent {
            time_ms: 61_005,
            kind: RecordingEventKind::Output,
            data: "a\"\u{1b}".to_owned(),
        };
        assert_eq!(cast_line(&event), "[61.005, \"o\", \"a\\\"\\u001b\"]\n");
    }
}
