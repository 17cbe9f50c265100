//! The bottom: keys, toasts, what waits to be sent, what is being typed.

use std::fmt::Write as _;

use quarterdeck_protocol::time::Timestamp;
use ratatui::layout::Rect;

use super::{
    canvas::{Canvas, cut_bottom, shown, width},
    header,
    overlay::wrapped,
    widgets::input,
};
use crate::tui::{
    app::{
        App, Freshness, Link, Toast,
        actions::{ACTIONS, Action, Context, Spec},
        calls::Grace,
        columns::noun,
        dialog::{Overlay, Pick, PickPurpose, PromptKind},
        filter,
        nav::Place,
        perform::resolve,
        windows::{self, listing},
    },
    format,
    store::State,
    theme::Tone,
};

/// The most rows that one toast covers: what a server says against something may be long.
const TOAST_MAX_ROWS: usize = 4;

/// Draws the footer: the line being typed, else the keys of this screen.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    if let Some(Overlay::Prompt(prompt)) = &app.overlay {
        let (sign, hint) = match prompt.kind {
            PromptKind::Filter(key) => {
                let keys = filter::keys(listing(key));
                let shown = keys.iter().take(4).copied().collect::<Vec<_>>().join(": ");
                let hint = if keys.is_empty() {
                    "words, !not, ~letters in order".to_owned()
                } else {
                    format!("{shown}: words, !not, ~letters in order")
                };
                ("/", hint)
            }
            PromptKind::Search | PromptKind::PlayerSearch => {
                ("/", "Enter finds, n and N go on".to_owned())
            }
            PromptKind::Operations => ("/", "words, !not, ~letters in order".to_owned()),
            PromptKind::PaneSearch => ("/", "Enter finds, n goes up, N down".to_owned()),
            PromptKind::PaneName => ("name ", "nothing: the device's".to_owned()),
            PromptKind::Jump if matches!(app.nav.here, Place::Player(_)) => {
                ("'", "2:30, 90 (seconds), 50%".to_owned())
            }
            PromptKind::Jump => ("'", "row number, device or command id".to_owned()),
        };
        let x = canvas.put(area.x + 1, area.y, sign, Tone::Key);
        let unicode = app.theme.unicode;
        let hint_wide = width(&hint, unicode);
        let room = area.right().saturating_sub(x + 1);
        let typed = width(prompt.field.text(), unicode) + 4;
        if room > typed + hint_wide + 2 {
            let muted = canvas.style(Tone::Muted);
            canvas.put_right(area.right().saturating_sub(1), area.y, &hint, muted);
        }
        input::line(canvas, x, area.y, room, &prompt.field, true, false);
        return;
    }
    if let Some(overlay) = &app.overlay {
        of_dialog(canvas, area, app, overlay);
        return;
    }
    let contexts = app.contexts();
    let mut hints: Vec<(&Spec, String, &'static str, u8)> = ACTIONS
        .iter()
        .filter_map(|spec| {
            let (word, rank) = spec.footer?;
            // Where one types, what would be typed is no key.
            let keys = app.keymap.keys(spec.action);
            let first = *keys.iter().find(|key| !app.is_for_form(**key))?;
            let key = first.to_string();
            // A key that means something else in an inner context is not this action's here.
            let is_meant = app.keymap.actions(&contexts, first).first() == Some(&spec.action);
            let in_wizard = app.nav.here == Place::NewCommand;
            let foreign = in_wizard
                && !spec.contexts.contains(&Context::Wizard)
                && !matches!(spec.action, Action::Palette | Action::Help | Action::Filter);
            let fits =
                app.available(spec.action).is_ok() && resolve(app, spec.action) == spec.action;
            let shown = is_meant && !foreign && fits;
            shown.then_some((spec, key, word, rank))
        })
        .collect();
    let mut area = area;
    // While a pane has the keyboard, all these come after the prefix key.
    if contexts.first() == Some(&Context::Prefix) {
        let prefix = app.keymap.hint(Action::PanePrefix).unwrap_or_default();
        let x = canvas.put(area.x + 1, area.y, &prefix, Tone::Key);
        let x = canvas.put(x, area.y, ", then", Tone::Muted) + 1;
        area = Rect { x, width: area.right().saturating_sub(x), ..area };
    }
    let unicode = app.theme.unicode;
    let wide = |key: &str, word: &str| width(key, unicode) + 1 + width(word, unicode) + 3;
    let room = area.width.saturating_sub(2);
    while hints.iter().map(|(_, key, word, _)| wide(key, word)).sum::<u16>() > room + 3 {
        let Some(most) = hints.iter().map(|(_, _, _, rank)| *rank).max() else { break };
        let at = hints.iter().rposition(|(_, _, _, rank)| *rank == most);
        hints.remove(at.unwrap_or(0));
        if hints.is_empty() {
            break;
        }
    }
    // What matters most stands first.
    hints.sort_by_key(|(_, _, _, rank)| if *rank == 0 { 9 } else { *rank });
    let mut x = area.x + 1;
    for (_, key, word, _) in hints {
        x = canvas.put(x, area.y, &key, Tone::Key);
        x = canvas.put(x + 1, area.y, word, Tone::Muted) + 3;
    }
}

