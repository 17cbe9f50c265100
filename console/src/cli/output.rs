//! What a subcommand says: tables or one JSON array on stdout, everything else on stderr.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};

use quarterdeck_protocol::{api::Page, text};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{error::CliError, rows::Row, table::Layout};
use crate::net::{api::Item, pages::Pages};

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON array of the API's items, for programs.
    Json,
}

/// Writes to stdout in the format that was asked for.
pub struct Printer {
    pub format: Format,
    out: Box<dyn Write + Send>,
    line_max: Option<usize>,
    has_colour: bool,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Printer {
    /// Writes to this process's stdout: as wide as its terminal, coloured unless `NO_COLOR` is set.
    pub fn stdout(format: Format) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let columns = || crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns));
        Self {
            format,
            out: Box::new(io::BufWriter::new(io::stdout())),
            line_max: if is_terminal { columns().filter(|columns| *columns > 0) } else { None },
            has_colour: is_terminal && !no_colour,
        }
    }

    pub const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Prints items that are known already.
    pub fn items<T: Row>(&mut self, items: &[Item<T>]) -> Result<(), CliError> {
        let mut listing = Listing::default();
        listing.page(self, items)?;
        listing.end(self)
    }

    /// Prints a listing page by page; says how many items there were.
    pub async fn pages<T: Row + DeserializeOwned>(
        &mut self,
        mut pages: Pages<'_>,
    ) -> Result<u64, CliError> {
        let mut listing = Listing::default();
        let mut count = 0;
        while let Some(page) = pages.next_page::<Item<T>>().await? {
            let Page { items, .. } = page;
            count += items.len() as u64;
            listing.page(self, &items)?;
        }
        listing.end(self)?;
        Ok(count)
    }

    /// Prints one item: in JSON as an array of one, else as `details` says.
    pub fn item<T>(
        &mut self,
        item: &Item<T>,
        details: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(&[&*item.raw]),
            Format::Table => self.text(&details(&item.value)),
        }
    }

    /// Prints something that was done: in JSON the item, else a sentence.
    pub fn done<T>(&mut self, items: &[Item<T>], sentence: &str) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(&items.iter().map(|item| &*item.raw).collect::<Vec<_>>()),
            Format::Table => self.text(&text::line(sentence)),
        }
    }

    /// Prints one JSON array.
    pub fn json(&mut self, items: &[&RawValue]) -> Result<(), CliError> {
        let mut listing = Listing::default();
        for item in items {
            listing.json_item(self, item)?;
        }
        listing.end(self)
    }

    /// Prints lines that are fit for a terminal already.
    pub fn text(&mut self, shown: &str) -> Result<(), CliError> {
        self.out.write_all(shown.as_bytes())?;
        if !shown.ends_with('\n') && !shown.is_empty() {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()?;
        Ok(())
    }
}

/// A listing that is half-way out.
#[derive(Debug, Default)]
struct Listing {
    layout: Option<Layout>,
    json_items: u64,
}

impl Listing {
    fn page<T: Row>(&mut self, printer: &mut Printer, items: &[Item<T>]) -> Result<(), CliError> {
        match printer.format {
            Format::Json => {
                for item in items {
                    self.json_item(printer, &item.raw)?;
                }
            }
            Format::Table => {
                let now = crate::net::clock::now();
                let rows: Vec<_> = items.iter().map(|item| item.value.cells(now)).collect();
                let is_first = self.layout.is_none();
                let layout = self.layout.get_or_insert_with(|| {
                    Layout::new(T::TITLES, &rows, printer.line_max, printer.has_colour)
                });
                if is_first {
                    writeln!(printer.out, "{}", layout.titles(T::TITLES))?;
                }
                for row in &rows {
                    writeln!(printer.out, "{}", layout.row(row))?;
                }
            }
        }
        printer.out.flush()?;
        Ok(())
    }

    fn json_item(&mut self, printer: &mut Printer, raw: &RawValue) -> Result<(), CliError> {
        printer.out.write_all(if self.json_items == 0 { b"[\n" } else { b",\n" })?;
        printer.out.write_all(plain_json(raw.get()).as_bytes())?;
        self.json_items += 1;
        Ok(())
    }

    fn end(self, printer: &mut Printer) -> Result<(), CliError> {
        if printer.is_json() {
            printer.out.write_all(if self.json_items == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        printer.out.flush()?;
        Ok(())
    }
}

/// The same JSON, without characters that act on a terminal: they can only stand in strings,
/// where JSON has another way to write them.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        let is_plain = match c {
            ' '..='~' | '\n' | '\t' | '\r' => true,
            _ => *text::line(c.encode_utf8(&mut [0; 4])) == *c.encode_utf8(&mut [0; 4]),
        };
        if is_plain {
            plain.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(plain, "\\u{unit:04x}");
            }
        }
    }
    plain
}

/// Says something that is neither asked for nor an error; `shown` is made fit for a terminal.
pub fn note(shown: &str) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", text::line(shown));
}

/// A line on stderr that changes in place; nothing without a terminal.
#[derive(Debug)]
pub struct StatusLine {
    is_terminal: bool,
    is_shown: bool,
    last: Option<tokio::time::Instant>,
}

impl StatusLine {
    /// The line changes at most so often.
    const PERIOD: std::time::Duration = std::time::Duration::from_millis(200);

    #[expect(clippy::new_without_default, reason = "it looks at the terminal")]
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_shown: false, last: None }
    }

    /// Shows what `say` says, made fit for a terminal and cut to its width.
    pub fn set(&mut self, say: impl FnOnce() -> String) {
        let now = tokio::time::Instant::now();
        if !self.is_terminal || self.last.is_some_and(|last| now - last < Self::PERIOD) {
            return;
        }
        self.last = Some(now);
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let line = super::table::cut(&text::line(&say()), width.saturating_sub(1));
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        self.is_shown = true;
    }

    /// Takes the line away; the next one comes at once.
    pub fn clear(&mut self) {
        self.last = None;
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_keeps_its_meaning_and_loses_its_teeth() {
        let json = serde_json::to_string("a\u{9b}b\u{202e}c\u{7f}d日\u{e0001}").expect("JSON");
        let plain = plain_json(&json);
        assert_eq!(plain, "\"a\\u009bb\\u202ec\\u007fd日\\udb40\\udc01\"");
    }

    proptest! {
        #[test]
        fn json_means_the_same_after_it_was_made_plain(content in any::<String>()) {
            let json = serde_json::to_string(&content).expect("JSON");
            let plain = plain_json(&json);
            prop_assert_eq!(serde_json::from_str::<String>(&plain).expect("JSON"), content);
            prop_assert!(plain.chars().all(|c| !c.is_control()));
        }
    }
}
