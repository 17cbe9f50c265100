//! A table that draws the rows that are seen, and no others.
//!
//! ```text
//!  ── Devices ─────────────────────────── 3 of 12 791 ──
//!    DEVICE           STATUS     TYPE        SEEN
//!  ▌ edge-00417.fra1  ● online   edge-box      2s
//!   ◆edge-01902.fra1  ○ offline  edge-box      5m
//! ```

use quarterdeck_protocol::{live::Listing, search::Term};
use ratatui::layout::Rect;

use crate::tui::{
    app::{
        App,
        columns::{Column, columns, fit, sort_of},
        filter,
        msg::Layout,
        windows::listing,
    },
    store::{Row, State, WindowKey},
    theme::{Badge, Tone},
    view::{
        canvas::{Canvas, cut_top},
        footer::position,
        widgets::panel,
    },
};

/// The columns before the first: the cursor's marker and the mark.
const GUTTER: u16 = 3;

/// What stands in a cell: pieces, each in its tone.
#[derive(Debug, Clone, Default)]
pub struct Cell(pub Vec<(String, Tone)>);

impl Cell {
    pub fn text(text: impl Into<String>, tone: Tone) -> Self {
        Self(vec![(text.into(), tone)])
    }

    pub fn badge(badge: Badge) -> Self {
        Self(vec![
            (format!("{} ", badge.glyph), badge.tone),
            (badge.word.to_owned(), badge.word_tone()),
        ])
    }

    /// Its whole text, in the tone of its beginning.
    pub fn plain(&self) -> (String, Tone) {
        let text = self.0.iter().map(|(text, _)| text.as_str()).collect();
        (text, self.0.first().map_or(Tone::Text, |(_, tone)| *tone))
    }

    #[must_use]
    pub fn and(mut self, text: impl Into<String>, tone: Tone) -> Self {
        self.0.push((text.into(), tone));
        self
    }
}

/// How a table looks.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub key: WindowKey,
    pub title: &'a str,
    pub focused: bool,
    /// What to say when there is no row.
    pub none: &'a [&'a str],
}

/// Draws a table with its rule and header.
pub fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    look: Look<'_>,
    layout: &mut Layout,
    cell: impl Fn(&App, &Row, &Column, u16) -> Cell,
) {
    let (list, window) = (app.list(look.key), app.store.window(look.key));
    let mut area = area;
    if area.height > 2 && !look.title.is_empty() {
        let line = cut_top(&mut area, 1);
        let mut note = position(app, look.key);
        if !list.filter.is_empty() {
            note = format!("/{}   {note}", list.filter);
        }
        panel::rule(canvas, line, look.title, &note, look.focused);
    }
    let wide = area.width.saturating_sub(GUTTER + 1);
    let names_wide = |id: &str| list.names_wide.get(id).copied().unwrap_or_default();
    let placed = fit(columns(look.key), |id| list.hidden.contains(id), wide, names_wide);
    if area.height > 1 {
        let head = cut_top(&mut area, 1);
        header(canvas, head, app, look.key, &placed);
    }
    layout.lists.push((look.key, area));
    if window.total == 0 || matches!(window.state, State::Refused(_)) {
        panel::empty(canvas, area, app, window, look.none);
        return;
    }
    let faint = canvas.style(Tone::Faint);
    let words = if app.low_bandwidth {
        Vec::new()
    } else {
        filter::wanted_words(&list.filter, listing(look.key))
    };
    let whole = app.low_bandwidth || app.theme.depth == crate::tui::theme::Depth::None;
    let mut names_wide = vec![0; placed.len()];
    for (y, at) in (area.y..area.bottom()).zip(list.top..window.total) {
        // Nobody moves on a wall.
        let under_cursor = at == list.cursor && app.wall.is_none();
        if under_cursor {
            let tone = if look.focused { Tone::Accent } else { Tone::Faint };
            let style = canvas.style(if whole && look.focused { Tone::Strong } else { tone });
            canvas.text(area.x, y, app.theme.glyphs.cursor, style, 1);
        }
        let Some(row) = window.row(at) else {
            canvas.text(area.x + GUTTER, y, app.theme.glyphs.dot, faint, 1);
            continue;
        };
        let marked = list.marks.contains_key(&row.key);
        if marked {
            let style = canvas.style(Tone::Marked);
            canvas.text(area.x + 1, y, app.theme.glyphs.mark, style, 1);
        }
        for (n, (column, x, wide)) in placed.iter().enumerate() {
            if column.names {
                let whole = cell(app, row, column, u16::MAX);
                names_wide[n] = names_wide[n].max(canvas.width(&whole.plain().0));
            }
            let cell = cell(app, row, column, *wide);
            let from = area.x + GUTTER + x;
            let total: u16 = cell
                .0
                .iter()
                .map(|(text, _)| crate::tui::view::canvas::width(text, app.theme.unicode))
                .sum();
            let mut x = if column.right { from + wide.saturating_sub(total) } else { from };
            let end = from + wide;
            if n == 0 && under_cursor && look.focused && !app.low_bandwidth {
                // The name alone: a ground under the whole row would have all of it written again
                // at each step of the cursor, which is most of what scrolling costs.
                let style = canvas.style(Tone::Selected);
                let ground =
                    Rect { x: area.x, y, width: (x + total + 1).min(end) - area.x, height: 1 };
                canvas.restyle(ground, style);
                let accent = canvas.style(Tone::Accent);
                canvas.restyle(Rect { width: 1, ..ground }, accent);
            }
            for (text, tone) in &cell.0 {
                let tone =
                    if n == 0 && marked && *tone == Tone::Text { Tone::Marked } else { *tone };
                let style = canvas.style(tone);
                let from = x;
                x = canvas.text(x, y, text, style, end.saturating_sub(x));
                for word in words.iter().filter(|word| is_searched(look.key, column, word)) {
                    mark_found(canvas, Rect { x: from, y, width: x - from, height: 1 }, text, word);
                }
            }
        }
    }
    let names = placed.iter().zip(names_wide).filter(|((column, ..), _)| column.names);
    layout.names.extend(names.map(|((column, ..), wide)| (look.key, column.id, wide)));
    // Older than what is asked for now: not to be taken for the answer.
    if app.link.is_connected() && window.is_awaited(app.now) {
        canvas.dim(area);
    }
}