/// The keys of what lies over the screen; those of the screen mean nothing meanwhile.
fn of_dialog(canvas: &mut Canvas<'_>, area: Rect, app: &App, overlay: &Overlay) {
    let is_ticked = |pick: &Pick| pick.items.iter().any(|item| item.ticked.is_some());
    let keys: &[(&str, &str)] = match overlay {
        Overlay::Palette(_) | Overlay::Prompt(_) => &[("Enter", "do it"), ("Esc", "close")],
        Overlay::Help(_) => &[("j k", "scroll"), ("Esc", "close")],
        Overlay::Entry(_) => &[("j k", "scroll"), ("y", "copy"), ("Esc", "close")],
        Overlay::Menu(_) => &[("Enter", "do it"), ("j k", "move"), ("Esc", "close")],
        Overlay::Confirm(_) => &[("Tab", "other button"), ("Enter", "press"), ("Esc", "leave")],
        Overlay::Form(_) => &[("Tab", "next field"), ("Esc", "leave")],
        Overlay::Pick(pick) if is_ticked(pick) => {
            &[("Space", "show or hide"), ("j k", "move"), ("Esc", "close")]
        }
        Overlay::Pick(pick) => match pick.purpose {
            PickPurpose::Drafts | PickPurpose::Views(_) => {
                &[("Enter", "choose"), ("D", "forget"), ("Esc", "close")]
            }
            _ => &[("Enter", "choose"), ("j k", "move"), ("Esc", "close")],
        },
        Overlay::Secret(_) => &[("y", "copy"), ("Esc", "close")],
    };
    let mut x = area.x + 1;
    for (key, word) in keys {
        let wide = width(key, app.theme.unicode) + 1 + width(word, app.theme.unicode);
        if x + wide > area.right() {
            return;
        }
        x = canvas.put(x, area.y, key, Tone::Key);
        x = canvas.put(x + 1, area.y, word, Tone::Muted) + 3;
    }
}

/// Says what waits to be sent, and how to call it back.
pub fn grace(canvas: &mut Canvas<'_>, area: Rect, app: &App, grace: &Grace) {
    let style = canvas.style(Tone::Alarm);
    canvas.fill(area, style);
    let left = (grace.until.millis_since(app.now).max(0) + 999) / 1000;
    let glyph = app.theme.glyphs.danger;
    let text = format!(" {glyph} {} leaves in {left}s", grace.title);
    let x = canvas.text(area.x, area.y, &text, style, area.width);
    let more = match app.calls.grace.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let hint = format!("   u calls it back{more}");
    canvas.text(x, area.y, &hint, style, area.right().saturating_sub(x));
}

/// What goes on over many rows, if anything does.
pub fn under_way(app: &App) -> Option<String> {
    if let Some(sweep) = &app.sweep {
        return Some(sweep.doing());
    }
    let job = app.calls.jobs.values().next_back()?;
    let (answered, rows) = job.progress();
    Some(format!("{}: {} of {}", job.doing, format::count(answered), format::count(rows)))
}

/// Says how far it is, and how to stop it.
pub fn progress(canvas: &mut Canvas<'_>, area: Rect, text: &str) {
    let style = canvas.style(Tone::Bar);
    canvas.fill(area, style);
    let text = format!(" {} {text}   u stops it", canvas.glyphs().pending);
    let style = style.patch(canvas.style(Tone::Warn));
    canvas.text(area.x, area.y, &text, style, area.width);
}

/// What the wizard could not send, until its operator has seen to it.
pub fn not_sent(app: &App) -> Option<String> {
    let draft = app.drafts.iter().rev().find(|draft| draft.error.is_some())?;
    let why = draft.error.as_deref().unwrap_or_default();
    let key = app.keymap.hint(Action::New).unwrap_or_else(|| "\":new command\"".to_owned());
    let is_here = app.concerns(Action::New.spec());
    let place = if is_here { "" } else { " on Commands" };
    Some(format!("not sent: {}: {why}   {key}{place} goes back to it", draft.title()))
}

pub fn refusal(canvas: &mut Canvas<'_>, area: Rect, text: &str) {
    let style = canvas.style(Tone::Bar);
    canvas.fill(area, style);
    let text = format!(" {} {text}", canvas.glyphs().no);
    let style = style.patch(canvas.style(Tone::Bad));
    canvas.text(area.x, area.y, &text, style, area.width);
}

/// Says over a dimmed screen of when it is, and why.
pub fn lost(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let (text, known_at): (String, Option<Timestamp>) = match &app.link {
        Link::Lost { why, .. } => (format!("{}{why}", next_try(app)), windows::known_at(app)),
        Link::SignedOut { why, waits_for_login } => {
            let then = if *waits_for_login { "this goes on by itself" } else { "start again" };
            (format!("signed out: {why}; then {then}"), None)
        }
        Link::Connected => {
            let is_silent = matches!(app.freshness(), Freshness::Stale(_));
            let text = if is_silent { "the server is silent" } else { "loading ..." };
            (text.to_owned(), windows::known_at(app))
        }
        Link::Connecting => return,
    };
    let when = known_at
        .map_or_else(String::new, |at| format!("  {}  {} ", as_of(app, at), app.theme.glyphs.dot));
    let text = format!("{when} {text} ");
    let wide = width(&text, app.theme.unicode).min(area.width);
    let x = area.x + (area.width - wide) / 2;
    let y = area.bottom().saturating_sub(1);
    let style = canvas.style(Tone::Alarm);
    canvas.text(x, y, &text, style, wide);
}

