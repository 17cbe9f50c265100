//! `quarterdeck debug`: the console's own parts, for tests and for reports of bugs.

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
};

use clap::{Args, Subcommand};
use quarterdeck_protocol::text;

use super::error::CliError;
use crate::tui::pane::{
    Pane,
    cell::{Colour, Flags},
    display::Look,
    notices::Allowed,
    screen::{PaneSize, SIDE_MAX},
};

/// How much of stdin is read at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub enum DebugCommands {
    /// Read raw terminal bytes on stdin, print the grid that a pane would show
    Pane(PaneArgs),
}

#[derive(Debug, Args)]
pub struct PaneArgs {
    /// Columns, 1 to 1000
    #[arg(value_name = "COLS", value_parser = clap::value_parser!(u16).range(1..=i64::from(SIDE_MAX)))]
    cols: u16,
    /// Rows, 1 to 1000
    #[arg(value_name = "ROWS", value_parser = clap::value_parser!(u16).range(1..=i64::from(SIDE_MAX)))]
    rows: u16,
    /// Print one JSON object with the cursor and each cell's text, colours and attributes
    #[arg(long)]
    cells: bool,
}

/// Runs one of them.
pub fn run(command: &DebugCommands) -> Result<(), CliError> {
    match command {
        DebugCommands::Pane(args) => pane(args),
    }
}

fn pane(args: &PaneArgs) -> Result<(), CliError> {
    let mut pane = Pane::new(PaneSize::new(args.rows, args.cols), Allowed::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut chunk) {
            Ok(0) => break,
            // Nobody types what the terminal would answer.
            Ok(count) => drop(pane.feed(&chunk[..count])),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(CliError::Failed(format!("cannot read stdin: {e}"))),
        }
    }
    // Whatever is held back by an update that has not ended: there is no more to come.
    pane.refresh(0);
    pane.refresh(u64::MAX);
    let out = if args.cells { cells(&pane) } else { lines(&pane) };
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// One line for each row, without the blanks at its end.
fn lines(pane: &Pane) -> String {
    let mut out = String::new();
    for row in looks(pane) {
        let line: String = row.iter().map(|look| look.text).collect();
        out.push_str(&text::line(line.trim_end_matches(' ')));
        out.push('\n');
    }
    out
}

/// `{"cursor":[col,row],"cells":[[[text,fg,bg,flags],…],…]}`
fn cells(pane: &Pane) -> String {
    let cursor = pane.screen().cursor();
    let rows: Vec<String> = looks(pane)
        .map(|row| format!("[{}]", row.into_iter().map(cell).collect::<Vec<_>>().join(",")))
        .collect();
    format!("{{\"cursor\":[{},{}],\"cells\":[{}]}}\n", cursor.col, cursor.row, rows.join(",\n"))
}

fn looks(pane: &Pane) -> impl Iterator<Item = Vec<Look<'_>>> {
    let PaneSize { rows, cols } = pane.display().size();
    (0..rows).map(move |row| (0..cols).filter_map(|col| pane.display().look(row, col)).collect())
}

fn cell(look: Look<'_>) -> String {
    let mut flags = String::new();
    for (flag, letter) in [
        (Flags::BOLD, 'b'),
        (Flags::DIM, 'd'),
        (Flags::ITALIC, 'i'),
        (Flags::UNDERLINE, 'u'),
        (Flags::INVERSE, 'r'),
    ] {
        if look.attrs.flags.has(flag) {
            flags.push(letter);
        }
    }
    let (fg, bg) = (colour(look.attrs.fg), colour(look.attrs.bg));
    format!("[{},\"{fg}\",\"{bg}\",\"{flags}\"]", json_text(look.text))
}

fn colour(colour: Colour) -> String {
    match colour {
        Colour::Default => "d".to_owned(),
        Colour::Indexed(index) => format!("i{index}"),
        Colour::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    }
}

/// A JSON string in which what would deceive a reader or act on a terminal is escaped.
fn json_text(cell: &str) -> String {
    let mut out = String::from("\"");
    for c in cell.chars() {
        let is_honest = match c {
            '"' | '\\' => false,
            ' '..='~' => true,
            _ => *text::line(c.encode_utf8(&mut [0; 4])) == *c.encode_utf8(&mut [0; 4]),
        };
        if is_honest {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("writing to a string cannot fail");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(cols: u16, rows: u16, bytes: &[u8]) -> Pane {
        let mut pane = Pane::new(PaneSize::new(rows, cols), Allowed::default());
        pane.feed(bytes);
        pane.refresh(0);
        pane
    }

    #[test]
    fn cells_say_text_colours_and_attributes() {
        let pane = fed(4, 1, "\x1b[1;4;31ma\x1b[0;7;48;2;1;2;255m日".as_bytes());
        let out = cells(&pane);
        assert_eq!(
            out,
            "{\"cursor\":[3,0],\"cells\":[[[\"a\",\"i1\",\"d\",\"bu\"],[\"日\",\"d\",\"#0102ff\",\"r\"],\
             [\"\",\"d\",\"#0102ff\",\"r\"],[\" \",\"d\",\"d\",\"\"]]]}\n"
        );
        let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(value["cells"][0][1][0], "日");
    }

    #[test]
    fn nothing_printed_acts_on_the_terminal_that_shows_it() {
        let pane = fed(20, 2, "a\u{202e}b\"\\\u{e000}\u{10ffff}".as_bytes());
        let (json, plain) = (cells(&pane), lines(&pane));
        for out in [&json, &plain] {
            assert_eq!(*text::block(out), **out, "{out:?}");
        }
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["cells"][0][0][0], "a\u{202e}");
        assert_eq!(plain, "a<U+202E>b\"\\<U+E000><U+10FFFF>\n\n");
    }
}
