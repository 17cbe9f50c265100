//! The wizard of a new command, step by step.

use std::fmt::Write as _;

use quarterdeck_protocol::{
    api::{CreateCommands, RebootBudget},
    command::Priority,
    operations::Operation,
};
use ratatui::layout::Rect;
use serde_json::Value;

use super::cells;
use crate::tui::{
    app::{
        App,
        msg::Layout,
        windows,
        wizard::{Blast, SITES_SHOWN, Step, Wizard},
        wizard_input,
    },
    format,
    store::WindowKey,
    theme::{Depth, Tone},
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top, width},
        footer,
        overlay::wrapped,
        texts::{self, Line},
        widgets::{form, panel, table},
    },
};

/// A card's size.
const CARD_WIDE: u16 = 36;
const CARD_HIGH: u16 = 5;
/// Lines of a script that the review shows.
const TEXT_LINES_SHOWN: usize = 8;
/// Devices that the command line of the review names.
const LINE_MAX_DEVICES: usize = 20;

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard, layout: &mut Layout) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    steps(canvas, line, app, wizard);
    if rest.height > 12 {
        cut_top(&mut rest, 1);
    }
    if let Some(error) = &wizard.error {
        let row = cut_bottom(&mut rest, 1);
        let text = format!("{} {error}", app.theme.glyphs.no);
        canvas.put(row.x + 1, row.y, &text, Tone::Bad);
    }
    match wizard.step {
        Step::Targets => targets(canvas, rest, app, wizard, layout),
        Step::Operation => operations(canvas, rest, app, wizard, layout),
        Step::Configure => configure(canvas, rest, app, wizard),
        Step::Review => review(canvas, rest, app, wizard, layout),
    }
}

/// The way through the wizard, with where one is.
fn steps(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard) {
    let glyphs = app.theme.glyphs;
    let unicode = app.theme.unicode;
    let narrow = area.width < 60;
    let mut x = area.x + 1;
    for (at, step) in Step::ALL.into_iter().enumerate() {
        let (mark, tone) = match step.cmp(&wizard.step) {
            std::cmp::Ordering::Less => (glyphs.yes.to_owned(), Tone::Good),
            std::cmp::Ordering::Equal => ((at + 1).to_string(), Tone::Chosen),
            std::cmp::Ordering::Greater => ((at + 1).to_string(), Tone::Faint),
        };
        if narrow && step != wizard.step {
            continue;
        }
        let text = if narrow {
            format!(" {} of {} {} ", at + 1, Step::ALL.len(), step.title())
        } else {
            format!(" {mark} {} ", step.title())
        };
        let style = canvas.style(tone);
        x = canvas.text(x, area.y, &text, style, area.right().saturating_sub(x));
        if step != Step::Review && !narrow {
            let faint = canvas.style(Tone::Faint);
            canvas.repeat(x, area.y, glyphs.horizontal, 2, faint);
            x += 2;
        }
    }
    let mut summary = Vec::new();
    if !wizard.targets.is_empty() && wizard.step != Step::Targets {
        summary.push(format::plural(wizard.targets.len() as u64, "device"));
    }
    if let Some(operation) = &wizard.operation
        && wizard.step > Step::Operation
    {
        summary.push(operation.title.clone());
    }
    let text = summary.join("   ");
    if x + width(&text, unicode) + 2 < area.right() {
        let accent = canvas.style(Tone::Accent);
        canvas.put_right(area.right().saturating_sub(1), area.y, &text, accent);
    }
}

