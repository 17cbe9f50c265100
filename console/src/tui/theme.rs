//! All colours and glyphs.
//!
//! A view asks for a [`Tone`], a role such as "bad" or "muted", and for glyphs
//! by name; what they look like is decided here alone: by the theme, by how
//! many colours the terminal has, and by whether it shows Unicode. A status is
//! always a glyph and a word; its colour only repeats what they say.
//!
//! Colours come from the 256-colour palette: half the bytes of true colour on
//! every change, and the same look on every terminal that matters.

use clap::ValueEnum;
use quarterdeck_protocol::{
    api::{AuditOutcome, Device, RecordingStatus, Severity, TunnelStatus},
    command::CommandStatus,
    device::DeviceStatus,
};
use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Attributes only (`NO_COLOR`, monochrome terminals).
    None,
    Ansi16,
    Indexed,
}

/// The themes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThemeName {
    #[default]
    Default,
    HighContrast,
    ColourBlind,
}

/// What a piece of text is, as far as its looks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Text,
    /// Secondary: labels, ages, units.
    Muted,
    /// Rules, empty parts of bars, placeholders.
    Faint,
    /// What matters on a line.
    Strong,
    /// Names of things one can go to, focus, the cursor's marker.
    Accent,
    Good,
    Busy,
    Waiting,
    Warn,
    Bad,
    /// The row under the cursor.
    Selected,
    /// A marked row.
    Marked,
    /// The header line.
    Bar,
    /// A key in the footer and in menus.
    Key,
    /// A badge that must be seen: LOST, DANGER.
    Alarm,
    /// The chosen button or tab.
    Chosen,
    /// What a text field stands on.
    Field,
    /// Part of a name that a search matched.
    Match,
}

/// A tone in 256 colours and in 16: foreground, background, attributes.
struct Paint {
    indexed: (u8, u8),
    ansi: (Color, Color),
    attributes: Modifier,
    /// What it is without colour.
    mono: Modifier,
}

/// No colour of its own (index 0 is never used otherwise).
const X: u8 = 0;
const R: Color = Color::Reset;
const NONE: Modifier = Modifier::empty();

const fn paint(
    indexed: (u8, u8),
    ansi: (Color, Color),
    attributes: Modifier,
    mono: Modifier,
) -> Paint {
    Paint { indexed, ansi, attributes, mono }
}

