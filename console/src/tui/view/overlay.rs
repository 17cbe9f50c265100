//! What lies over the screen: palette, help, menus, questions, forms.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::{
    canvas::{Canvas, centred, cut_bottom, cut_top, width},
    screens::lists,
    texts,
    widgets::{form, input, panel},
};
use crate::tui::{
    app::{
        App,
        actions::{ACTIONS, Context, Needs, Spec},
        dialog::{Confirm, Entry, FormDialog, Menu, Overlay, Pick, Secret},
        fitting,
        palette::Palette,
    },
    term::input::Key,
    theme::Tone,
};

/// Draws what lies on top.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, overlay: &Overlay) {
    match overlay {
        Overlay::Palette(palette) => draw_palette(canvas, area, app, palette),
        Overlay::Help(top) => draw_help(canvas, area, app, *top),
        Overlay::Entry(entry) => draw_entry(canvas, area, app, entry),
        Overlay::Menu(menu) => draw_menu(canvas, area, app, menu),
        Overlay::Confirm(confirm) => draw_confirm(canvas, area, app, confirm),
        Overlay::Form(dialog) => draw_form(canvas, area, app, dialog),
        Overlay::Pick(pick) => draw_pick(canvas, area, app, pick),
        Overlay::Secret(secret) => draw_secret(canvas, area, secret),
        // It stands in the footer.
        Overlay::Prompt(_) => {}
    }
}

/// A dialog at most this big, a little above the middle.
fn place(area: Rect, wide: u16, high: u16) -> Rect {
    let room = Rect { height: area.height.saturating_sub(area.height / 8), ..area };
    let mut at = centred(room, wide, high);
    if high > room.height {
        at = centred(area, wide, high);
    }
    at
}

fn selected_row(canvas: &mut Canvas<'_>, app: &App, row: Rect) {
    if !app.low_bandwidth {
        let style = canvas.style(Tone::Selected);
        canvas.fill(row, style);
    }
    let accent = canvas.style(Tone::Accent);
    canvas.text(row.x, row.y, app.theme.glyphs.cursor, accent, 1);
}

/// The first of `n` rows to show so that the cursor is seen among `rows`.
const fn top_for(cursor: usize, rows: usize) -> usize {
    (cursor + 1).saturating_sub(rows)
}

fn draw_palette(canvas: &mut Canvas<'_>, area: Rect, app: &App, palette: &Palette) {
    let high = (palette.entries.len() as u16 + 4).clamp(5, 18);
    let wide = 64.min(area.width.saturating_sub(2)).max(area.width.min(20));
    let x = area.x + (area.width - wide.min(area.width)) / 2;
    let y = area.y + (area.height / 8).min(4);
    let outer = Rect::new(x, y, wide, high).intersection(area);
    let mut inside = panel::dialog(canvas, outer, "Go to or do", Tone::Accent);
    let line = cut_top(&mut inside, 1);
    let at = canvas.put(line.x, line.y, ":", Tone::Key);
    input::line(canvas, at, line.y, line.right().saturating_sub(at), &palette.field, true, false);
    let rule = cut_top(&mut inside, 1);
    let faint = canvas.style(Tone::Faint);
    canvas.repeat(rule.x, rule.y, app.theme.glyphs.horizontal, rule.width, faint);
    if palette.entries.is_empty() {
        canvas.put(inside.x, inside.y, "Nothing has such a name.", Tone::Muted);
        return;
    }
    let top = top_for(palette.cursor, usize::from(inside.height));
    for (y, (at, entry)) in
        (inside.y..inside.bottom()).zip(palette.entries.iter().enumerate().skip(top))
    {
        let row = Rect { y, height: 1, ..inside };
        if at == palette.cursor {
            selected_row(canvas, app, row);
        }
        let base = if entry.refused.is_some() { Tone::Faint } else { Tone::Text };
        let mut x = row.x + 2;
        for (n, c) in entry.title.chars().enumerate() {
            let hit = entry.matched.binary_search(&(n as u32)).is_ok();
            let style = canvas.style(if hit { Tone::Match } else { base });
            x = canvas.text(x, y, c.encode_utf8(&mut [0; 4]), style, row.right().saturating_sub(x));
        }
        let leads_to = entry.leads_to.map(|name| format!("on {name}"));
        let note = entry.refused.as_deref().or(leads_to.as_deref()).unwrap_or_default();
        let key = entry.key.as_deref().unwrap_or_default();
        let style = canvas.style(Tone::Key);
        let from = canvas.put_right(row.right(), y, key, style);
        if !note.is_empty() {
            let muted = canvas.style(Tone::Faint);
            canvas.text(x + 2, y, note, muted, from.saturating_sub(x + 3));
        }
    }
}