/// `as of 06:14:52 UTC`, of a time by our clock.
pub fn as_of(app: &App, at: Timestamp) -> String {
    format!("as of {} UTC", format::clock(at.plus_millis(app.skew_ms)))
}

/// When a lost connection is tried next, and the key that does it now.
fn next_try(app: &App) -> String {
    let dot = app.theme.glyphs.dot;
    let when = match header::retry(app) {
        Some(header::Retry::Now) => return format!("trying now  {dot} "),
        Some(header::Retry::In(seconds)) => format!("retry in {seconds}s, "),
        None => String::new(),
    };
    let key =
        if app.wall.is_some() { Some("r".to_owned()) } else { app.keymap.hint(Action::Reconnect) };
    match key {
        Some(key) => format!("{when}{key} tries now  {dot} "),
        None => when,
    }
}

/// Draws the toasts below the header, where they cover least: the newest at the right, others
/// beside it while there is room, below it when there is not. Their rows are theirs alone.
pub fn toasts(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    draw_toasts(canvas, area, app, TOAST_MAX_ROWS);
}

fn draw_toasts(canvas: &mut Canvas<'_>, area: Rect, app: &App, rows_max: usize) {
    let (plain, ground) = (canvas.style(Tone::Text), canvas.style(Tone::Bar));
    let border = area.right().saturating_sub(1);
    let most = area.width.saturating_sub(4).max(1);
    let (mut y, mut right) = (area.y, border);
    for toast in app.toasts.iter().rev() {
        let lines = toast_lines(app, toast, most, rows_max);
        let widest = lines.iter().map(|line| canvas.width(line)).max().unwrap_or(0) + 2;
        let is_beside = lines.len() == 1 && right.saturating_sub(area.x) > widest;
        if !is_beside && right < border {
            (y, right) = (y + 1, border);
        }
        let style = ground.patch(canvas.style(toast.tone));
        let x = right.saturating_sub(widest);
        if right == border {
            // What a toast covers in part would be read as a part of it.
            let rows = Rect { y, height: lines.len() as u16, ..area };
            canvas.fill(rows.intersection(area), plain);
        }
        for (at, line) in lines.iter().enumerate() {
            let row = Rect::new(x, y + at as u16, widest.min(area.width), 1).intersection(area);
            canvas.fill(row, style);
            canvas.text(row.x, row.y, &format!(" {line} "), style, row.width);
        }
        // A toast of several rows has them to itself.
        let below = lines.len().saturating_sub(1) as u16;
        (y, right) = if below > 0 { (y + below + 1, border) } else { (y, x.saturating_sub(1)) };
    }
}

/// Draws the newest toast upon the footer, and others beside it while there is room.
pub fn toasts_at_foot(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let Some(newest) = app.toasts.last() else { return };
    let most = area.width.saturating_sub(4).max(1);
    let rows = toast_lines(app, newest, most, rows_at_foot(app)).len() as u16;
    let mut above = area;
    let foot = cut_bottom(&mut above, rows);
    draw_toasts(canvas, foot, app, rows_at_foot(app));
}

/// Above the footer are a pane's own line and what still can be called back: those stay.
fn rows_at_foot(app: &App) -> usize {
    let is_busy = !app.calls.grace.is_empty() || app.nav.here == Place::Panes;
    if is_busy { 1 } else { TOAST_MAX_ROWS }
}

fn toast_lines(app: &App, toast: &Toast, wide: u16, rows_max: usize) -> Vec<String> {
    let mut lines = wrapped(&shown(&toast.text, app.theme.unicode), wide);
    if lines.len() > rows_max {
        lines.truncate(rows_max);
        lines[rows_max - 1].push_str(app.theme.glyphs.ellipsis);
    }
    lines
}

/// `3 of 1 204`, with what is marked: for the rule above a table.
pub fn position(app: &App, key: crate::tui::store::WindowKey) -> String {
    let (list, window) = (app.list(key), app.store.window(key));
    let mut text = String::new();
    if !list.marks.is_empty() {
        write!(text, "{} marked   ", format::count(list.marks.len() as u64))
            .expect("writing to a string cannot fail");
    }
    if window.total == 0 && window.state != State::Ready {
        // Not known to be none.
    } else if window.total == 0 {
        write!(text, "no {}s", noun(key)).expect("writing to a string cannot fail");
    } else if app.wall.is_some() {
        text = format::plural(window.total, noun(key));
    } else {
        let at = format::count(list.cursor + 1);
        write!(text, "{at} of {}", format::count(window.total))
            .expect("writing to a string cannot fail");
    }
    text
}
