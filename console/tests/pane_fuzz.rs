//! Panes under output that no program would write: any bytes, cut anywhere, at
//! any size.
//!
//! A run is told by its seed. `just fuzz-pane` runs ten million chunks; as part
//! of the tests it is a short one.

use quarterdeck_console::tui::{
    pane::{
        Pane,
        copy::{Point, Selection, Take, Transcript},
        notices::Allowed,
        screen::{PaneSize, REPLIES_MAX_BYTES},
        widget::{self, View},
    },
    theme::{Depth, Theme, ThemeName},
};
use ratatui::{buffer::Buffer, layout::Rect};

/// Chunks of a run within the tests.
const SHORT_CHUNKS: u64 = 20_000;
/// Lines that the panes remember: few, so that forgetting happens all the time.
const HISTORY_LINES: usize = 200;
/// How many chunks go into one pane before the next one begins.
const CHUNKS_PER_PANE: u64 = 500;

/// What sequences are made of.
const TOKENS: &[&str] = &[
    "\x1b[",
    "\x1b",
    "\x1b]",
    "\x1bP",
    "\x1b\\",
    "\x1b(0",
    "\x1b(B",
    "\x0e",
    "\x0f",
    "\x1b7",
    "\x1b8",
    "\x1bD",
    "\x1bE",
    "\x1bM",
    "\x1bH",
    "\x1bc",
    "\x1b#8",
    "\x1b6",
    "\x1b9",
    "\x1b[?",
    "\x1b[>",
    "\x1b[!p",
    "\x1b[2J",
    "\x1b[K",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[?69h",
    "\x1b[?69l",
    "\x1b[?6h",
    "\x1b[?7l",
    "\x1b[?7h",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[?45h",
    "\x1b[?2026h",
    "\x1b[?2026l",
    "\x1b[1\"q",
    "\x1b[?J",
    "$x",
    "$v",
    "$z",
    "${",
    "'}",
    "'~",
    " @",
    " A",
    "$p",
    ";",
    ":",
    "m",
    "H",
    "r",
    "s",
    "u",
    "L",
    "M",
    "P",
    "@",
    "X",
    "b",
    "S",
    "T",
    "I",
    "Z",
    "h",
    "l",
    "n",
    "c",
    "t",
    "38;2;1;2;3m",
    "48:5:9m",
    "\r\n",
    "\n",
    "\r",
    "\t",
    "\x08",
    "日本語",
    "é",
    "e\u{301}",
    "❤\u{fe0f}",
    "👩\u{200d}🚀",
    "\u{202e}",
    "\u{9b}",
    "\u{9d}",
    "─",
    "52;c;aGk=\x07",
    "0;title\x07",
    "plain words ",
    "0123456789",
    "99999",
];

/// A generator that anyone can repeat (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % sides
    }

    fn chunk(&mut self, out: &mut Vec<u8>) {
        out.clear();
        for _ in 0..self.throw(12) {
            match self.throw(8) {
                0 => out.push(self.throw(256) as u8),
                1 => out.extend_from_slice(self.throw(300).to_string().as_bytes()),
                2 => out.extend((0..self.throw(40)).map(|_| b' ' + (self.0 % 95) as u8)),
                _ => {
                    let token = TOKENS[self.throw(TOKENS.len() as u64) as usize].as_bytes();
                    // Now and then a token is cut, as a message may cut it.
                    let end = if self.throw(10) == 0 {
                        self.throw(token.len() as u64) as usize
                    } else {
                        token.len()
                    };
                    out.extend_from_slice(&token[..end]);
                }
            }
        }
    }

    fn size(&mut self) -> PaneSize {
        let side = |dice: &mut Self| match dice.throw(8) {
            0 => 1,
            1 => 2,
            2 => dice.throw(300) as u16,
            _ => dice.throw(40) as u16,
        };
        PaneSize::new(side(self), side(self))
    }
}

/// What holds whatever came.
fn check(pane: &Pane, dice: &mut Dice, at: u64) {
    let screen = pane.screen();
    let (size, cursor) = (screen.size(), screen.cursor());
    assert_eq!(pane.panics(), 0, "chunk {at}");
    assert!(cursor.row < size.rows && cursor.col < size.cols, "chunk {at}: {cursor:?} in {size:?}");
    assert!(screen.history().len() <= HISTORY_LINES, "chunk {at}");
    let transcript = Transcript::new(screen);
    if dice.throw(16) == 0 {
        let area = Rect { x: 0, y: 0, width: size.cols.min(60), height: size.rows.min(20) };
        let mut buffer = Buffer::empty(area);
        let view =
            View { pane, top: Some(dice.throw(50)), selection: None, matches: &[], is_lost: false };
        let theme = Theme::new(ThemeName::Default, Depth::Indexed, true);
        widget::draw(&view, &theme, area, &mut buffer);
        for cell in &buffer.content {
            assert_eq!(
                quarterdeck_protocol::text::line(cell.symbol()),
                cell.symbol(),
                "chunk {at}"
            );
        }
    }
    if dice.throw(64) == 0 {
        let point = |dice: &mut Dice| Point {
            row: transcript.start() + dice.throw(transcript.end() - transcript.start()),
            col: dice.throw(u64::from(size.cols)) as u16,
        };
        let selection = Selection { anchor: point(dice), head: point(dice), take: Take::Text };
        std::hint::black_box(transcript.text(&selection));
        std::hint::black_box(transcript.find("plain").matches.len());
    }
}

#[test]
fn no_output_does_harm_to_a_pane() {
    let chunks = std::env::var("QUARTERDECK_FUZZ_CHUNKS")
        .map_or(SHORT_CHUNKS, |text| text.parse().expect("a number of chunks"));
    let seed = std::env::var("QUARTERDECK_FUZZ_SEED")
        .map_or(0x5eed_u64, |text| text.parse().expect("a seed, a number"));
    let mut dice = Dice(seed | 1);
    let mut bytes = Vec::new();
    let (mut total, mut resizes) = (0_u64, 0_u64);
    let mut pane = Pane::with_history(PaneSize::new(24, 80), Allowed::default(), HISTORY_LINES);
    for at in 0..chunks {
        if at % CHUNKS_PER_PANE == 0 {
            pane = Pane::with_history(dice.size(), Allowed::default(), HISTORY_LINES);
        }
        dice.chunk(&mut bytes);
        total += bytes.len() as u64;
        assert!(pane.feed(&bytes).len() <= REPLIES_MAX_BYTES, "chunk {at}");
        if dice.throw(20) == 0 {
            resizes += 1;
            pane.resize(dice.size());
        }
        if dice.throw(8) == 0 {
            pane.refresh(at * 10);
            check(&pane, &mut dice, at);
        }
    }
    println!("{chunks} chunks, {total} bytes, {resizes} resizes, seed {seed}: no harm");
}
