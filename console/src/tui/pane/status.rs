//! The line under a pane: whose it is, and whether what it shows is true.
//!
//! Pure. What matters most is what stays on a narrow screen.

use quarterdeck_protocol::tunnel::session::{Mode, Watcher};
use unicode_width::UnicodeWidthStr;

use super::notices::Refused;
use crate::tui::{format, theme::Tone};

/// The longest title that is shown, in characters.
const TITLE_MAX_CHARS: usize = 40;
/// The rank of what the device asked for in vain.
const REFUSED: u8 = 4;

/// How the stream of a pane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// It was asked for, and there is no answer yet.
    Opening { age_ms: i64 },
    /// The last word is younger than the link's heartbeat.
    Live,
    /// Nothing is heard, since when in milliseconds ago.
    Stalled { age_ms: i64 },
    /// The connection is gone; the console tries again by itself.
    Lost { age_ms: i64 },
    /// The operator left it; its program runs on.
    Detached,
    /// Another console is its owner now; its program runs on.
    TakenOver,
    /// There is nothing more to come.
    Ended,
}

/// Who is attached beside this console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others {
    pub has_owner: bool,
    pub copilots: u64,
    pub watchers: u64,
}

impl Others {
    /// Those of all who are attached, without the console itself, which is there in this mode.
    pub fn beside(own: Mode, all: &[Watcher]) -> Self {
        let count = |mode| {
            let n = all.iter().filter(|watcher| watcher.mode == mode).count() as u64;
            n.saturating_sub(u64::from(mode == own))
        };
        Self {
            has_owner: count(Mode::Owner) > 0,
            copilots: count(Mode::Copilot),
            watchers: count(Mode::Watch),
        }
    }

    /// Who else may type.
    fn typists(self, own: Mode) -> Option<String> {
        let owner = (self.has_owner && own != Mode::Owner).then(|| "owner".to_owned());
        let copilots = (self.copilots > 0).then(|| format::plural(self.copilots, "co-pilot"));
        let typists: Vec<String> = owner.into_iter().chain(copilots).collect();
        (!typists.is_empty()).then(|| typists.join(", "))
    }

    fn watchers(self) -> Option<String> {
        match self.watchers {
            0 => None,
            1 => Some("1 watches".to_owned()),
            n => Some(format!("{} watch", format::count(n))),
        }
    }
}

/// All that the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status<'a> {
    /// Its name: the device's, or what the operator called it.
    pub name: &'a str,
    /// What its program calls itself, where devices may say so; else empty.
    pub title: &'a str,
    pub stream: Stream,
    /// The time of a round trip, once one was measured.
    pub rtt_ms: Option<i64>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub is_recording: bool,
    pub others: Others,
    pub mode: Mode,
    /// Milliseconds until it ends because nothing happens.
    pub idle_ms_left: Option<i64>,
    /// What is typed goes to all panes of the tab.
    pub is_synchronised: bool,
    /// Keys that wait for the connection, when the operator chose that they wait.
    pub queued_keys: Option<usize>,
    /// How many rows the view is scrolled back.
    pub scrolled: u64,
    /// Whether the prefix key was pressed.
    pub is_prefixed: bool,
    pub refused: Refused,
    /// How many panics were contained in this pane.
    pub panics: u32,
}

/// A piece of the line. Untrusted text passes through the canvas like all text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub text: String,
    pub tone: Tone,
}