fn draw_entry(canvas: &mut Canvas<'_>, area: Rect, app: &App, shown: &Entry) {
    let wide = lists::ENTRY_WIDE.min(area.width);
    let lines = lists::entry_lines(app, &shown.entry);
    let rows = texts::wrapped(lines, usize::from(wide.saturating_sub(4)));
    let outer = place(area, wide, (rows.len() as u16).saturating_add(2));
    let title = format!("Entry {}", shown.entry.seq);
    let inside = panel::dialog(canvas, outer, &title, Tone::Accent);
    let last = rows.len().saturating_sub(usize::from(inside.height));
    let top = shown.top.min(last);
    for (y, row) in (inside.y..inside.bottom()).zip(rows.iter().skip(top)) {
        let mut x = inside.x;
        for (text, tone) in &row.0 {
            let style = canvas.style(*tone);
            x = canvas.text(x, y, text, style, inside.right().saturating_sub(x));
        }
    }
    // Whether there is more of it than is seen.
    let muted = canvas.style(Tone::Muted);
    let glyphs = canvas.glyphs();
    if top > 0 {
        canvas.text(inside.right(), inside.y, glyphs.ascending, muted, 1);
    }
    if top < last && inside.height > 0 {
        canvas.text(inside.right(), inside.bottom() - 1, glyphs.descending, muted, 1);
    }
}

fn draw_menu(canvas: &mut Canvas<'_>, area: Rect, app: &App, menu: &Menu) {
    let unicode = app.theme.unicode;
    let refused: Vec<Option<String>> =
        menu.items.iter().map(|action| app.available(*action).err()).collect();
    let widest = menu.items.iter().zip(&refused).map(|(action, refused)| {
        let why = refused.as_ref().map_or(0, |why| width(why, unicode) + 2);
        width(action.spec().title, unicode) + why
    });
    let widest = widest.max().unwrap_or(0);
    let wide = (widest + 16).max(width(&menu.title, unicode) + 8).min(area.width);
    let outer = place(area, wide, menu.items.len() as u16 + 2);
    let inside = panel::dialog(canvas, outer, &menu.title, Tone::Accent);
    let top = top_for(menu.cursor, usize::from(inside.height));
    let items = menu.items.iter().zip(&refused).enumerate().skip(top);
    for (y, (at, (action, why))) in (inside.y..inside.bottom()).zip(items) {
        let row = Rect { y, height: 1, ..inside };
        if at == menu.cursor {
            selected_row(canvas, app, row);
        }
        let spec = action.spec();
        let refused = why.is_some();
        let tone = match (refused, spec.danger) {
            (true, _) => Tone::Faint,
            (false, true) => Tone::Bad,
            (false, false) => Tone::Text,
        };
        let style = canvas.style(tone);
        let end = row.right().saturating_sub(6);
        let x = canvas.text(row.x + 2, y, spec.title, style, end.saturating_sub(row.x + 2));
        if spec.danger && !refused {
            canvas.text(x + 1, y, app.theme.glyphs.danger, style, 1);
        }
        if let Some(why) = why {
            let faint = canvas.style(Tone::Faint);
            canvas.text(x + 2, y, why, faint, end.saturating_sub(x + 2));
        }
        let key = app.keymap.hint(*action).unwrap_or_default();
        let style = canvas.style(if refused { Tone::Faint } else { Tone::Key });
        canvas.put_right(row.right(), y, &key, style);
    }
}

