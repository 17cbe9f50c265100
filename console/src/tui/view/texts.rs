//! Text that scrolls: JSON, live output, facts. Lines first, cells later, so
//! that searching, copying and drawing see the same.

use std::{collections::BTreeSet, ops::Range};

use quarterdeck_protocol::{
    api::{Device, OutputChunk},
    text,
};
use ratatui::layout::Rect;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::tui::{
    app::{
        App,
        msg::Layout,
        nav::Place,
        subjects,
        tabs::{CommandTab, DeviceTab},
    },
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom},
        json::{self, JsonLine},
    },
};

/// The most lines that are shown of one text.
const LINES_MAX: usize = 20_000;

/// A line in pieces, each in its tone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(pub Vec<(String, Tone)>);

impl Line {
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self(vec![(text.into(), tone)])
    }

    pub fn plain(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }

    /// As it is shown, piece by piece.
    fn shown(&self) -> String {
        self.0.iter().map(|(text, _)| text::line(text)).collect()
    }
}

/// The text of the screen that is shown; empty where there is none.
pub fn lines(app: &App) -> Vec<Line> {
    match &app.nav.here {
        Place::Commands => peek_lines(app),
        Place::Command(id) => {
            let row = app.store.window(WindowKey::CommandRow).find(&id.to_string());
            let Some(row) = row.and_then(|row| row.command()) else { return Vec::new() };
            match app.tabs.command {
                CommandTab::Payload | CommandTab::Response => document(app)
                    .map(|document| document.into_iter().map(|line| line.line).collect())
                    .unwrap_or_default(),
                CommandTab::Logs => {
                    let window = app.store.window(WindowKey::CommandOutput);
                    let chunks: Vec<&OutputChunk> =
                        window.rows().iter().filter_map(|row| row.output()).collect();
                    if chunks.is_empty() { kept_output(row) } else { output_lines(&chunks) }
                }
                CommandTab::Overview => super::screens::command::overview(app, row),
                CommandTab::Timeline => Vec::new(),
            }
        }
        Place::Device(id) => {
            let device = subjects::device(app, id.as_str());
            match app.tabs.device {
                DeviceTab::Overview => device
                    .map(|device| super::screens::device::overview(app, device))
                    .unwrap_or_default(),
                DeviceTab::Health => health_lines(app, device),
                DeviceTab::Commands | DeviceTab::Timeline => Vec::new(),
            }
        }
        Place::Handover => super::screens::handover::lines(app),
        _ => Vec::new(),
    }
}

/// The JSON that is shown, as lines that fold; none where the text is of another sort.
pub fn document(app: &App) -> Option<Vec<JsonLine>> {
    document_folded(app, &app.viewer.folded)
}

/// The same with nothing folded: where a search looks.
pub fn unfolded(app: &App) -> Option<Vec<JsonLine>> {
    document_folded(app, &BTreeSet::new())
}

fn document_folded(app: &App, folded: &BTreeSet<String>) -> Option<Vec<JsonLine>> {
    let Place::Command(id) = &app.nav.here else { return None };
    let command = app.store.window(WindowKey::CommandRow).find(&id.to_string())?.command()?;
    match app.tabs.command {
        CommandTab::Payload => Some(json::lines(&command.payload, folded)),
        CommandTab::Response => Some(super::screens::command::response(app, command, folded))
            .filter(|lines| !lines.is_empty()),
        _ => None,
    }
}

/// The value that [`document`] shows.
pub fn document_value(app: &App) -> Option<&Value> {
    let Place::Command(id) = &app.nav.here else { return None };
    let command = app.store.window(WindowKey::CommandRow).find(&id.to_string())?.command()?;
    match app.tabs.command {
        CommandTab::Payload => Some(&command.payload),
        CommandTab::Response => command.result.as_ref(),
        _ => None,
    }
}

fn peek_lines(app: &App) -> Vec<Line> {
    let window = app.store.window(WindowKey::PeekOutput);
    let chunks: Vec<&OutputChunk> = window.rows().iter().filter_map(|row| row.output()).collect();
    output_lines(&chunks)
}