/// The pieces that fit a width, two cells apart: each that the more important ones leave room for.
pub fn parts(status: &Status<'_>, width: u16, unicode: bool) -> Vec<Part> {
    let part = |text: String, tone| Some(Part { text, tone });
    let (word, tone) = match status.stream {
        Stream::Live => ("LIVE".to_owned(), Tone::Good),
        Stream::Stalled { age_ms } => (format!("STALLED {}", format::age_ms(age_ms)), Tone::Warn),
        Stream::Lost { age_ms } => (format!("LOST {}", format::age_ms(age_ms)), Tone::Alarm),
        Stream::Opening { age_ms } if age_ms < 1_000 => ("OPENING".to_owned(), Tone::Busy),
        Stream::Opening { age_ms } => (format!("OPENING {}", format::age_ms(age_ms)), Tone::Busy),
        Stream::Detached => ("DETACHED".to_owned(), Tone::Muted),
        Stream::TakenOver => ("TAKEN OVER".to_owned(), Tone::Muted),
        Stream::Ended => ("ENDED".to_owned(), Tone::Muted),
    };
    let is_lost = matches!(status.stream, Stream::Lost { .. });
    // In the order that they are shown in; the lower a rank, the sooner it has room.
    let all = [
        (0, part(word, tone)),
        (3, part(quarterdeck_protocol::text::line(status.name).into_owned(), Tone::Strong)),
        (1, status.is_prefixed.then(|| Part { text: "prefix: ? helps".into(), tone: Tone::Key })),
        (
            3,
            match status.queued_keys {
                Some(bytes) if is_lost => {
                    part(format!("{} queued", format::bytes(bytes as u64)), Tone::Warn)
                }
                None if is_lost => part("keys are not sent".into(), Tone::Warn),
                _ => None,
            },
        ),
        (
            1,
            status
                .is_synchronised
                .then(|| Part { text: "INTO ALL PANES".into(), tone: Tone::Alarm }),
        ),
        (
            2,
            status
                .idle_ms_left
                .and_then(|ms| part(format!("idle: ends in {}", format::age_ms(ms)), Tone::Warn)),
        ),
        (
            3,
            match status.mode {
                Mode::Owner => None,
                Mode::Copilot => part("CO-PILOT".into(), Tone::Accent),
                Mode::Watch => part("WATCHING".into(), Tone::Accent),
            },
        ),
        (
            5,
            (status.scrolled > 0).then(|| Part {
                text: format!("{} rows back", status.scrolled),
                tone: Tone::Accent,
            }),
        ),
        (6, status.is_recording.then(|| Part { text: "REC".into(), tone: Tone::Bad })),
        (5, status.others.typists(status.mode).and_then(|text| part(text, Tone::Warn))),
        (7, status.others.watchers().and_then(|text| part(text, Tone::Accent))),
        (REFUSED, status.refused.marker().map(|text| Part { text, tone: Tone::Warn })),
        (
            8,
            (status.panics > 0).then(|| Part {
                text: format!("rebuilt {} times: a part may be missing", status.panics),
                tone: Tone::Warn,
            }),
        ),
        (
            11,
            (!status.title.is_empty())
                .then(|| Part { text: title(status.title), tone: Tone::Muted }),
        ),
        (
            9,
            // What was measured before tells nothing of a stream that stands.
            status
                .rtt_ms
                .filter(|_| status.stream == Stream::Live)
                .and_then(|ms| part(format!("rtt {}", format::duration_ms(ms)), Tone::Muted)),
        ),
        (
            10,
            part(
                {
                    let (up, down) = if unicode { ("↑", "↓") } else { ("up ", "down ") };
                    let [sent, got] = [status.bytes_up, status.bytes_down].map(format::bytes);
                    format!("{up}{sent} {down}{got}")
                },
                Tone::Muted,
            ),
        ),
    ];
    let mut all: Vec<(u8, Part)> =
        all.into_iter().filter_map(|(rank, part)| Some((rank, part?))).collect();
    let mut by_rank: Vec<usize> = (0..all.len()).collect();
    by_rank.sort_by_key(|at| all[*at].0);
    let mut room = usize::from(width);
    let mut fits = vec![false; all.len()];
    for at in by_rank {
        let gap = if fits.contains(&true) { 2 } else { 0 };
        let need = |part: &Part| UnicodeWidthStr::width(part.text.as_str()) + gap;
        let (rank, part) = &mut all[at];
        if *rank == REFUSED && need(part) > room {
            // A device makes this as long as it likes; so the fact alone is said.
            "refused".clone_into(&mut part.text);
        }
        let need = need(part);
        if need <= room {
            room -= need;
            fits[at] = true;
        } else if fits.iter().all(|fits| !fits) {
            // Without the state the rest tells nothing.
            return Vec::new();
        }
    }
    all.into_iter().zip(fits).filter(|(_, fits)| *fits).map(|((_, part), _)| part).collect()
}