fn draw_confirm(canvas: &mut Canvas<'_>, area: Rect, app: &App, confirm: &Confirm) {
    let unicode = app.theme.unicode;
    let longest = confirm.lines.iter().map(|line| width(line, unicode)).max().unwrap_or(0);
    let wide = (longest + 6).clamp(44, 76).min(area.width);
    let text = wide.saturating_sub(4).max(1);
    let lines: u16 = confirm.lines.iter().map(|line| wrapped(line, text).len() as u16).sum();
    let typed = if confirm.typed.is_some() { 3 } else { 0 };
    let high = lines + typed + 5;
    let outer = place(area, wide, high);
    let tone = if confirm.danger { Tone::Bad } else { Tone::Accent };
    let title = if confirm.danger {
        format!("{} {}", app.theme.glyphs.danger, confirm.title)
    } else {
        confirm.title.clone()
    };
    let mut inside = panel::dialog(canvas, outer, &title, tone);
    // The buttons are there however small the screen is.
    let buttons = cut_bottom(&mut inside, 1);
    if inside.height > lines + typed {
        cut_top(&mut inside, 1);
    }
    let mut prompt = (confirm.typed.is_some()).then(|| cut_bottom(&mut inside, 3));
    for line in confirm.lines.iter().flat_map(|line| wrapped(line, text)) {
        let row = cut_top(&mut inside, 1);
        if row.height == 0 {
            break;
        }
        canvas.put(row.x, row.y, &line, Tone::Text);
    }
    if let (Some(prompt), Some(typed)) = (&mut prompt, &confirm.typed) {
        let ask = cut_top(prompt, 1);
        let x = canvas.put(ask.x, ask.y, "Type ", Tone::Muted);
        let x = canvas.put(x, ask.y, typed, Tone::Strong);
        canvas.put(x, ask.y, " to go on:", Tone::Muted);
        let field = cut_top(prompt, 1);
        let wide = field.width.min(40);
        input::line(canvas, field.x, field.y, wide, &confirm.field, true, true);
        if confirm.is_ready() {
            canvas.put(field.x + wide + 1, field.y, app.theme.glyphs.yes, Tone::Good);
        } else if confirm.is_wrong && prompt.height > 0 {
            let said = format!("{} it does not match; Esc leaves", app.theme.glyphs.no);
            canvas.put(prompt.x, prompt.y, &said, Tone::Bad);
        }
    }
    let ready = confirm.is_ready();
    let chosen = canvas.style(Tone::Chosen);
    let alarm = canvas.style(if confirm.danger { Tone::Alarm } else { Tone::Chosen });
    let idle = canvas.style(Tone::Field);
    let faint = canvas.style(Tone::Faint);
    let keep = if confirm.proceed.starts_with("Cancel") { "Keep" } else { "Cancel" };
    let back = button(app, keep, !confirm.on_proceed);
    let go = button(app, &confirm.proceed, confirm.on_proceed);
    let style = if confirm.on_proceed { idle } else { chosen };
    let x = canvas.text(buttons.x, buttons.y, &back, style, buttons.width);
    let style = match (ready, confirm.on_proceed) {
        (false, _) => faint,
        (true, true) => alarm,
        (true, false) => idle,
    };
    let x = canvas.text(x + 2, buttons.y, &go, style, buttons.right().saturating_sub(x + 2));
    let hint = "Tab, Enter";
    if buttons.right() > x + 3 + hint.len() as u16 {
        canvas.put_right(buttons.right(), buttons.y, hint, faint);
    }
}

/// A button's text; without colour the chosen one has brackets.
fn button(app: &App, word: &str, chosen: bool) -> String {
    let mono = app.theme.depth == crate::tui::theme::Depth::None;
    if mono && chosen { format!("[ {word} ]") } else { format!("  {word}  ") }
}

fn draw_form(canvas: &mut Canvas<'_>, area: Rect, app: &App, dialog: &FormDialog) {
    let wide = 72.min(area.width);
    let notes = u16::from(dialog.error.is_some()) + 2;
    let outer = place(area, wide, form::height(&dialog.form) + notes + 4);
    let mut inside = panel::dialog(canvas, outer, &dialog.title, Tone::Accent);
    if inside.height > 6 {
        cut_top(&mut inside, 1);
    }
    let foot = cut_bottom(&mut inside, 1);
    if dialog.pending.is_some() {
        let text = format!("{} waiting for the server ...", app.theme.glyphs.pending);
        canvas.put(foot.x, foot.y, &text, Tone::Warn);
    } else {
        let text = "Tab next   Enter saves on the last field   Esc leaves";
        canvas.put(foot.x, foot.y, text, Tone::Faint);
    }
    if let Some(error) = &dialog.error {
        let row = cut_bottom(&mut inside, 1);
        let text = format!("{} {error}", app.theme.glyphs.no);
        canvas.put(row.x, row.y, &text, Tone::Bad);
    }
    let mut canvas = canvas.within(inside);
    form::draw(&mut canvas, inside, &dialog.form, dialog.pending.is_none());
}