/// The text without its looks, for the clipboard and files.
pub fn plain(app: &App) -> String {
    let lines: Vec<String> = lines(app).iter().map(Line::plain).collect();
    lines.join("\n")
}

/// A place where the searched text stands: its line, and the bytes in what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    line: usize,
    range: Range<usize>,
}

impl Found {
    const fn at(&self) -> (usize, usize) {
        (self.line, self.range.start)
    }
}

/// Where a text stands in a line, whatever the case of A to Z.
fn occurrences(line: &str, needle: &str) -> Vec<Range<usize>> {
    if needle.is_empty() {
        return Vec::new();
    }
    let line = line.to_ascii_lowercase();
    let needle = needle.to_ascii_lowercase();
    line.match_indices(&needle).map(|(at, found)| at..at + found.len()).collect()
}

/// Whether the searched text stands in a line.
pub fn has(line: &Line, needle: &str) -> bool {
    !occurrences(&line.shown(), needle).is_empty()
}

/// Where the searched text stands in what is shown, in order.
fn found_in(app: &App, lines: &[Line]) -> Vec<Found> {
    let is_log = match app.nav.here {
        Place::Commands => true,
        Place::Command(_) => app.tabs.command == CommandTab::Logs,
        _ => false,
    };
    let in_line = |(at, line): (usize, &Line)| {
        // The time and the stream before a line are none of its text.
        let labels = if is_log { line.0.len().saturating_sub(1) } else { 0 };
        let before: usize = line.0[..labels].iter().map(|(text, _)| text::line(text).len()).sum();
        let found = occurrences(&line.shown()[before..], &app.viewer.search);
        found
            .into_iter()
            .map(move |range| Found { line: at, range: range.start + before..range.end + before })
    };
    lines.iter().enumerate().flat_map(in_line).collect()
}

/// The place of the next match, or of the first from where one is, and its row; the last comes
/// before the first.
pub fn next_match(app: &App, by: isize) -> Option<((usize, usize), usize)> {
    let wide = app.layout.viewer.map_or(usize::MAX, |(area, _)| usize::from(area.width));
    let lines = lines(app);
    let found = found_in(app, &lines);
    let rows = rows(lines, wide);
    let top = rows.get(app.viewer.top).map_or((0, 0), |row| (row.of, row.from));
    let next = match (app.viewer.found, by) {
        (Some(now), 1..) => found.iter().find(|found| found.at() > now).or(found.first()),
        (now, ..0) => {
            let now = now.unwrap_or(top);
            found.iter().rev().find(|found| found.at() < now).or(found.last())
        }
        (_, 0..) => found.iter().find(|found| found.at() >= top).or(found.first()),
    }?;
    let row = rows.iter().rposition(|row| (row.of, row.from) <= next.at())?;
    Some((next.at(), row))
}

/// Draws the part of a text that is seen. Returns its first row.
pub fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    text: Vec<Line>,
    layout: &mut Layout,
) -> usize {
    let is_document = document(app).is_some();
    let needle = app.viewer.search.as_str();
    let found = found_in(app, &text);
    let mut area = area;
    if !needle.is_empty() && area.height > 2 {
        let line = cut_bottom(&mut area, 1);
        note(canvas, line, app, &found);
    }
    let gutter = Rect { x: area.right().saturating_sub(1), width: area.width.min(1), ..area };
    let area = Rect { width: area.width.saturating_sub(1), ..area };
    let rows = rows(text, usize::from(area.width));
    let last = rows.len().saturating_sub(usize::from(area.height));
    let top = if app.viewer.follow { last } else { app.viewer.top.min(last) };
    layout.viewer = Some((area, rows.len()));
    // Whether there is more of it than is seen.
    let faint = canvas.style(Tone::Muted);
    let glyphs = canvas.glyphs();
    if top > 0 {
        canvas.text(gutter.x, gutter.y, glyphs.ascending, faint, gutter.width);
    }
    if top < last && gutter.height > 0 {
        canvas.text(gutter.x, gutter.bottom() - 1, glyphs.descending, faint, gutter.width);
    }
    // The rows of the line under the cursor, where there is one.
    let cursor = is_document.then(|| {
        let lines = rows.last().map_or(0, |row| row.of);
        let at = app.viewer.cursor.min(lines);
        (rows.partition_point(|row| row.of < at), rows.partition_point(|row| row.of <= at))
    });
    layout.viewer_cursor = cursor;
    for (y, (at, row)) in (area.y..area.bottom()).zip(rows.iter().enumerate().skip(top)) {
        let is_under_cursor = cursor.is_some_and(|(from, to)| (from..to).contains(&at));
        if is_under_cursor {
            if !app.low_bandwidth {
                let selected = canvas.style(Tone::Selected);
                canvas.fill(Rect { y, height: 1, ..area }, selected);
            }
            let style = canvas.style(Tone::Accent);
            let glyph = app.theme.glyphs.cursor;
            canvas.text(area.x.saturating_sub(2), y, glyph, style, 1);
        }
        let mut x = area.x;
        for (text, tone) in &row.line.0 {
            let style = canvas.style(*tone);
            x = canvas.text(x, y, text, style, area.right().saturating_sub(x));
        }
        let from = found.partition_point(|found| found.line < row.of);
        for found in found[from..].iter().take_while(|found| found.line == row.of) {
            let is_current =
                if is_document { is_under_cursor } else { app.viewer.found == Some(found.at()) };
            let tone = if is_current { Tone::Chosen } else { Tone::Match };
            mark(canvas, Rect { y, height: 1, ..area }, row, &found.range, tone);
        }
    }
    top
}

