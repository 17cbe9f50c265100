//! Cuts the bytes of a device into text, controls and sequences.
//!
//! ```text
//!              ESC                    [ (CSI)                 final
//!   Ground ──────────▶ Escape ──────────────────▶ Csi ───────────────────▶ Ground
//!     ▲  │               │ 0x20–0x2f  final         │ what no CSI may hold
//!     │  │ C1            ├────────────────▶ Ground  └──▶ Ignore ── final ─▶ Ground
//!     │  └───────────┐   │ ] (OSC)  P (DCS)  X ^ _ (SOS, PM, APC)
//!     │              ▼   ▼
//!     └───────────── Text ◀─┐   until ESC \, BEL (OSC), U+009C or CAN, SUB
//!        end          └─────┘
//! ```
//!
//! The states are those of ECMA-48 and of the DEC terminals: C0 controls work
//! in the midst of a sequence, ESC begins a new one, CAN and SUB end it. Text is
//! UTF-8; what is not becomes U+FFFD, one for each ill-formed part. C1 controls
//! are understood as characters (U+0080–U+009F), never as bytes, which UTF-8 needs.
//!
//! Pure, and bounded: [`PARAMS_MAX`] parameters and [`STRING_MAX_BYTES`] of a
//! string are kept. It never says what a sequence means.

use super::screen::Poured;

/// The most parameters of one sequence; more are dropped.
pub const PARAMS_MAX: usize = 32;
/// The longest string (OSC, DCS); a longer one is dropped whole.
pub const STRING_MAX_BYTES: usize = 128 * 1024;
/// The most intermediate bytes of one sequence; with more it is dropped.
const INTERMEDIATES_MAX: usize = 2;

/// Who gets what was cut.
pub trait Sink {
    /// Printable ASCII, at least one byte.
    fn ascii(&mut self, text: &[u8]);
    /// Any other character, no control.
    fn character(&mut self, c: char);
    /// A C0 control.
    fn control(&mut self, byte: u8);
    /// What follows a line feed, before it is cut: lines that need not be are taken whole.
    fn pour(&mut self, _bytes: &[u8]) -> Poured {
        Poured::default()
    }
    /// `ESC`, intermediates, final.
    fn escape(&mut self, intermediates: &[u8], last: u8);
    fn csi(&mut self, csi: &Csi);
    fn string(&mut self, kind: StringKind, text: &[u8]);
}

/// A string that a device sends to the terminal itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringKind {
    Osc,
    Dcs,
    /// SOS, PM, APC: of no use here.
    Other,
}

/// A control sequence: `CSI`, private marker, parameters, intermediates, final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Csi {
    /// One of `<=>?`, or 0.
    pub marker: u8,
    pub intermediates: [u8; INTERMEDIATES_MAX],
    pub last: u8,
    params: [u16; PARAMS_MAX],
    count: u8,
    /// Which parameters follow a colon.
    subs: u32,
    /// Which parameters have digits.
    given: u32,
}

impl Csi {
    const EMPTY: Self = Self {
        marker: 0,
        intermediates: [0; INTERMEDIATES_MAX],
        last: 0,
        params: [0; PARAMS_MAX],
        count: 0,
        subs: 0,
        given: 0,
    };

    /// The parameters, colons taken for semicolons.
    pub fn params(&self) -> &[u16] {
        &self.params[..usize::from(self.count)]
    }

    /// A parameter, or what stands for one that is missing or 0.
    pub fn or(&self, index: usize, default: u16) -> u16 {
        self.params().get(index).copied().filter(|value| *value > 0).unwrap_or(default)
    }

    /// A parameter, 0 when it is missing.
    pub fn get(&self, index: usize) -> u16 {
        self.params().get(index).copied().unwrap_or(0)
    }

    /// Whether a parameter follows a colon, as part of the one before.
    pub const fn is_sub(&self, index: usize) -> bool {
        index < PARAMS_MAX && self.subs & (1 << index) != 0
    }

    /// Whether any parameter has parts.
    pub const fn has_subs(&self) -> bool {
        self.subs != 0
    }

