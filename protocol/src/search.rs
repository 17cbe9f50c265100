//! What a listing is searched for: words, and the names in a column's filter.
//!
//! One grammar for the console's `/`, for `q` and for the columns' filters of
//! every listing, so that a live window, a page and the marks in a row agree:
//!
//! ```text
//!  list  = term, several apart by blanks (`q`) or commas (a column)
//!  term  = [!] [~] text          !  not this        ~  its letters, in this order
//!  text  = bare | "quoted"       quotes keep blanks, commas and a first ! or ~
//! ```
//!
//! Of words each must hold: `fw !test` is what has `fw` and has no `test`. Of a
//! column's names one of the plain ones must be, and none of the inverse ones:
//! `ping,!reboot_host`. The case of A to Z is ignored in words and fuzzy names,
//! and counts in plain names.
//!
//! Never here: which fields are searched; each listing says that.

use std::{fmt, ops::Range};

/// The longest search text, in characters.
pub const SEARCH_MAX_CHARS: usize = 200;
/// The most words of one search.
pub const SEARCH_MAX_WORDS: usize = 8;
/// The most names in one column's filter.
pub const FILTER_MAX_NAMES: usize = 1_000;

/// One word or name that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Without its marks; never empty.
    pub text: String,
    /// What has it is left out.
    pub inverse: bool,
    /// Its letters need only come in this order.
    pub fuzzy: bool,
}

/// Says why a search is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSearch {
    #[error("expected at most {SEARCH_MAX_CHARS} characters")]
    TooLong,
    #[error("expected at most {SEARCH_MAX_WORDS} words")]
    TooManyWords,
    #[error("expected at most {FILTER_MAX_NAMES} names")]
    TooManyNames,
    #[error("expected a name on each side of a comma")]
    NoName,
}

/// Reads the words of a `q`.
///
/// # Errors
///
/// When it is longer, or has more words, than a search may.
pub fn words(text: &str) -> Result<Vec<Term>, InvalidSearch> {
    if text.chars().count() > SEARCH_MAX_CHARS {
        return Err(InvalidSearch::TooLong);
    }
    let pieces = split(text, char::is_whitespace).into_iter().filter(|piece| !piece.is_empty());
    let words: Vec<Term> = pieces.map(Term::parse).collect();
    if words.len() > SEARCH_MAX_WORDS {
        return Err(InvalidSearch::TooManyWords);
    }
    Ok(words)
}

/// Reads the names of a column's filter.
///
/// # Errors
///
/// When there are too many, one is missing, or a fuzzy one is longer than a search may be.
pub fn names(text: &str) -> Result<Vec<Term>, InvalidSearch> {
    let pieces = split(text, |c| c == ',');
    if pieces.len() > FILTER_MAX_NAMES {
        return Err(InvalidSearch::TooManyNames);
    }
    let name = |piece: &str| match Term::parse(piece.trim()) {
        term if term.text.is_empty() => Err(InvalidSearch::NoName),
        term if term.fuzzy && term.text.chars().count() > SEARCH_MAX_CHARS => {
            Err(InvalidSearch::TooLong)
        }
        term => Ok(term),
    };
    let names = pieces.into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
    if names.iter().filter(|name| name.fuzzy).count() > SEARCH_MAX_WORDS {
        return Err(InvalidSearch::TooManyWords);
    }
    Ok(names)
}

/// Splits at the separators that stand outside of quotes. A quote opens only where a text may begin.
pub fn split(text: &str, is_separator: impl Fn(char) -> bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut is_quoted, mut before) = (0, false, ' ');
    for (at, c) in text.char_indices() {
        let may_begin = before.is_whitespace() || matches!(before, '!' | '~' | ':' | '=' | ',');
        if c == '"' && (is_quoted || may_begin) {
            is_quoted = !is_quoted;
        } else if !is_quoted && is_separator(c) {
            pieces.push(&text[start..at]);
            start = at + c.len_utf8();
        }
        before = c;
    }
    pieces.push(&text[start..]);
    pieces
}

impl Term {
    /// Looks for a text as it is.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), inverse: false, fuzzy: false }
    }

    /// Reads one term. Marks with nothing behind them are the text.
    pub fn parse(term: &str) -> Self {
        let (inverse, rest) = term.strip_prefix('!').map_or((false, term), |rest| (true, rest));
        let (fuzzy, rest) = rest.strip_prefix('~').map_or((false, rest), |rest| (true, rest));
        let text = match rest.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"').unwrap_or(quoted),
            None => rest,
        };
        if text.is_empty() {
            return Self::plain(term);
        }
        Self { text: text.to_owned(), inverse, fuzzy }
    }

    /// Where the term stands in a text: the byte ranges of the first place; empty when it is not there.
    ///
    /// Of an inverse term too: it says where what is unwanted stands.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        if !self.fuzzy {
            let (text, wanted) = (text.to_ascii_lowercase(), self.text.to_ascii_lowercase());
            return text.find(&wanted).map(|at| at..at + wanted.len()).into_iter().collect();
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut rest = text.char_indices();
        for wanted in self.text.chars() {
            let Some((at, c)) = rest.find(|(_, c)| c.eq_ignore_ascii_case(&wanted)) else {
                return Vec::new();
            };
            match found.last_mut() {
                Some(last) if last.end == at => last.end += c.len_utf8(),
                _ => found.push(at..at + c.len_utf8()),
            }
        }
        found
    }

    /// Whether the term stands in a text.
    pub fn is_in(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }
}