/// Sets off the part of a row in which a match stands.
fn mark(canvas: &mut Canvas<'_>, area: Rect, row: &Row, found: &Range<usize>, tone: Tone) {
    let text = row.line.shown();
    let end = row.from + text.len() - row.indent;
    let (from, to) = (found.start.max(row.from), found.end.min(end));
    if from >= to {
        return;
    }
    let at = |byte: usize| byte - row.from + row.indent;
    let before = canvas.width(&text[..at(from)]);
    let wide = canvas.width(&text[at(from)..at(to)]);
    let style = canvas.style(tone);
    let place = Rect { x: area.x.saturating_add(before), width: wide, ..area };
    canvas.restyle(place.intersection(area), style);
}

/// Says what is searched for, how often it is there, and which of these one is at.
fn note(canvas: &mut Canvas<'_>, area: Rect, app: &App, found: &[Found]) {
    let (now, all) = crate::tui::app::document::place(app).unwrap_or_else(|| {
        let now = app.viewer.found;
        (now.and_then(|now| found.iter().position(|found| found.at() == now)), found.len())
    });
    let all_of = format::count(all as u64);
    let said = match (now, all) {
        (_, 0) => "not in the text".to_owned(),
        (Some(now), _) => format!("{} of {all_of}", format::count(now as u64 + 1)),
        (None, 1) => "1 match".to_owned(),
        (None, _) => format!("{all_of} matches"),
    };
    let x = canvas.put(area.x, area.y, &format!("/{}", app.viewer.search), Tone::Accent);
    canvas.put(x + 3, area.y, &said, Tone::Strong);
}

/// A row of the screen, and where in its line it begins.
#[derive(Debug, Clone)]
struct Row {
    line: Line,
    /// The number of its line.
    of: usize,
    /// The bytes of what is shown of the line before it.
    from: usize,
    /// The blanks before it, which are none of the line.
    indent: usize,
}

/// The rows that a text takes.
pub fn wrapped(lines: Vec<Line>, wide: usize) -> Vec<Line> {
    rows(lines, wide).into_iter().map(|row| row.line).collect()
}