fn draw_pick(canvas: &mut Canvas<'_>, area: Rect, app: &App, pick: &Pick) {
    let unicode = app.theme.unicode;
    let widest = pick
        .items
        .iter()
        .map(|item| width(&item.label, unicode) + width(&item.note, unicode))
        .max()
        .unwrap_or(0);
    let wide = (widest + 14).max(width(&pick.title, unicode) + 8).clamp(28, 80).min(area.width);
    let outer = place(area, wide, pick.items.len() as u16 + 2);
    let inside = panel::dialog(canvas, outer, &pick.title, Tone::Accent);
    let top = top_for(pick.cursor, usize::from(inside.height));
    for (y, (at, item)) in (inside.y..inside.bottom()).zip(pick.items.iter().enumerate().skip(top))
    {
        let row = Rect { y, height: 1, ..inside };
        if at == pick.cursor {
            selected_row(canvas, app, row);
        }
        let glyphs = app.theme.glyphs;
        let tick = match item.ticked {
            Some(true) => format!("[{}] ", glyphs.on),
            Some(false) => format!("[{}] ", glyphs.off),
            None => String::new(),
        };
        let x = canvas.put(row.x + 2, y, &tick, Tone::Accent);
        let text = canvas.style(Tone::Text);
        let x = canvas.text(x, y, &item.label, text, row.right().saturating_sub(x));
        let muted = canvas.style(Tone::Muted);
        canvas.text(x + 2, y, &item.note, muted, row.right().saturating_sub(x + 2));
    }
}

fn draw_secret(canvas: &mut Canvas<'_>, area: Rect, secret: &Secret) {
    let wide = 76.min(area.width);
    let text = wide.saturating_sub(4).max(1);
    let parts = wrapped(&secret.secret, text);
    let high = secret.lines.len() as u16 + parts.len() as u16 + 6;
    let outer = place(area, wide, high);
    let mut inside = panel::dialog(canvas, outer, &secret.title, Tone::Accent);
    let foot = cut_bottom(&mut inside, 1);
    let x = canvas.put(foot.x, foot.y, "y", Tone::Key);
    let x = canvas.put(x + 1, foot.y, "copy", Tone::Muted);
    let x = canvas.put(x + 3, foot.y, "Esc", Tone::Key);
    canvas.put(x + 1, foot.y, "close", Tone::Muted);
    for line in &secret.lines {
        let row = cut_top(&mut inside, 1);
        canvas.put(row.x, row.y, line, Tone::Text);
    }
    cut_top(&mut inside, 1);
    for part in parts {
        let row = cut_top(&mut inside, 1);
        if row.height > 0 {
            canvas.put(row.x, row.y, &part, Tone::Strong);
        }
    }
}

/// Breaks a text at spaces, and words that are too long anywhere.
pub fn wrapped(text: &str, wide: u16) -> Vec<String> {
    let wide = usize::from(wide.max(1));
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let room = {
            let line = lines.last().map_or(0, |line| line.width());
            wide.saturating_sub(line + usize::from(line > 0))
        };
        let line = lines.last_mut().expect("there is always a line");
        if word.width() <= room {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else if word.width() <= wide {
            lines.push(word.to_owned());
        } else {
            let mut part = String::new();
            for c in word.chars() {
                if part.width() + 2 > wide {
                    lines.push(std::mem::take(&mut part));
                }
                part.push(c);
            }
            lines.push(part);
        }
    }
    if lines.first().is_some_and(String::is_empty) && lines.len() > 1 {
        lines.remove(0);
    }
    lines
}