/// Writes the term so that it reads back the same.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, inverse, fuzzy } = self;
        let marks = |f: &mut fmt::Formatter<'_>| {
            f.write_str(if *inverse { "!" } else { "" })?;
            f.write_str(if *fuzzy { "~" } else { "" })
        };
        let needs_quotes =
            text.starts_with(['!', '~']) || text.contains(|c: char| c.is_whitespace() || c == ',');
        marks(f)?;
        if needs_quotes { write!(f, "\"{text}\"") } else { f.write_str(text) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(text: &str, inverse: bool, fuzzy: bool) -> Term {
        Term { text: text.to_owned(), inverse, fuzzy }
    }

    #[test]
    fn marks_stand_before_a_word_and_quotes_keep_it_together() {
        assert_eq!(
            words(r#"fw  !test ~brdg !~x "a b" !"c, d" "!e""#),
            Ok(vec![
                term("fw", false, false),
                term("test", true, false),
                term("brdg", false, true),
                term("x", true, true),
                term("a b", false, false),
                term("c, d", true, false),
                term("!e", false, false),
            ])
        );
    }

    #[test]
    fn marks_without_a_word_are_the_word() {
        for bare in ["!", "~", "!~", "\""] {
            assert_eq!(words(bare), Ok(vec![term(bare, false, false)]));
        }
    }

    #[test]
    fn names_stand_between_commas() {
        assert_eq!(
            names(r#"ping, !reboot_host,"a,b""#),
            Ok(vec![
                term("ping", false, false),
                term("reboot_host", true, false),
                term("a,b", false, false)
            ])
        );
        assert_eq!(names("a,,b"), Err(InvalidSearch::NoName));
        assert_eq!(
            names(&["~x"; SEARCH_MAX_WORDS + 1].join(",")),
            Err(InvalidSearch::TooManyWords)
        );
        assert_eq!(names(&["x"; FILTER_MAX_NAMES + 1].join(",")), Err(InvalidSearch::TooManyNames));
    }

    #[test]
    fn a_quote_within_a_word_is_a_letter() {
        assert_eq!(
            words("5\" disk"),
            Ok(vec![term("5\"", false, false), term("disk", false, false)])
        );
    }

    #[test]
    fn a_search_has_bounds() {
        assert_eq!(words(&"x".repeat(SEARCH_MAX_CHARS + 1)), Err(InvalidSearch::TooLong));
        assert_eq!(words(&"x ".repeat(SEARCH_MAX_WORDS + 1)), Err(InvalidSearch::TooManyWords));
        assert!(words(&"x ".repeat(SEARCH_MAX_WORDS)).is_ok());
    }

    #[test]
    fn a_word_is_found_whatever_its_case_and_a_fuzzy_one_by_its_letters() {
        for (wanted, fuzzy, text, found) in [
            ("BRI", false, "mqtt-bridge", vec!["bri"]),
            ("mbg", true, "mqtt-bridge", vec!["m", "b", "g"]),
            ("brg", true, "mqtt-bridge", vec!["br", "g"]),
            ("gbm", true, "mqtt-bridge", vec![]),
            ("ü", true, "für", vec!["ü"]),
        ] {
            let ranges = term(wanted, false, fuzzy).find(text);
            let pieces: Vec<_> = ranges.into_iter().map(|range| &text[range]).collect();
            assert_eq!(pieces, found, "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn a_term_reads_back_as_it_was_written(text in "[^\"]{1,12}", inverse: bool, fuzzy: bool) {
            prop_assume!(!text.trim().is_empty());
            let term = Term { text, inverse, fuzzy };
            prop_assert_eq!(words(&term.to_string()), Ok(vec![term.clone()]));
            prop_assert_eq!(names(&term.to_string()), Ok(vec![term]));
        }

        #[test]
        fn any_text_is_a_search_or_refused(text: String) {
            for term in words(&text).unwrap_or_default() {
                prop_assert!(!term.text.is_empty());
                let found = term.find(&text);
                prop_assert!(found.is_sorted_by(|a, b| a.end <= b.start));
                prop_assert!(found.iter().all(|range| text.get(range.clone()).is_some()));
            }
        }

        #[test]
        fn letters_with_others_between_are_found(parts in prop::collection::vec("[a-z]{1,3}", 1..6)) {
            let wanted: String = parts.iter().filter_map(|part| part.chars().last()).collect();
            let fuzzy = Term { text: wanted, inverse: false, fuzzy: true };
            prop_assert!(fuzzy.is_in(&parts.concat()));
        }
    }
}