/// Breaks lines that are wider than the screen: behind a blank where there is one, else at the
/// border.
fn rows(lines: Vec<Line>, wide: usize) -> Vec<Row> {
    let wide = wide.max(8);
    let mut out = Vec::with_capacity(lines.len());
    for (of, line) in lines.into_iter().enumerate() {
        let total: usize = line.0.iter().map(|(text, _)| text::line(text).width()).sum();
        if total <= wide {
            out.push(Row { line, of, from: 0, indent: 0 });
            continue;
        }
        let mut parts: Vec<(String, Tone)> = Vec::new();
        for (text, tone) in &line.0 {
            let safe = text::line(text);
            parts.extend(safe.graphemes(true).map(|part| (part.to_owned(), *tone)));
        }
        let indent = under_value(&line, wide);
        let bytes = |parts: &[(String, Tone)]| parts.iter().map(|(part, _)| part.len()).sum();
        let (first, mut rest) = parts.split_at(row_end(&parts, wide));
        let mut from: usize = bytes(first);
        out.push(Row { line: joined(first), of, from: 0, indent: 0 });
        while !rest.is_empty() {
            let (row, after) = rest.split_at(row_end(rest, wide - indent));
            let mut line = joined(row);
            if indent > 0 {
                line.0.insert(0, (" ".repeat(indent), Tone::Text));
            }
            out.push(Row { line, of, from, indent });
            from += bytes(row);
            rest = after;
        }
    }
    out.truncate(LINES_MAX);
    out
}

/// How far the rows below the first begin: under the value, where a label stands before it and
/// leaves it room.
fn under_value(line: &Line, wide: usize) -> usize {
    const BLANKS: &str = "  ";
    let [(label, _), _, ..] = line.0.as_slice() else { return 0 };
    let indent = text::line(label).width();
    let is_label = label.ends_with(BLANKS) && !label.trim().is_empty();
    if is_label && indent * 2 <= wide { indent } else { 0 }
}

/// How many parts stand on the first row of several.
fn row_end(parts: &[(String, Tone)], wide: usize) -> usize {
    let mut at = 0;
    let fitting = parts.iter().take_while(|(part, _)| {
        at += part.width();
        at <= wide
    });
    let fits = fitting.count().max(1);
    if fits == parts.len() {
        return fits;
    }
    // A sign that stands alone belongs to the word behind it: `● online`.
    let is_lone_sign = |at: usize| {
        let is_blank = |at: usize| parts[at].0 == " ";
        at > 0
            && !is_blank(at - 1)
            && !parts[at - 1].0.chars().all(char::is_alphanumeric)
            && (at == 1 || is_blank(at - 2))
    };
    // A break in the first half would waste more than a broken word does.
    let blank = (0..fits).rev().find(|at| parts[*at].0 == " " && !is_lone_sign(*at));
    blank.map(|at| at + 1).filter(|end| *end > fits / 2).unwrap_or(fits)
}

/// Parts with those of one tone put together.
fn joined(parts: &[(String, Tone)]) -> Line {
    let same = parts.chunk_by(|(_, a), (_, b)| a == b);
    Line(
        same.map(|same| (same.iter().map(|(part, _)| part.as_str()).collect(), same[0].1))
            .collect(),
    )
}

/// Output as it came, each line with its time and stream.
fn output_lines(chunks: &[&OutputChunk]) -> Vec<Line> {
    let mut out = Vec::new();
    // The unfinished line of each stream, and when it began.
    let mut open: [(String, Option<quarterdeck_protocol::time::Timestamp>); 2] = Default::default();
    let push = |out: &mut Vec<Line>, stderr: bool, at, text: &str| {
        let (name, tone) = if stderr { ("err", Tone::Warn) } else { ("out", Tone::Text) };
        let time = format!("{} ", format::clock(at));
        out.push(Line(vec![
            (time, Tone::Faint),
            (format!("{name}  "), if stderr { Tone::Warn } else { Tone::Muted }),
            (text.to_owned(), tone),
        ]));
    };
    for chunk in chunks {
        let stderr = chunk.stream == "stderr";
        let (pending, began) = &mut open[usize::from(stderr)];
        let begun = *began.get_or_insert(chunk.at);
        pending.push_str(&chunk.text);
        if let Some(end) = pending.rfind('\n') {
            let rest = pending.split_off(end + 1);
            let whole = std::mem::replace(pending, rest);
            *began = (!pending.is_empty()).then_some(chunk.at);
            for line in text::block(&whole).trim_end_matches('\n').split('\n') {
                push(&mut out, stderr, begun, line);
            }
        }
    }
    for (stderr, (pending, began)) in [false, true].into_iter().zip(open) {
        if let Some(at) = began.filter(|_| !pending.is_empty()) {
            push(&mut out, stderr, at, &text::block(&pending));
        }
    }
    out
}