fn draw_help(canvas: &mut Canvas<'_>, area: Rect, app: &App, top: usize) {
    let outer = Rect {
        x: area.x + u16::from(area.width > 60) * 2,
        width: area.width.saturating_sub(if area.width > 60 { 4 } else { 0 }),
        y: area.y + u16::from(area.height > 20),
        height: area.height.saturating_sub(if area.height > 20 { 2 } else { 0 }),
    };
    let mut inside = panel::dialog(canvas, outer, "Keys of this screen", Tone::Accent);
    let foot = cut_bottom(&mut inside, 1);
    let more = [
        "j k scroll   any other key closes   : finds each by its title   danger needs a capital and is always confirmed",
        "j k scroll   any other key closes   : finds each by its title",
        "j k scroll   other keys close",
    ];
    canvas.put_fitting(foot.x, foot.y, &more, foot.right(), Tone::Faint);
    let unicode = app.theme.unicode;
    // Sections of this screen's contexts, the innermost first, each under its title.
    let mut rows: Vec<(String, String, Tone)> = Vec::new();
    let active = app.contexts();
    let mut contexts = active.clone();
    // A key that means something else in an inner context, or nothing here, is not listed.
    let is_meant = |context: Context, spec: &Spec, key: Key| {
        if app.is_for_form(key) {
            return false;
        }
        !active.contains(&context) || app.keymap.actions(&active, key).contains(&spec.action)
    };
    let is_general =
        |context: Context| matches!(context, Context::Global | Context::List | Context::Viewer);
    let is_idle = |context: Context, spec: &Spec| {
        is_general(context)
            && fitting::on_screen(app, spec.action).is_err()
            && !fitting::has_no_row(app)
    };
    if contexts.first() == Some(&Context::Prefix) {
        contexts.push(Context::Scroll);
    }
    for &context in &contexts {
        if !rows.is_empty() {
            rows.push((String::new(), String::new(), Tone::Text));
        }
        rows.push((String::new(), context.title().to_owned(), Tone::Accent));
        for spec in
            ACTIONS.iter().filter(|spec| first_context(&contexts, spec.contexts) == Some(context))
        {
            let all = app.keymap.keys(spec.action);
            let keys: Vec<String> = all
                .iter()
                .filter(|key| is_meant(context, spec, **key))
                .map(ToString::to_string)
                .collect();
            if is_idle(context, spec) || keys.is_empty() {
                continue;
            }
            let mut title = spec.title.to_owned();
            let tone = if app.permitted(spec.action).is_err() {
                title.push_str(match spec.needs {
                    Needs::Role(_) | Needs::ServerAdmin if app.read_only => "  (read-only)",
                    Needs::ServerAdmin => "  (server admins)",
                    Needs::Role(_) => "  (not with your role)",
                    Needs::Nothing => "",
                });
                Tone::Faint
            } else if spec.danger {
                Tone::Bad
            } else {
                Tone::Text
            };
            rows.push((keys.join(" "), title, tone));
        }
        if context == Context::Pane {
            for (keys, title) in ESCAPES {
                rows.push((keys.to_owned(), title.to_owned(), Tone::Text));
            }
        }
    }
    let columns = (inside.width / 46).clamp(1, 3);
    let wide = inside.width / columns;
    let high = usize::from(inside.height.max(1));
    let per = rows.len().div_ceil(usize::from(columns)).max(high);
    let skip = top.min(per.saturating_sub(high));
    for column in 0..columns {
        let part = rows.iter().skip(usize::from(column) * per).take(per);
        for (y, (keys, title, tone)) in (inside.y..inside.bottom()).zip(part.skip(skip)) {
            let x = inside.x + column * wide;
            // A gap to the next column.
            let room = wide.saturating_sub(if column + 1 < columns { 2 } else { 0 });
            if keys.is_empty() {
                let style = canvas.style(*tone);
                canvas.text(x, y, title, style, room);
                continue;
            }
            let key = canvas.style(Tone::Key);
            let keys_wide = 12.min(room / 3).max(width(keys, unicode).min(room / 2));
            canvas.text(x, y, keys, key, keys_wide);
            let style = canvas.style(*tone);
            canvas.text(x + keys_wide + 1, y, title, style, room.saturating_sub(keys_wide + 1));
        }
    }
}

/// The innermost context of the screen that has an action.
fn first_context(of_screen: &[Context], contexts: &[Context]) -> Option<Context> {
    of_screen.iter().copied().find(|context| contexts.contains(context))
}

/// The local escapes, as ssh has them: at the beginning of a line.
const ESCAPES: [(&str, &str); 4] = [
    ("~.", "End the session, at a line's beginning"),
    ("~d", "Detach: what runs, runs on"),
    ("~?", "This help"),
    ("~~", "Sends one ~"),
];