impl Tone {
    const fn paint(self, theme: ThemeName) -> Paint {
        use ThemeName::{ColourBlind, Default, HighContrast};
        let bold = Modifier::BOLD;
        let reversed = Modifier::REVERSED;
        let bold_reversed = Modifier::BOLD.union(Modifier::REVERSED);
        match (self, theme) {
            (Self::Text, HighContrast) => paint((231, X), (Color::White, R), NONE, NONE),
            (Self::Text, _) => paint((X, X), (R, R), NONE, NONE),
            (Self::Muted | Self::Waiting, HighContrast) => {
                paint((252, X), (Color::White, R), NONE, NONE)
            }
            (Self::Muted, _) => paint((246, X), (Color::Gray, R), NONE, NONE),
            (Self::Faint, HighContrast) => paint((250, X), (Color::Gray, R), NONE, NONE),
            (Self::Faint, _) => paint((240, X), (Color::DarkGray, R), NONE, Modifier::DIM),
            (Self::Strong, HighContrast) => paint((231, X), (Color::White, R), bold, bold),
            (Self::Strong, _) => paint((X, X), (R, R), bold, bold),
            (Self::Accent, HighContrast) => paint((123, X), (Color::LightCyan, R), bold, bold),
            (Self::Accent, _) => paint((111, X), (Color::LightBlue, R), NONE, bold),
            (Self::Good, HighContrast) => paint((120, X), (Color::LightGreen, R), bold, NONE),
            (Self::Good, ColourBlind) => paint((39, X), (Color::LightBlue, R), NONE, NONE),
            (Self::Good, Default) => paint((114, X), (Color::Green, R), NONE, NONE),
            (Self::Busy, HighContrast) => paint((123, X), (Color::LightCyan, R), bold, NONE),
            (Self::Busy, ColourBlind) => paint((117, X), (Color::Cyan, R), NONE, NONE),
            (Self::Busy, Default) => paint((80, X), (Color::Cyan, R), NONE, NONE),
            (Self::Waiting, _) => paint((146, X), (Color::Gray, R), NONE, NONE),
            (Self::Warn, HighContrast) => paint((227, X), (Color::LightYellow, R), bold, bold),
            (Self::Warn, ColourBlind) => paint((227, X), (Color::LightYellow, R), NONE, bold),
            (Self::Warn, Default) => paint((221, X), (Color::Yellow, R), NONE, bold),
            (Self::Bad, HighContrast) => paint((210, X), (Color::LightRed, R), bold, bold),
            (Self::Bad, ColourBlind) => paint((208, X), (Color::LightRed, R), bold, bold),
            (Self::Bad, Default) => paint((203, X), (Color::LightRed, R), NONE, bold),
            // Dark enough for every other tone upon it.
            (Self::Selected, HighContrast) => {
                paint((231, 19), (Color::White, Color::Blue), bold, reversed)
            }
            (Self::Selected, _) => paint((255, 237), (Color::White, Color::Blue), NONE, reversed),
            (Self::Marked, ColourBlind) => {
                paint((227, X), (Color::LightYellow, R), NONE, Modifier::UNDERLINED)
            }
            (Self::Marked, _) => paint((222, X), (Color::Yellow, R), NONE, Modifier::UNDERLINED),
            (Self::Bar, HighContrast) => paint((231, 16), (Color::White, Color::Black), bold, NONE),
            (Self::Bar, _) => paint((252, 235), (Color::White, Color::Black), NONE, NONE),
            (Self::Key, _) => paint((180, X), (Color::Yellow, R), NONE, bold),
            (Self::Alarm, ColourBlind) => {
                paint((16, 208), (Color::Black, Color::LightYellow), bold, bold_reversed)
            }
            (Self::Alarm, _) => paint((231, 160), (Color::White, Color::Red), bold, bold_reversed),
            (Self::Chosen, HighContrast) => {
                paint((16, 227), (Color::Black, Color::LightYellow), bold, bold_reversed)
            }
            (Self::Chosen, _) => {
                paint((234, 111), (Color::Black, Color::LightBlue), bold, bold_reversed)
            }
            (Self::Field, HighContrast) => {
                paint((231, 238), (Color::White, Color::Black), NONE, Modifier::UNDERLINED)
            }
            (Self::Field, _) => {
                paint((252, 236), (Color::White, Color::Black), NONE, Modifier::UNDERLINED)
            }
            (Self::Match, _) => {
                paint((222, X), (Color::LightYellow, R), bold, Modifier::UNDERLINED)
            }
        }
    }
}

/// How things look: colours by tone, glyphs by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    pub name: ThemeName,
    pub depth: Depth,
    pub unicode: bool,
    pub glyphs: &'static Glyphs,
}

impl Theme {
    pub const fn new(name: ThemeName, depth: Depth, unicode: bool) -> Self {
        Self { name, depth, unicode, glyphs: if unicode { &UNICODE } else { &ASCII } }
    }

    /// The look of a tone. What it does not say (most tones have no background) stays as it is,
    /// so a text upon a bar or a selected row keeps its ground.
    pub fn style(&self, tone: Tone) -> Style {
        let paint = tone.paint(self.name);
        let (fg, bg) = match self.depth {
            Depth::None => return Style::new().add_modifier(paint.mono),
            Depth::Ansi16 => paint.ansi,
            Depth::Indexed => (indexed(paint.indexed.0), indexed(paint.indexed.1)),
        };
        let own = |color| (color != Color::Reset).then_some(color);
        Style { fg: own(fg), bg: own(bg), ..Style::new() }.add_modifier(paint.attributes)
    }
}

const fn indexed(index: u8) -> Color {
    if index == X { Color::Reset } else { Color::Indexed(index) }
}