fn targets(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard, layout: &mut Layout) {
    let key = WindowKey::WizardDevices;
    let marks = &app.list(key).marks;
    let retired = marks.values().filter(|mark| mark.is_retired()).count();
    let marked = (marks.len() - retired) as u64;
    let mut rest = area;
    if rest.height > 8 {
        for said in wizard.says_left_out() {
            let row = cut_bottom(&mut rest, 1);
            let text = format!("{} {said}", app.theme.glyphs.danger);
            canvas.put(row.x + 3, row.y, &text, Tone::Warn);
        }
    }
    if rest.height > 6 {
        let hint = cut_bottom(&mut rest, 1);
        let marked_text =
            format!("Enter goes on with the {} marked.", format::plural(marked, "device"));
        let texts: &[&str] = if marked == 0 {
            &[
                "Space marks, A marks all shown, / filters. Enter goes on with the device under the cursor.",
                "Space marks, A all, / filters. Enter goes on with the cursor's device.",
                "Space marks, A all, / filters.",
            ]
        } else {
            &[marked_text.as_str()]
        };
        canvas.put_fitting(hint.x + 3, hint.y, texts, hint.right(), Tone::Muted);
    }
    let none = ["No device matches.", "Esc drops the filter."];
    let look = table::Look { key, title: "For which devices?", focused: true, none: &none };
    table::draw(canvas, rest, app, look, layout, cells::device);
}

fn operations(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    wizard: &Wizard,
    layout: &mut Layout,
) {
    let all = wizard_input::operations(app);
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    let window = app.store.window(WindowKey::Operations);
    let hidden = window.rows().len().saturating_sub(wizard_input::offered(app).len());
    let mut note = String::new();
    if !wizard.filter.is_empty() {
        let _ = write!(note, "/{}   ", wizard.filter);
    }
    if !all.is_empty() {
        let _ = write!(note, "{} of {}", wizard.card + 1, all.len());
    }
    if hidden > 0 && wizard.filter.is_empty() {
        let _ = write!(note, ", {hidden} more are not on all of these devices");
    }
    panel::rule(canvas, line, "What shall they do?", &note, true);
    if all.is_empty() {
        let none: &[&str] = if wizard.filter.is_empty() {
            &["The server knows no operation."]
        } else {
            &["No operation matches.", "Esc drops the filter."]
        };
        panel::empty(canvas, rest, app, window, none);
        return;
    }
    // Too low for cards: a list.
    let as_list = rest.height < CARD_HIGH * 2 || rest.width < CARD_WIDE + 2;
    let columns = if as_list { 1 } else { (rest.width / CARD_WIDE).clamp(1, 5) };
    let high = if as_list { 1 } else { CARD_HIGH };
    layout.card_columns = usize::from(columns);
    let per_screen = usize::from((rest.height / high).max(1));
    let row_of = |at: usize| at / usize::from(columns);
    let top = (row_of(wizard.card) + 1).saturating_sub(per_screen);
    let wide = rest.width / columns;
    for (at, operation) in all.iter().enumerate() {
        let (row, column) = (row_of(at), at % usize::from(columns));
        if row < top || row >= top + per_screen {
            continue;
        }
        let card = Rect {
            x: rest.x + column as u16 * wide,
            y: rest.y + (row - top) as u16 * high,
            width: wide.saturating_sub(u16::from(!as_list)),
            height: high,
        };
        let chosen = at == wizard.card;
        layout.cards.push((at, card));
        if as_list {
            list_row(canvas, card, app, operation, chosen);
        } else {
            draw_card(canvas, card, app, operation, chosen);
        }
    }
}

fn about(app: &App, operation: &Operation) -> String {
    let icon = if app.theme.unicode { format!("{} ", operation.icon) } else { String::new() };
    let title = if operation.title.is_empty() { &operation.name } else { &operation.title };
    format!("{icon}{title}")
}

fn list_row(canvas: &mut Canvas<'_>, area: Rect, app: &App, operation: &Operation, chosen: bool) {
    if chosen {
        if !app.low_bandwidth {
            let selected = canvas.style(Tone::Selected);
            canvas.fill(area, selected);
        }
        let accent = canvas.style(Tone::Accent);
        canvas.text(area.x, area.y, app.theme.glyphs.cursor, accent, 1);
    }
    let tone = if operation.dangerous { Tone::Bad } else { Tone::Text };
    let style = canvas.style(tone);
    let x = canvas.text(area.x + 2, area.y, &about(app, operation), style, 24);
    let muted = canvas.style(Tone::Muted);
    let x = x.max(area.x + 24) + 1;
    canvas.text(x, area.y, &operation.description, muted, area.right().saturating_sub(x));
}

