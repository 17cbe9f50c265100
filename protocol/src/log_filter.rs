//! `QUARTERDECK_LOG`, which server, agent and console read alike: what is logged.
//!
//! The log's own parser takes a misspelt level for the name of a part that there is not, and then
//! logs nothing; so what cannot be meant is refused here first.

/// One part of a filter: `LEVEL`, or `TARGET=LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive<'a> {
    /// What it is for; everything that no other names, when absent.
    pub target: Option<&'a str>,
    pub level: &'a str,
}

/// Says which part of a filter is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a level (off, error, warn, info, debug, trace) or TARGET=LEVEL, several with commas; {0:?} is none"
)]
pub struct InvalidFilter(String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads a filter such as `info,quarterdeck_server=debug`.
pub fn directives(text: &str) -> Result<Vec<Directive<'_>>, InvalidFilter> {
    text.split(',')
        .map(|part| directive(part).ok_or_else(|| InvalidFilter(part.to_owned())))
        .collect()
}

fn directive(part: &str) -> Option<Directive<'_>> {
    let (target, level) = match part.split_once('=') {
        None => (None, part),
        Some((target, level)) => (Some(target), level),
    };
    let is_name = |target: &str| {
        !target.is_empty()
            && target.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:".contains(&b))
    };
    let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
    (is_level && target.is_none_or(is_name)).then_some(Directive { target, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_of_levels_and_targets_with_levels() {
        let server = Directive { target: Some("quarterdeck_server::http"), level: "debug" };
        let all = Directive { target: None, level: "INFO" };
        assert_eq!(directives("INFO,quarterdeck_server::http=debug"), Ok(vec![all, server]));
        for bad in ["", "verbose", "bad level!!", "info,", "sqlx", "sqlx=", "=info", "a b=info"] {
            let error = directives(bad).expect_err(bad).to_string();
            assert!(error.contains("TARGET=LEVEL"), "{error}");
        }
    }
}