/// Every glyph that is not a letter.
#[derive(Debug, PartialEq, Eq)]
pub struct Glyphs {
    pub ellipsis: &'static str,
    pub crumb: &'static str,
    pub horizontal: &'static str,
    pub vertical: &'static str,
    /// Top left, top right, bottom left, bottom right.
    pub corners: [&'static str; 4],
    pub cursor: &'static str,
    pub mark: &'static str,
    pub scroll_thumb: &'static str,
    pub scroll_track: &'static str,
    pub ascending: &'static str,
    pub descending: &'static str,
    pub bar_full: &'static str,
    /// Parts of a cell from the left, growing; empty when there are none.
    pub bar_parts: &'static [&'static str],
    pub bar_empty: &'static str,
    /// Heights from none to full.
    pub spark: &'static [&'static str],
    pub big_full: &'static str,
    pub big_upper: &'static str,
    pub big_lower: &'static str,
    pub dot: &'static str,
    pub live: &'static str,
    pub lost: &'static str,
    pub pending: &'static str,
    pub danger: &'static str,
    pub on: &'static str,
    pub off: &'static str,
    pub radio_on: &'static str,
    pub radio_off: &'static str,
    pub slider: &'static str,
    pub arrow_right: &'static str,
    pub open: &'static str,
    pub closed: &'static str,
    pub yes: &'static str,
    pub no: &'static str,
    pub updown: &'static str,
    pub frozen: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    ellipsis: "…",
    crumb: "›",
    horizontal: "─",
    vertical: "│",
    corners: ["╭", "╮", "╰", "╯"],
    cursor: "▌",
    mark: "◆",
    scroll_thumb: "┃",
    scroll_track: "│",
    ascending: "▴",
    descending: "▾",
    bar_full: "━",
    bar_parts: &["╸"],
    bar_empty: "─",
    spark: &[" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    big_full: "█",
    big_upper: "▀",
    big_lower: "▄",
    dot: "·",
    live: "●",
    lost: "✗",
    pending: "◌",
    danger: "▲",
    on: "✓",
    off: " ",
    radio_on: "◉",
    radio_off: "○",
    slider: "●",
    arrow_right: "→",
    open: "▾",
    closed: "▸",
    yes: "✓",
    no: "✗",
    updown: "↑↓",
    frozen: "‖",
};

const ASCII: Glyphs = Glyphs {
    ellipsis: "~",
    crumb: ">",
    horizontal: "-",
    vertical: "|",
    corners: ["+", "+", "+", "+"],
    cursor: ">",
    mark: "*",
    scroll_thumb: "#",
    scroll_track: "|",
    ascending: "^",
    descending: "v",
    bar_full: "#",
    bar_parts: &[],
    bar_empty: ".",
    spark: &[" ", "_", ".", "-", "=", "+", "*", "%", "#"],
    big_full: "#",
    big_upper: "\"",
    big_lower: "_",
    dot: "-",
    live: "*",
    lost: "x",
    pending: "?",
    danger: "!",
    on: "x",
    off: " ",
    radio_on: "(*)",
    radio_off: "( )",
    slider: "O",
    arrow_right: "->",
    open: "v",
    closed: ">",
    yes: "+",
    no: "x",
    updown: "^v",
    frozen: "=",
};

/// How a status is shown: always its glyph and its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badge {
    pub glyph: &'static str,
    pub word: &'static str,
    pub tone: Tone,
}

impl Badge {
    /// The tone of its word: as it should be is said quietly, so that the rest is seen.
    pub const fn word_tone(self) -> Tone {
        match self.tone {
            Tone::Good => Tone::Muted,
            other => other,
        }
    }
}

impl Theme {
    const fn badge(
        &self,
        unicode: &'static str,
        ascii: &'static str,
        word: &'static str,
        tone: Tone,
    ) -> Badge {
        Badge { glyph: if self.unicode { unicode } else { ascii }, word, tone }
    }

    pub const fn command(&self, status: CommandStatus) -> Badge {
        match status {
            CommandStatus::Queued => self.badge("○", "o", "queued", Tone::Waiting),
            CommandStatus::Published => self.badge("◔", ".", "published", Tone::Waiting),
            CommandStatus::Accepted => self.badge("◑", ":", "accepted", Tone::Busy),
            CommandStatus::ExecutionStarted => self.badge("▸", ">", "running", Tone::Busy),
            CommandStatus::AwaitingReconnect => self.badge("↻", "@", "rebooting", Tone::Busy),
            CommandStatus::Completed => self.badge("✓", "+", "completed", Tone::Good),
            CommandStatus::Failed => self.badge("✗", "x", "failed", Tone::Bad),
            CommandStatus::TimedOut => self.badge("◷", "t", "timed out", Tone::Bad),
            CommandStatus::Expired => self.badge("⊗", "e", "expired", Tone::Warn),
            CommandStatus::Cancelled => self.badge("⊘", "-", "cancelled", Tone::Muted),
            CommandStatus::BlockedSafety => self.badge("⊠", "#", "blocked", Tone::Warn),
        }
    }