fn draw_card(canvas: &mut Canvas<'_>, area: Rect, app: &App, operation: &Operation, chosen: bool) {
    let tone = if chosen { Tone::Accent } else { Tone::Faint };
    let title = about(app, operation);
    let title = if chosen && app.theme.depth == Depth::None { format!("[{title}]") } else { title };
    let inside = panel::boxed(canvas, area, &title, tone);
    let text = Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside };
    let lines = wrapped(&operation.description, text.width);
    let style = canvas.style(if chosen { Tone::Text } else { Tone::Muted });
    for (y, line) in (text.y..text.bottom().saturating_sub(1)).zip(&lines) {
        canvas.text(text.x, y, line, style, text.width);
    }
    let y = text.bottom().saturating_sub(1);
    let ms = i64::from(operation.estimated_duration_s) * 1000;
    // Whole minutes would make a minute and a half one.
    let estimate = if ms < 60_000 { format::age_ms(ms) } else { format::duration_ms(ms) };
    let faint = canvas.style(Tone::Muted);
    let x = canvas.text(text.x, y, &format!("~{estimate}"), faint, text.width);
    if operation.dangerous {
        let bad = canvas.style(Tone::Bad);
        let text_ = format!("{} dangerous", app.theme.glyphs.danger);
        canvas.text(x + 2, y, &text_, bad, text.right().saturating_sub(x + 2));
    }
    if operation.source == quarterdeck_protocol::operations::OperationSource::Device {
        let note = format!("on {}", format::plural(operation.device_count, "device"));
        let muted = canvas.style(Tone::Muted);
        if x + width(&note, app.theme.unicode) + 2 < text.right() {
            canvas.put_right(text.right(), y, &note, muted);
        }
    }
}

fn configure(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard) {
    let mut rest = area;
    let title = wizard.operation.as_ref().map_or("Configure", |operation| operation.title.as_str());
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, title, "* is needed", true);
    if rest.height > 10 {
        cut_top(&mut rest, 1);
    }
    if rest.height > 4 {
        let hint = cut_bottom(&mut rest, 1);
        let texts = if wizard.form.is_in_editor() {
            [
                "Enter a new line   Tab next field   C-n goes on   Esc back",
                "Enter new line  Tab next  C-n goes on",
            ]
        } else {
            [
                "Tab next field   Enter on the last, or C-n anywhere, goes on   Esc back",
                "Tab next   C-n goes on   Esc back",
            ]
        };
        canvas.put_fitting(hint.x + 2, hint.y, &texts, hint.right(), Tone::Faint);
    }
    let wide = Rect { x: rest.x + 1, width: rest.width.saturating_sub(2), ..rest };
    form::draw(canvas, wide, &wizard.form, app.overlay.is_none());
}

fn review(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard, layout: &mut Layout) {
    let mut rest = area;
    let buttons = cut_bottom(&mut rest, 1);
    if rest.height > 8 {
        cut_bottom(&mut rest, 1);
    }
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, "Is this right?", "y copies the command line", true);
    cut_left(&mut rest, 2);
    let (mut lines, to_read) = review_lines(app, wizard);
    let others = lines.split_off(to_read);
    let wide = usize::from(rest.width.saturating_sub(1));
    let to_read = texts::wrapped(lines.clone(), wide).len();
    lines.extend(others);
    let top = texts::draw(canvas, rest, app, lines, layout);
    layout.review_rows = Some(to_read);
    let is_read = top + usize::from(rest.height) >= to_read;
    draw_buttons(canvas, buttons, app, wizard, is_read);
}