    /// Whether a parameter has a value.
    pub const fn is_given(&self, index: usize) -> bool {
        index < PARAMS_MAX && self.given & (1 << index) != 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    Csi,
    /// A sequence of no meaning, up to its final.
    Ignore,
    Text(StringKind),
    /// An ESC within a string: its end, when `\` follows.
    TextEscape(StringKind),
}

/// The state between two chunks.
#[derive(Debug, Clone)]
pub struct Parser {
    state: State,
    csi: Csi,
    intermediates: [u8; INTERMEDIATES_MAX],
    intermediate_count: usize,
    /// A character that a chunk cut.
    partial: [u8; 4],
    partial_len: usize,
    string: Vec<u8>,
    string_is_too_long: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Ground,
            csi: Csi::EMPTY,
            intermediates: [0; INTERMEDIATES_MAX],
            intermediate_count: 0,
            partial: [0; 4],
            partial_len: 0,
            string: Vec::new(),
            string_is_too_long: false,
        }
    }
}

impl Parser {
    /// Cuts one chunk. Where chunks begin and end makes no difference.
    pub fn advance(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Ground => self.ground(rest, sink),
                State::Escape => self.escape(rest, sink),
                State::Csi => self.csi(rest, sink),
                State::Ignore => self.ignore(rest, sink),
                State::Text(kind) => self.text(kind, rest, sink),
                State::TextEscape(kind) => self.text_escape(kind, rest, sink),
            };
        }
    }

    fn ground<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        if self.partial_len > 0 {
            return self.complete(bytes, sink);
        }
        let mut rest = bytes;
        // Another look at lines is in vain while more than this is left.
        let mut look_from = usize::MAX;
        loop {
            let plain = rest.iter().position(|b| !matches!(b, 0x20..=0x7e)).unwrap_or(rest.len());
            if plain > 0 {
                sink.ascii(&rest[..plain]);
                rest = &rest[plain..];
            }
            let Some(&byte) = rest.first() else { return rest };
            match byte {
                0x1b => {
                    let Some(length) = self.whole_csi(rest, sink) else {
                        self.start_escape();
                        return &rest[1..];
                    };
                    rest = &rest[length..];
                }
                0x7f => rest = &rest[1..],
                0x00..=0x1f => {
                    sink.control(byte);
                    rest = &rest[1..];
                    if byte == b'\n' && rest.len() <= look_from {
                        let poured = sink.pour(rest);
                        look_from = rest.len() - poured.looked;
                        rest = &rest[poured.taken..];
                    }
                }
                _ => {
                    rest = self.wide_text(rest, sink);
                    if self.state != State::Ground || self.partial_len > 0 {
                        return rest;
                    }
                }
            }
        }
    }

    /// Takes a control sequence of nothing but numbers, most often a colour, that no chunk cuts:
    /// without a stop at each byte. Says how long it was; `None` for all others.
    fn whole_csi(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Option<usize> {
        let body = bytes.strip_prefix(b"\x1b[")?;
        self.csi = Csi::EMPTY;
        let csi = &mut self.csi;
        let (mut at, mut value, mut digits) = (0, 0_u32, 0_u32);
        for (index, &byte) in body.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    value = (value * 10 + u32::from(byte - b'0')).min(u32::from(u16::MAX));
                    digits = 1;
                }
                b';' if at + 1 < PARAMS_MAX => {
                    csi.params[at] = value as u16;
                    csi.given |= digits << at;
                    (at, value, digits) = (at + 1, 0, 0);
                }
                0x40..=0x7e => {
                    csi.params[at] = value as u16;
                    csi.given |= digits << at;
                    // No parameter at all is none, not one without digits.
                    csi.count = if index == 0 { 0 } else { at as u8 + 1 };
                    csi.last = byte;
                    sink.csi(csi);
                    return Some(index + b"\x1b[".len() + 1);
                }
                _ => return None,
            }
        }
        None
    }

    /// Takes characters beyond ASCII, up to the first byte that is none of them.
    fn wide_text<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let end = bytes.iter().position(|b| *b < 0x80).unwrap_or(bytes.len());
        let (run, after) = bytes.split_at(end);
        let mut rest = run;
        loop {
            let (good, bad) = match std::str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(e) => {
                    let (good, _) = rest.split_at(e.valid_up_to());
                    (std::str::from_utf8(good).expect("it was found valid"), Some(e.error_len()))
                }
            };
            for (index, c) in good.char_indices() {
                if matches!(c, '\u{80}'..='\u{9f}') {
                    self.c1(c, sink);
                    if self.state != State::Ground {
                        return &bytes[bytes.len() - after.len() - rest.len() + index + 2..];
                    }
                } else {
                    sink.character(c);
                }
            }
            rest = &rest[good.len()..];
            match bad {
                None => return after,
                Some(None) if after.is_empty() => {
                    self.partial[..rest.len()].copy_from_slice(rest);
                    self.partial_len = rest.len();
                    return after;
                }
                Some(None) => {
                    sink.character(char::REPLACEMENT_CHARACTER);
                    return after;
                }
                Some(Some(length)) => {
                    sink.character(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
    }

    /// Goes on with a character whose beginning came with the last chunk.
    fn complete<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let byte = bytes[0];
        self.partial[self.partial_len] = byte;
        let with_it = &self.partial[..=self.partial_len];
        match std::str::from_utf8(with_it) {
            Ok(text) => {
                let c = text.chars().next().expect("a whole character");
                self.partial_len = 0;
                if matches!(c, '\u{80}'..='\u{9f}') {
                    self.c1(c, sink);
                } else {
                    sink.character(c);
                }
                &bytes[1..]
            }
            Err(e) if e.error_len().is_none() => {
                self.partial_len += 1;
                &bytes[1..]
            }
            Err(_) => {
                // The byte does not belong to it, so it is looked at anew.
                self.partial_len = 0;
                sink.character(char::REPLACEMENT_CHARACTER);
                bytes
            }
        }
    }

    /// A C1 control: what `ESC` and its seven-bit twin would be.
    fn c1(&mut self, c: char, sink: &mut impl Sink) {
        self.start_escape();
        let twin = (u32::from(c) as u8) - 0x40;
        self.escape(&[twin], sink);
    }

    fn start_escape(&mut self) {
        self.state = State::Escape;
        self.intermediates = [0; INTERMEDIATES_MAX];
        self.intermediate_count = 0;
    }

    fn escape<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let byte = bytes[0];
        let rest = &bytes[1..];
        match byte {
            0x1b => self.start_escape(),
            0x18 | 0x1a => self.state = State::Ground,
            0x00..=0x1f => sink.control(byte),
            0x20..=0x2f => self.intermediate(byte),
            b'[' if self.intermediate_count == 0 => {
                self.state = State::Csi;
                self.csi = Csi::EMPTY;
            }
            b']' | b'P' | b'X' | b'^' | b'_' if self.intermediate_count == 0 => {
                self.string.clear();
                self.string_is_too_long = false;
                self.state = State::Text(match byte {
                    b']' => StringKind::Osc,
                    b'P' => StringKind::Dcs,
                    _ => StringKind::Other,
                });
            }
            0x30..=0x7e => {
                self.state = State::Ground;
                if self.intermediate_count <= INTERMEDIATES_MAX {
                    sink.escape(&self.intermediates[..self.intermediate_count], byte);
                }
            }
            0x7f => {}
            // Text has no place here: the sequence is off, the text is not.
            0x80.. => {
                self.state = State::Ground;
                return bytes;
            }
        }
        rest
    }

    /// Keeps an intermediate byte; one too many is counted, so that the whole is dropped.
    fn intermediate(&mut self, byte: u8) {
        if let Some(place) = self.intermediates.get_mut(self.intermediate_count) {
            *place = byte;
        }
        self.intermediate_count = (self.intermediate_count + 1).min(INTERMEDIATES_MAX + 1);
    }

    fn csi<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        for (index, &byte) in bytes.iter().enumerate() {
            let csi = &mut self.csi;
            match byte {
                b'0'..=b'9' if self.intermediate_count == 0 => {
                    csi.count = csi.count.max(1);
                    let at = usize::from(csi.count) - 1;
                    if let Some(value) = csi.params.get_mut(at) {
                        *value = value.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                        csi.given |= 1 << at;
                    }
                }
                b';' | b':' if self.intermediate_count == 0 => {
                    csi.count = (csi.count.max(1) + 1).min(PARAMS_MAX as u8 + 1);
                    let at = u32::from(csi.count) - 1;
                    if byte == b':' && at < PARAMS_MAX as u32 {
                        csi.subs |= 1 << at;
                    }
                }
                b'<'..=b'?'
                    if csi.count == 0 && csi.marker == 0 && self.intermediate_count == 0 =>
                {
                    csi.marker = byte;
                }
                0x20..=0x2f => self.intermediate(byte),
                0x40..=0x7e => {
                    self.state = State::Ground;
                    csi.count = csi.count.min(PARAMS_MAX as u8);
                    csi.intermediates = self.intermediates;
                    csi.last = byte;
                    if self.intermediate_count <= INTERMEDIATES_MAX {
                        sink.csi(&self.csi);
                    }
                    return &bytes[index + 1..];
                }
                0x1b => {
                    self.start_escape();
                    return &bytes[index + 1..];
                }
                0x18 | 0x1a => {
                    self.state = State::Ground;
                    return &bytes[index + 1..];
                }
                0x00..=0x1f => sink.control(byte),
                0x7f => {}
                0x80.. => {
                    self.state = State::Ground;
                    return &bytes[index..];
                }
                b'0'..=b'?' => {
                    self.state = State::Ignore;
                    return &bytes[index + 1..];
                }
            }
        }
        &[]
    }

    fn ignore<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        match bytes[0] {
            0x1b => self.start_escape(),
            0x18 | 0x1a | 0x40..=0x7e => self.state = State::Ground,
            0x80.. => {
                self.state = State::Ground;
                return bytes;
            }
            byte @ 0x00..=0x1f => sink.control(byte),
            0x20..=0x3f | 0x7f => {}
        }
        &bytes[1..]
    }

    fn text<'a>(&mut self, kind: StringKind, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let end = bytes
            .iter()
            .position(|b| matches!(b, 0x1b | 0x18 | 0x1a | 0x07))
            .unwrap_or(bytes.len());
        let (part, rest) = bytes.split_at(end);
        // The eight-bit end, as the character U+009C. A chunk may cut it in two.
        let was_cut = self.string.last() == Some(&0xc2) && part.first() == Some(&0x9c);
        let inner = part.windows(2).position(|pair| pair == [0xc2, 0x9c]);
        if was_cut || inner.is_some() {
            if was_cut {
                self.string.pop();
            } else {
                self.keep(&part[..inner.unwrap_or(0)]);
            }
            self.finish(kind, sink);
            let used = if was_cut { 1 } else { inner.unwrap_or(0) + 2 };
            return &bytes[used..];
        }
        self.keep(part);
        let Some(&byte) = rest.first() else { return rest };
        match byte {
            0x1b => self.state = State::TextEscape(kind),
            0x07 if kind == StringKind::Osc => self.finish(kind, sink),
            0x07 => self.keep(&[byte]),
            _ => self.state = State::Ground,
        }
        &rest[1..]
    }

    fn text_escape<'a>(
        &mut self,
        kind: StringKind,
        bytes: &'a [u8],
        sink: &mut impl Sink,
    ) -> &'a [u8] {
        if bytes[0] == b'\\' {
            self.finish(kind, sink);
            return &bytes[1..];
        }
        // Another sequence begins: the string had no end and is dropped.
        self.start_escape();
        bytes
    }

    fn keep(&mut self, part: &[u8]) {
        if self.string.len() + part.len() > STRING_MAX_BYTES {
            self.string_is_too_long = true;
            self.string = Vec::new();
        }
        if !self.string_is_too_long {
            self.string.extend_from_slice(part);
        }
    }

    fn finish(&mut self, kind: StringKind, sink: &mut impl Sink) {
        self.state = State::Ground;
        if !self.string_is_too_long {
            sink.string(kind, &self.string);
        }
        self.string.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes down what it gets.
    #[derive(Default)]
    struct Log(Vec<String>);

    impl Sink for Log {
        fn ascii(&mut self, text: &[u8]) {
            for byte in text {
                self.character(char::from(*byte));
            }
        }
        fn character(&mut self, c: char) {
            self.0.push(c.to_string());
        }
        fn control(&mut self, byte: u8) {
            self.0.push(format!("^{byte:02x}"));
        }
        fn escape(&mut self, intermediates: &[u8], last: u8) {
            self.0.push(format!(
                "ESC{}{}",
                String::from_utf8_lossy(intermediates),
                char::from(last)
            ));
        }
        fn csi(&mut self, csi: &Csi) {
            let mut text = String::from("CSI");
            if csi.marker != 0 {
                text.push(char::from(csi.marker));
            }
            for (index, value) in csi.params().iter().enumerate() {
                text.push(if csi.is_sub(index) { ':' } else { ' ' });
                if csi.is_given(index) {
                    text.push_str(&value.to_string());
                }
            }
            text.extend(csi.intermediates.iter().filter(|b| **b != 0).map(|b| char::from(*b)));
            text.push(char::from(csi.last));
            self.0.push(text);
        }
        fn string(&mut self, kind: StringKind, text: &[u8]) {
            self.0.push(format!("{kind:?}({})", String::from_utf8_lossy(text)));
        }
    }

    fn cut(bytes: &[u8]) -> Vec<String> {
        let mut log = Log::default();
        Parser::default().advance(bytes, &mut log);
        log.0
    }

    #[test]
    fn bytes_become_text_controls_and_sequences() {
        for (bytes, parts) in [
            (&b"a\x08"[..], &["a", "^08"][..]),
            (b"\x1b[31;1m", &["CSI 31 1m"]),
            (b"\x1b[38:2::1:2:3m", &["CSI 38:2::1:2:3m"]),
            (b"\x1b[?25l\x1b[!p\x1b[ q", &["CSI? 25l", "CSI!p", "CSI q"]),
            (b"\x1b[;5H", &["CSI  5H"]),
            (b"\x1b(0\x1b#8\x1bM", &["ESC(0", "ESC#8", "ESCM"]),
            (b"\x1b]2;hi\x07\x1b]2;ho\x1b\\", &["Osc(2;hi)", "Osc(2;ho)"]),
            (b"\x1bP$qm\x1b\\\x1b_x\x1b\\", &["Dcs($qm)", "Other(x)"]),
            ("\u{9b}1A\u{9d}2;t\u{9c}\u{85}".as_bytes(), &["CSI 1A", "Osc(2;t)", "ESCE"]),
            // Controls work within a sequence; CAN, SUB and ESC end it.
            (b"\x1b[1\x08A", &["^08", "CSI 1A"]),
            (b"\x1b[1\x18A\x1b[2\x1b[3A", &["A", "CSI 3A"]),
            (b"\x1b]2;x\x18y\x1b]2;x\x1b[Az", &["y", "CSIA", "z"]),
            // What no sequence may hold: dropped up to its final.
            (b"\x1b[1?2hx\x1b[1$2hx", &["x", "x"]),
            // Not UTF-8: one mark for each ill-formed part.
            (b"\xff\xc3(\xe6\x97(", &["\u{fffd}", "\u{fffd}", "(", "\u{fffd}", "("]),
            ("\x1b[é日".as_bytes(), &["é", "日"]),
            (b"\x7f", &[]),
        ] {
            assert_eq!(cut(bytes), parts, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_not_kept() {
        let many = format!("\x1b[{}m", "1;".repeat(500));
        assert_eq!(cut(many.as_bytes()).len(), 1);
        assert_eq!(cut(b"\x1b[99999999A"), ["CSI 65535A"]);
        let long = format!("\x1b]2;{}\x07x", "y".repeat(STRING_MAX_BYTES));
        assert_eq!(cut(long.as_bytes()), ["x"]);
    }

    #[test]
    fn a_sequence_is_read_the_same_whole_and_byte_by_byte() {
        let ones = |n: usize| vec!["1"; n].join(";");
        let counts = (PARAMS_MAX - 1..=PARAMS_MAX + 1).flat_map(|n| [ones(n), ones(n) + ";"]);
        let values = ["", ";", "0", "65535", "65536", "99999999", "6553599;7"].map(str::to_owned);
        for params in counts.chain(values) {
            let bytes = format!("\x1b[{params}m").into_bytes();
            let (mut parser, mut log) = (Parser::default(), Log::default());
            for byte in &bytes {
                parser.advance(&[*byte], &mut log);
            }
            assert_eq!(cut(&bytes), log.0, "{params}");
            assert_eq!(log.0.len(), 1, "{params}");
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                Just(b"\x1b[".to_vec()), Just(b"\x1b]".to_vec()), Just(b"\x1b\\".to_vec()),
                Just("\u{9c}".as_bytes().to_vec()), Just("日".as_bytes().to_vec()), Just(b"12;3m".to_vec()),
            ], 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = pieces.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let (mut parser, mut log, mut from) = (Parser::default(), Log::default(), 0);
            for to in at.into_iter().chain([bytes.len()]) {
                parser.advance(&bytes[from..to], &mut log);
                from = to;
            }
            prop_assert_eq!(log.0, cut(&bytes));
        }
    }
}
