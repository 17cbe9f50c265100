//! The `:` palette: every screen by its name, every action by its title.

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{AtomKind, CaseMatching, Normalization, Pattern},
};

use super::{
    App,
    actions::{ACTIONS, Action},
    field::TextField,
    home,
};

/// The palette while it is open.
#[derive(Debug, Clone, Default)]
pub struct Palette {
    pub field: TextField,
    pub cursor: usize,
    pub entries: Vec<Entry>,
}

/// A line of the palette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub title: String,
    pub action: Action,
    pub key: Option<String>,
    /// Why it cannot be done now.
    pub refused: Option<String>,
    /// The screen that it goes to first: here it has nothing to act on.
    pub leads_to: Option<&'static str>,
    /// Which characters of the title the typed text matched.
    pub matched: Vec<u32>,
}

impl Palette {
    /// Everything that can be typed, in the order of the table: screens first.
    pub fn open(app: &App) -> Self {
        let mut palette = Self::default();
        palette.search(app);
        palette
    }

    /// Finds what the typed text may mean, best first.
    pub fn search(&mut self, app: &App) {
        let typed = self.field.text().trim().to_owned();
        let mut matcher = Matcher::new(Config::DEFAULT);
        let pattern =
            Pattern::new(&typed, CaseMatching::Ignore, Normalization::Smart, AtomKind::Fuzzy);
        let mut found: Vec<(u32, usize, Entry)> = Vec::new();
        for (at, spec) in ACTIONS.iter().enumerate() {
            let is_screen = matches!(spec.action, Action::Screen(_));
            let is_here = home::is_here(app, spec);
            let title = if is_screen { spec.title.to_lowercase() } else { spec.title.to_owned() };
            let mut buffer = Vec::new();
            let mut matched = Vec::new();
            let score = if typed.is_empty() {
                Some(0)
            } else {
                let haystack = Utf32Str::new(&title, &mut buffer);
                pattern.indices(haystack, &mut matcher, &mut matched)
            };
            let Some(mut score) = score else { continue };
            // A name typed in full is what is meant.
            if title.eq_ignore_ascii_case(&typed) || spec.id == typed {
                score += 10_000;
            } else if is_screen {
                score += 20;
            } else if is_here {
                score += 10;
            }
            // Who moves does not look for it in a palette.
            let is_move = spec.id.starts_with("move.");
            let group = usize::from(!is_screen) + usize::from(is_move) + 2 * usize::from(!is_here);
            let rank = at + ACTIONS.len() * group;
            let refused =
                if is_here { app.available(spec.action) } else { app.permitted(spec.action) };
            matched.sort_unstable();
            matched.dedup();
            let entry = Entry {
                title,
                action: spec.action,
                key: app.keymap.hint(spec.action),
                refused: refused.err(),
                leads_to: home::place_name(app, spec),
                matched,
            };
            found.push((score, rank, entry));
        }
        found.sort_by_key(|(score, rank, _)| (std::cmp::Reverse(*score), *rank));
        self.entries = found.into_iter().map(|(_, _, entry)| entry).collect();
        self.cursor = 0;
    }
}