fn draw_buttons(canvas: &mut Canvas<'_>, area: Rect, app: &App, wizard: &Wizard, is_read: bool) {
    let glyphs = app.theme.glyphs;
    if let Some(number) = wizard.submission {
        let text = if app.calls.is_in_grace(number) {
            "waits in its grace; u calls it back"
        } else {
            "sent, waiting for the server's word ..."
        };
        canvas.put(area.x + 2, area.y, &format!("{} {text}", glyphs.pending), Tone::Warn);
        return;
    }
    let danger = wizard.operation.as_ref().is_some_and(|operation| operation.dangerous);
    let n = format::plural(wizard.targets.len() as u64, "device");
    let mono = app.theme.depth == Depth::None;
    let label = |word: &str, chosen: bool| {
        if mono && chosen { format!("[ {word} ]") } else { format!("  {word}  ") }
    };
    let idle = canvas.style(Tone::Field);
    let chosen = canvas.style(if danger && is_read { Tone::Alarm } else { Tone::Chosen });
    let send = if is_read { format!("Send to {n}") } else { "Read on".to_owned() };
    let send = label(&send, wizard.send_focused);
    let style = if wizard.send_focused { chosen } else { idle };
    let x = canvas.text(area.x + 2, area.y, &send, style, area.width.saturating_sub(2));
    let leave = label("Leave", !wizard.send_focused);
    let chosen = canvas.style(Tone::Chosen);
    let style = if wizard.send_focused { idle } else { chosen };
    canvas.text(x + 2, area.y, &leave, style, area.right().saturating_sub(x + 2));
}

fn fact(out: &mut Vec<Line>, label: &str, value: impl Into<String>, tone: Tone) {
    out.push(Line(vec![(format!("{label:<14}"), Tone::Muted), (value.into(), tone)]));
}

/// How many of the targets have used up their reboots.
fn locked(app: &App, wizard: &Wizard) -> usize {
    let budgets = app.store.overview().map_or(&[][..], |overview| &overview.reboot_budget);
    let is_locked = |budget: &&RebootBudget| {
        budget.left == 0 && wizard.targets.contains_key(budget.device_id.as_str())
    };
    budgets.iter().filter(is_locked).count()
}

/// What will be sent, to whom, and what it touches; what is dangerous or may surprise stands first.
/// Beside it, how many of the lines are to be read before anything is sent.
pub fn review_lines(app: &App, wizard: &Wizard) -> (Vec<Line>, usize) {
    let mut out = Vec::new();
    let (Some(operation), Some(request)) =
        (&wizard.operation, wizard.request_to(LINE_MAX_DEVICES, false))
    else {
        return (out, 0);
    };
    let blast = wizard.blast();
    let tone = if operation.dangerous { Tone::Bad } else { Tone::Strong };
    fact(&mut out, "Operation", about(app, operation), tone);
    let some = wizard.targets.keys().take(3).cloned().collect::<Vec<_>>().join(", ");
    let more = wizard.targets.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let devices = format!("{}: {some}{more}", format::plural(blast.devices, "device"));
    fact(&mut out, "Targets", devices, Tone::Text);
    warnings(app, wizard, operation, &blast, &mut out);
    let to_read = out.len();
    out.push(Line::default());
    payload(&request.payload, &mut out);
    let priority = wizard.priority();
    let band = Priority::try_from(priority).map_or("", Priority::band);
    let delivery = format!(
        "priority {priority} {band}, may run {}, waits {} for devices that are offline",
        format::duration_ms(i64::from(wizard.timeout_s()) * 1000),
        format::duration_ms(i64::from(wizard.expires_in_s()) * 1000)
    );
    fact(&mut out, "Delivery", delivery, Tone::Text);
    let estimate = format::duration_ms(i64::from(operation.estimated_duration_s) * 1000);
    let text = format!("about {estimate} on each device, side by side");
    fact(&mut out, "Takes", text, Tone::Text);
    if !wizard.notes().is_empty() {
        fact(&mut out, "Notes", wizard.notes(), Tone::Text);
    }
    out.push(Line::default());
    out.push(Line::new("Blast radius", Tone::Accent));
    let sites = blast
        .sites
        .iter()
        .take(SITES_SHOWN)
        .map(|(site, n)| format!("{site} {n}"))
        .collect::<Vec<_>>()
        .join("   ");
    let others = blast.sites.len().saturating_sub(SITES_SHOWN);
    let others = if others > 0 { format!("   and {others} more") } else { String::new() };
    fact(&mut out, "Sites", format!("{sites}{others}"), Tone::Text);
    if blast.production == 0 {
        fact(&mut out, "Production", production(&blast), Tone::Good);
    }
    let online = format!("{} online", format::count(blast.online));
    let is_now = app.is_current() && !app.is_awaiting();
    match windows::known_at(app).filter(|_| !is_now) {
        None => fact(&mut out, "Reached now", online, Tone::Good),
        Some(at) => {
            let online = format!("{online}, {}", footer::as_of(app, at));
            fact(&mut out, "Reached then", online, Tone::Faint);
        }
    }
    if blast.unknown > 0 {
        let text = format!("{} whose state is not known here", format::count(blast.unknown));
        fact(&mut out, "Unknown", text, Tone::Muted);
    }
    out.push(Line::default());
    out.push(Line::new("The same on the command line", Tone::Accent));
    let confirm = must_confirm(app, operation, &blast);
    let line = app.cli_line(&CreateCommands { confirm, ..request });
    out.push(Line::new(line, Tone::Text));
    let more = wizard.targets.len().saturating_sub(LINE_MAX_DEVICES);
    if more > 0 {
        let more = format::plural(more as u64, "more device");
        out.push(Line::new(format!("... and {more}; y copies the whole line"), Tone::Muted));
    }
    (out, to_read)
}