    pub const fn device(&self, status: DeviceStatus) -> Badge {
        match status {
            DeviceStatus::Online => self.badge("●", "*", "online", Tone::Good),
            DeviceStatus::Stale => self.badge("◐", "~", "stale", Tone::Warn),
            DeviceStatus::Offline => self.badge("○", "o", "offline", Tone::Bad),
            DeviceStatus::Retired => self.badge("⊖", "-", "retired", Tone::Muted),
        }
    }

    /// A device's status, with a question mark while the server has not heard of it again.
    pub const fn presence(&self, device: &Device) -> Badge {
        match (device.unheard_since, device.status) {
            (Some(_), DeviceStatus::Online) => self.badge("◌", "?", "online?", Tone::Warn),
            (Some(_), DeviceStatus::Stale) => self.badge("◌", "?", "stale?", Tone::Warn),
            (_, status) => self.device(status),
        }
    }

    pub const fn severity(&self, severity: Severity) -> Badge {
        match severity {
            Severity::Critical => self.badge("▲", "!", "critical", Tone::Bad),
            Severity::Warning => self.badge("△", "w", "warning", Tone::Warn),
            Severity::Info => self.badge("·", "i", "info", Tone::Muted),
        }
    }

    pub const fn tunnel(&self, status: TunnelStatus) -> Badge {
        match status {
            TunnelStatus::Opening => self.badge("◌", ".", "opening", Tone::Waiting),
            TunnelStatus::Open => self.badge("●", "*", "open", Tone::Good),
            TunnelStatus::Stalled => self.badge("◐", "~", "stalled", Tone::Warn),
            TunnelStatus::Closed => self.badge("○", "o", "closed", Tone::Muted),
            TunnelStatus::Failed => self.badge("✗", "x", "failed", Tone::Bad),
        }
    }

    pub const fn recording(&self, status: RecordingStatus) -> Badge {
        match status {
            RecordingStatus::Recording => self.badge("●", "*", "recording", Tone::Busy),
            RecordingStatus::Complete => self.badge("✓", "+", "complete", Tone::Good),
            RecordingStatus::Incomplete => self.badge("◐", "~", "incomplete", Tone::Warn),
        }
    }

    pub const fn audit(&self, outcome: AuditOutcome) -> Badge {
        match outcome {
            AuditOutcome::Ok => self.badge("✓", "+", "ok", Tone::Good),
            AuditOutcome::Denied => self.badge("⊘", "-", "denied", Tone::Warn),
            AuditOutcome::Failed => self.badge("✗", "x", "failed", Tone::Bad),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn no_two_statuses_share_a_glyph_and_each_is_one_cell() {
        for unicode in [true, false] {
            let theme = Theme::new(ThemeName::Default, Depth::None, unicode);
            let badges = CommandStatus::ALL.map(|status| theme.command(status));
            for (at, badge) in badges.iter().enumerate() {
                assert_eq!(badge.glyph.width(), 1, "{badge:?}");
                assert!(unicode || badge.glyph.is_ascii());
                assert!(badges[at + 1..].iter().all(|other| other.glyph != badge.glyph));
            }
        }
    }

    #[test]
    fn no_tone_is_lost_on_the_selected_row() {
        for &name in ThemeName::value_variants() {
            let theme = Theme::new(name, Depth::Indexed, true);
            let ground = theme.style(Tone::Selected).bg;
            for tone in [Tone::Text, Tone::Muted, Tone::Good, Tone::Bad, Tone::Warn, Tone::Busy] {
                let ink = theme.style(Tone::Selected).patch(theme.style(tone)).fg;
                assert_ne!(ink, ground, "{name:?} {tone:?}");
                // The upper half of the palette's own shades, on a dark one.
                assert!(matches!(ink, Some(Color::Indexed(30..=231 | 246..=255))), "{ink:?}");
                assert!(matches!(ground, Some(Color::Indexed(16..=20 | 232..=240))));
            }
        }
    }

    #[test]
    fn without_colour_nothing_has_one() {
        let theme = Theme::new(ThemeName::Default, Depth::None, true);
        for tone in [Tone::Bad, Tone::Selected, Tone::Alarm, Tone::Good, Tone::Bar] {
            let style = theme.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
    }
}