/// Whether the server looks for a word in what a column shows.
fn is_searched(key: WindowKey, column: &Column, word: &Term) -> bool {
    let (names, texts): (&[&str], &[&str]) = match listing(key) {
        Listing::Devices => (&["id", "type", "site"], &["tags", "agent_version"]),
        Listing::Commands => (&["type", "device_id", "created_by"], &["detail"]),
        Listing::Alerts => (&["kind", "device"], &["cause"]),
        _ => (&[], &[]),
    };
    names.contains(&column.id) || (!word.fuzzy && texts.contains(&column.id))
}

/// Shows where a word stands in a text that was drawn at `area`.
fn mark_found(canvas: &mut Canvas<'_>, area: Rect, text: &str, word: &Term) {
    let style = canvas.style(Tone::Match);
    for range in word.find(text) {
        let before = canvas.width(&text[..range.start]);
        let found =
            Rect { x: area.x.saturating_add(before), width: canvas.width(&text[range]), ..area };
        canvas.restyle(found.intersection(area), style);
    }
}

fn header(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    key: WindowKey,
    placed: &[(Column, u16, u16)],
) {
    let list = app.list(key);
    let default = crate::tui::app::windows::default_sort(key);
    let sort = list
        .sort
        .as_deref()
        .or(default)
        .map(|sort| sort.strip_prefix('-').map_or((sort, false), |column| (column, true)));
    let muted = canvas.style(Tone::Muted);
    let accent = canvas.style(Tone::Accent);
    let glyphs = canvas.glyphs();
    for (column, x, wide) in placed {
        let x = area.x + GUTTER + x;
        let sorted = sort.filter(|(by, _)| sort_of(key, column) == Some(*by));
        let style = if sorted.is_some() { accent } else { muted };
        let arrow =
            sorted.map_or(
                "",
                |(_, descending)| {
                    if descending { glyphs.descending } else { glyphs.ascending }
                },
            );
        let title = format!("{}{arrow}", column.title);
        if column.right {
            // The arrow may stand in the gap before the column, the title never moves.
            canvas.put_right(x + wide, area.y, &title, style);
        } else {
            canvas.text(x, area.y, &title, style, *wide + 1);
        }
    }
}