fn must_confirm(app: &App, operation: &Operation, blast: &Blast) -> bool {
    operation.dangerous || blast.devices > u64::from(app.settings.confirm_over_devices)
}

fn production(blast: &Blast) -> String {
    let share = format::percent(blast.production, blast.devices);
    format!("{} of {} ({share})", blast.production, blast.devices)
}

/// What is dangerous or may surprise.
fn warnings(app: &App, wizard: &Wizard, operation: &Operation, blast: &Blast, out: &mut Vec<Line>) {
    let danger = app.theme.glyphs.danger;
    for said in wizard.says_left_out() {
        fact(out, "Left out", format!("{danger} {said}"), Tone::Warn);
    }
    if blast.offline > 0 {
        let last = blast.oldest_contact.map_or_else(String::new, |at| {
            format!(", the longest silent for {}", format::age(Some(at), app.server_now()))
        });
        let waits = format::duration_ms(i64::from(wizard.expires_in_s()) * 1000);
        let text = format!(
            "{danger} {} not online{last}; theirs wait up to {waits}",
            format::count(blast.offline)
        );
        fact(out, "Offline", text, Tone::Warn);
    }
    if blast.production > 0 {
        fact(out, "Production", production(blast), Tone::Warn);
    }
    if operation.reboots {
        let text = format!(
            "{danger} takes the host down; at most {} times in {} min per device",
            app.settings.reboot_limit,
            app.settings.reboot_window_s / 60
        );
        fact(out, "Safety", text, Tone::Warn);
        let locked = locked(app, wizard);
        if locked > 0 {
            let text = format!(
                "{danger} {} no reboot left: the command is blocked there, and never runs later",
                if locked == 1 { "1 device has".into() } else { format!("{locked} devices have") }
            );
            fact(out, "Locked", text, Tone::Bad);
        }
    }
    if must_confirm(app, operation, blast) {
        let text = "asks for a typed confirmation, and leaves 10 s after it";
        fact(out, "Confirmation", text, Tone::Warn);
    }
}

/// What is sent along: on one line, and texts of several lines as they are.
fn payload(payload: &Value, out: &mut Vec<Line>) {
    let mut short = payload.clone();
    let mut texts = Vec::new();
    if let Some(fields) = short.as_object_mut() {
        fields.retain(|name, value| {
            let text = value.as_str().filter(|text| text.trim_end().contains('\n'));
            texts.extend(text.map(|text| (name.clone(), text.to_owned())));
            text.is_none()
        });
    }
    let short = cells::compact(&short);
    if !short.is_empty() {
        fact(out, "Payload", short, Tone::Text);
    }
    for (name, text) in texts {
        let lines: Vec<&str> = text.lines().collect();
        let count = format::plural(lines.len() as u64, "line");
        fact(out, &name, format!("{count}:"), Tone::Muted);
        for (at, line) in lines.iter().take(TEXT_LINES_SHOWN).enumerate() {
            let number = format!("{:>12}  ", at + 1);
            out.push(Line(vec![(number, Tone::Muted), ((*line).to_owned(), Tone::Text)]));
        }
        let more = lines.len().saturating_sub(TEXT_LINES_SHOWN) as u64;
        if more > 0 {
            fact(out, "", format!("and {}", format::plural(more, "more line")), Tone::Muted);
        }
    }
}