/// A title in quotes, so that nobody takes it for our own words, and not too long.
fn title(text: &str) -> String {
    let text = quarterdeck_protocol::text::line(text);
    let kept: String = text.chars().take(TITLE_MAX_CHARS).collect();
    let more = if kept.len() < text.len() { "..." } else { "" };
    format!("\"{kept}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(stream: Stream) -> Status<'static> {
        Status {
            name: "pi-1\u{202e}",
            title: "",
            stream,
            rtt_ms: Some(41),
            bytes_up: 812,
            bytes_down: 4200,
            is_recording: true,
            others: Others { has_owner: false, copilots: 1, watchers: 2 },
            mode: Mode::Owner,
            idle_ms_left: None,
            is_synchronised: false,
            queued_keys: None,
            scrolled: 0,
            is_prefixed: false,
            refused: Refused { clipboard: 1, ..Refused::default() },
            panics: 0,
        }
    }

    fn line(status: &Status<'_>, width: u16) -> String {
        let parts: Vec<_> = parts(status, width, true).into_iter().map(|part| part.text).collect();
        parts.join("  ")
    }

    #[test]
    fn the_line_says_how_true_the_picture_is() {
        assert_eq!(
            line(&status(Stream::Live), 120),
            "LIVE  pi-1<U+202E>  REC  1 co-pilot  2 watch  refused: clipboard  rtt 41ms  \
             ↑812 B ↓4.2 KB"
        );
        assert_eq!(
            line(&status(Stream::Lost { age_ms: 12_000 }), 50),
            "LOST 12s  pi-1<U+202E>  keys are not sent  refused"
        );
        for stream in [Stream::Stalled { age_ms: 3_000 }, Stream::Lost { age_ms: 3_000 }] {
            assert!(!line(&status(stream), 120).contains("rtt"), "{stream:?}");
        }
        let queued = Status { queued_keys: Some(3), ..status(Stream::Lost { age_ms: 90_000 }) };
        assert!(line(&queued, 50).contains("3 B queued"));
        let idle = Status { idle_ms_left: Some(42_000), mode: Mode::Watch, ..status(Stream::Live) };
        assert!(line(&idle, 60).contains("idle: ends in 42s  WATCHING"));
        assert_eq!(line(&status(Stream::Opening { age_ms: 2_500 }), 12), "OPENING 2s");
        assert_eq!(line(&status(Stream::Stalled { age_ms: 3000 }), 14), "STALLED 3s");
        assert_eq!(line(&status(Stream::Live), 3), "");
        assert_eq!(line(&status(Stream::Detached), 8), "DETACHED");
        assert_eq!(line(&status(Stream::TakenOver), 10), "TAKEN OVER");
        let named = Status { title: "LIVE\u{1b}[m", ..status(Stream::Live) };
        assert!(line(&named, 120).contains("refused: clipboard  \"LIVE^[[m\"  rtt"));
        let long = "x".repeat(100);
        assert!(line(&Status { title: &long, ..named }, 200).contains("xxx...\""));
    }

    #[test]
    fn what_does_not_fit_takes_no_room_from_what_does() {
        let long = "a-device-with-a-name-of-many-words";
        let idle = Status { name: long, idle_ms_left: Some(42_000), ..status(Stream::Live) };
        assert_eq!(line(&idle, 48), "LIVE  idle: ends in 42s  REC  refused: clipboard");
        assert_eq!(line(&idle, 37), "LIVE  idle: ends in 42s  REC  refused");
        assert_eq!(line(&idle, 28), "LIVE  idle: ends in 42s  REC");
        assert_eq!(line(&idle, 24), "LIVE  idle: ends in 42s");
        let live = Status { name: long, ..status(Stream::Live) };
        assert_eq!(line(&live, 40), "LIVE  a-device-with-a-name-of-many-words");
        assert_eq!(line(&live, 39), "LIVE  1 co-pilot  refused: clipboard");
        // A mark that a device makes long leaves the name its room, and stays.
        let refused = Refused { clipboard: 99_999, titles: 99_999, notifications: 99_999 };
        let shown = "LIVE  a-device-with-a-name-of-many-words  REC  refused";
        assert_eq!(line(&Status { refused, ..live }, 60), shown);
    }

    #[test]
    fn who_else_is_there_is_told_by_what_they_may_do() {
        use Mode::{Copilot, Owner, Watch};
        let since = quarterdeck_protocol::time::Timestamp::from_millis(0);
        let told = |own, modes: &[Mode]| {
            let all: Vec<Watcher> = modes
                .iter()
                .map(|mode| Watcher { user: "ann".to_owned(), mode: *mode, since })
                .collect();
            let others = Others::beside(own, &all);
            [others.typists(own), others.watchers()].map(Option::unwrap_or_default)
        };
        assert_eq!(told(Owner, &[]), ["", ""], "before the server has said who is there");
        assert_eq!(told(Owner, &[Owner]), ["", ""]);
        assert_eq!(told(Owner, &[Owner, Copilot]), ["1 co-pilot", ""]);
        assert_eq!(told(Owner, &[Owner, Watch, Copilot, Copilot]), ["2 co-pilots", "1 watches"]);
        assert_eq!(told(Watch, &[Owner, Watch, Copilot]), ["owner, 1 co-pilot", ""]);
        assert_eq!(told(Copilot, &[Copilot, Watch, Watch]), ["", "2 watch"], "nobody owns it now");
    }
}