/// The whole output that the server kept, when nothing came live.
fn kept_output(command: &quarterdeck_protocol::api::Command) -> Vec<Line> {
    let mut out = Vec::new();
    for (text, name, tone) in
        [(&command.stdout, "out", Tone::Text), (&command.stderr, "err", Tone::Warn)]
    {
        for line in text::block(text.as_deref().unwrap_or_default()).trim_end().lines() {
            let label = (format!("{name}  "), if name == "err" { Tone::Warn } else { Tone::Muted });
            out.push(Line(vec![label, (line.to_owned(), tone)]));
        }
    }
    out
}

fn health_lines(app: &App, device: Option<&Device>) -> Vec<Line> {
    let now = app.server_now();
    let mut out = Vec::new();
    if let Some(failed) = device.and_then(|device| device.service_failed.as_ref()) {
        let text = format!(
            "{} {} gave up {} ago: {}",
            app.theme.glyphs.danger,
            failed.unit,
            format::age(Some(failed.at), now),
            failed.reason
        );
        out.push(Line::new(text, Tone::Bad));
        out.push(Line::default());
    }
    match app.shown_health() {
        None => out.push(Line::new("asking for the last report ...", Tone::Faint)),
        Some(health) => match &health.report {
            None => out.push(Line::new("The device has not reported yet.", Tone::Muted)),
            Some(report) => {
                let age = format::age(health.received_at, now);
                out.push(Line::new(format!("reported {age} ago"), Tone::Muted));
                out.push(Line::default());
                processes(app, report, &mut out);
                out.extend(json::lines(report, &BTreeSet::new()).into_iter().map(|line| line.line));
            }
        },
    }
    out
}

fn processes(app: &App, report: &Value, out: &mut Vec<Line>) {
    let Some(processes) = report["processes"].as_array().filter(|list| !list.is_empty()) else {
        return;
    };
    for process in processes {
        let name = process["name"].as_str().unwrap_or("?");
        let state = process["state"].as_str().unwrap_or("?");
        let (glyph, tone) = match state {
            "running" => (app.theme.glyphs.yes, Tone::Good),
            "crashed" | "failed" => (app.theme.glyphs.no, Tone::Bad),
            _ => (app.theme.glyphs.dot, Tone::Muted),
        };
        out.push(Line(vec![
            (format!("{glyph} {state:<10} "), tone),
            (name.to_owned(), Tone::Text),
        ]));
    }
    out.push(Line::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::time::Timestamp;

    fn shown(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::plain).collect()
    }

    #[test]
    fn lines_that_come_in_pieces_are_put_together_by_stream() {
        let chunk = |stream: &str, text: &str| OutputChunk {
            stream: stream.into(),
            offset: 0,
            text: text.into(),
            at: Timestamp::from_millis(0),
        };
        let chunks =
            [chunk("stdout", "one\ntw"), chunk("stderr", "oops\n"), chunk("stdout", "o\nthr")];
        let refs: Vec<&OutputChunk> = chunks.iter().collect();
        assert_eq!(
            shown(&output_lines(&refs)),
            ["00:00:00 out  one", "00:00:00 err  oops", "00:00:00 out  two", "00:00:00 out  thr"]
        );
    }

    #[test]
    fn wide_lines_are_broken_at_the_border() {
        let lines = wrapped(vec![Line::new("abcdefghijkl", Tone::Text)], 8);
        assert_eq!(shown(&lines), ["abcdefgh", "ijkl"]);
        let lines = wrapped(vec![Line::new("one two three", Tone::Text)], 10);
        assert_eq!(shown(&lines), ["one two ", "three"]);
        let fact =
            |value: &str| Line(vec![("Waits  ".into(), Tone::Muted), (value.into(), Tone::Text)]);
        let lines = wrapped(vec![fact("for devices that are away")], 20);
        assert_eq!(shown(&lines), ["Waits  for devices ", "       that are away"]);
        let lines = wrapped(vec![fact("for devices")], 12);
        assert_eq!(shown(&lines), ["Waits  for ", "devices"], "no room under it");
        let lines = wrapped(vec![Line::new("Device  pi-1   ● online", Tone::Text)], 18);
        assert_eq!(shown(&lines), ["Device  pi-1   ", "● online"]);
    }
}
