//! What the terminal can, told from the environment.
//!
//! Pure: the environment is given. Nothing is asked of the terminal itself,
//! which over a slow link would cost a round trip before the first screen.

use super::frame::Abilities;
use crate::tui::{
    TuiOptions,
    theme::{Depth, Theme},
};

/// What the terminal can, and what the operator wishes.
#[derive(Debug, Clone)]
pub struct Caps {
    pub theme: Theme,
    pub abilities: Abilities,
    pub low_bandwidth: bool,
    /// Takes a title (OSC 2) and the clipboard (OSC 52).
    pub takes_osc: bool,
    pub mouse: bool,
}

impl Caps {
    /// Reads the environment through `env`.
    pub fn detect(options: &TuiOptions, env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let no_color = options.no_color.unwrap_or_else(|| set("NO_COLOR").is_some());
        let depth = if no_color || term == "dumb" || term.starts_with("vt") {
            Depth::None
        } else if set("COLORTERM").is_some()
            || term.contains("256color")
            || term.contains("kitty")
            || term.contains("direct")
            || term.starts_with("alacritty")
            || term.starts_with("foot")
            || term.starts_with("wezterm")
            || term.starts_with("xterm-ghostty")
        {
            Depth::Indexed
        } else {
            Depth::Ansi16
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        // The Linux console has too few glyphs for ours.
        let ascii = options.ascii.unwrap_or(!utf8 || term == "linux" || term == "dumb");
        let is_screen = term.starts_with("screen") && set("TMUX").is_none();
        Self {
            theme: Theme::new(options.theme, depth, !ascii),
            abilities: Abilities {
                erases_with_background: !is_screen && depth != Depth::None,
                scroll_regions: term != "dumb",
                synchronized: term != "dumb" && term != "linux" && !term.starts_with("vt"),
            },
            low_bandwidth: options.low_bandwidth,
            takes_osc: !matches!(term.as_str(), "dumb" | "linux") && !term.starts_with("vt"),
            mouse: options.mouse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(options: &TuiOptions, pairs: &[(&str, &str)]) -> Caps {
        Caps::detect(options, |name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides_unless_the_operator_does() {
        let options = TuiOptions::default();
        let modern = caps(&options, &[("TERM", "xterm-256color"), ("LANG", "en_US.UTF-8")]);
        assert_eq!((modern.theme.depth, modern.theme.unicode), (Depth::Indexed, true));
        let plain = caps(&options, &[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]);
        assert_eq!((plain.theme.depth, plain.theme.unicode), (Depth::Ansi16, false));
        let none = caps(&options, &[("TERM", "xterm-256color"), ("NO_COLOR", "1")]);
        assert_eq!(none.theme.depth, Depth::None);
        let empty = caps(&options, &[("TERM", "xterm-256color"), ("NO_COLOR", "")]);
        assert_eq!(empty.theme.depth, Depth::Indexed);
        let asked = TuiOptions { ascii: Some(true), ..TuiOptions::default() };
        assert!(!caps(&asked, &[("LANG", "de_DE.UTF-8")]).theme.unicode);
    }
}
