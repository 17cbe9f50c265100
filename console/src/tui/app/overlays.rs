//! The keyboard while something lies over the screen.

use super::{
    App,
    calls::{GRACE_MS, Grace},
    dialog::{Confirm, Entry, FormDialog, Overlay, Pick, PickPurpose, Prompt, PromptKind, Then},
    drafts,
    form::FormStep,
    home, panes, people, perform, pickers,
};
use crate::tui::{
    effects::Effect,
    term::input::{Code, Input, Key},
    theme::Tone,
    view::screens::lists,
};

/// What is said when a question was answered with Cancel.
const NOTHING_SENT: &str = "cancelled, nothing was sent";
const NOTHING_PASTED: &str = "cancelled, nothing was pasted";

/// Gives an input to what lies on top.
pub fn input(app: &mut App, input: &Input) -> Vec<Effect> {
    let key = match input {
        Input::Key(key) => Some(*key),
        _ => None,
    };
    if key.is_some_and(|key| key.ctrl && key.code == Code::Char('c')) {
        app.overlay = None;
        return Vec::new();
    }
    match app.overlay.take() {
        Some(Overlay::Palette(palette)) => palette_input(app, palette, input, key),
        Some(Overlay::Help(top)) => {
            let to = match key.map(|key| key.code) {
                Some(code) => match scrolled(top, code) {
                    Some(to) => to,
                    None => return Vec::new(),
                },
                None => top,
            };
            app.overlay = Some(Overlay::Help(to.min(200)));
            Vec::new()
        }
        Some(Overlay::Entry(Entry { entry, top })) => {
            let to = match key.map(|key| key.code) {
                Some(Code::Char('y')) => {
                    let text = serde_json::to_string_pretty(&entry).unwrap_or_default();
                    app.overlay = Some(Overlay::Entry(Entry { entry, top }));
                    app.toast("copied", Tone::Good);
                    return vec![Effect::CopyToClipboard(text)];
                }
                Some(Code::Esc | Code::Enter | Code::Char('q' | 'i')) => return Vec::new(),
                code => code.and_then(|code| scrolled(top, code)).unwrap_or(top),
            };
            let last = lists::entry_last_top(app, &entry);
            app.overlay = Some(Overlay::Entry(Entry { entry, top: to.min(last) }));
            Vec::new()
        }
        Some(Overlay::Menu(mut menu)) => {
            match key.map(|key| key.code) {
                Some(Code::Esc | Code::Char('q' | 'a')) => return Vec::new(),
                Some(Code::Enter) => {
                    let action = menu.items.get(menu.cursor).copied();
                    return action.map(|a| perform::perform(app, a)).unwrap_or_default();
                }
                Some(code) => {
                    if !step(&mut menu.cursor, menu.items.len(), code)
                        && let Some(key) = key
                        && let Some(action) = menu
                            .items
                            .iter()
                            .copied()
                            .find(|action| app.keymap.keys(*action).contains(&key))
                    {
                        return perform::perform(app, action);
                    }
                }
                None => {}
            }
            app.overlay = Some(Overlay::Menu(menu));
            Vec::new()
        }
        Some(Overlay::Confirm(confirm)) => confirm_input(app, *confirm, input, key),
        Some(Overlay::Form(dialog)) => form_input(app, dialog, input, key),
        Some(Overlay::Pick(pick)) => pick_input(app, pick, key),
        Some(Overlay::Prompt(prompt)) => prompt_input(app, prompt, input, key),
        Some(Overlay::Secret(secret)) => match key.map(|key| key.code) {
            Some(Code::Char('y')) => {
                let text = secret.secret.clone();
                app.overlay = Some(Overlay::Secret(secret));
                app.toast("copied", Tone::Good);
                vec![Effect::CopyToClipboard(text)]
            }
            Some(Code::Esc | Code::Enter | Code::Char('q')) => Vec::new(),
            _ => {
                app.overlay = Some(Overlay::Secret(secret));
                Vec::new()
            }
        },
        None => Vec::new(),
    }
}

/// Where a key moves a text to that begins at line `top`; `None` when it does not move it.
const fn scrolled(top: usize, code: Code) -> Option<usize> {
    Some(match code {
        Code::Down | Code::Char('j') => top.saturating_add(1),
        Code::Up | Code::Char('k') => top.saturating_sub(1),
        Code::PageDown | Code::Char(' ') => top.saturating_add(10),
        Code::PageUp => top.saturating_sub(10),
        Code::Char('g') | Code::Home => 0,
        _ => return None,
    })
}

/// Moves in a list of choices.
fn step(cursor: &mut usize, n: usize, code: Code) -> bool {
    let last = n.saturating_sub(1);
    match code {
        Code::Down | Code::Char('j') | Code::Tab => {
            *cursor = if *cursor >= last { 0 } else { *cursor + 1 };
        }
        Code::Up | Code::Char('k') | Code::BackTab => {
            *cursor = cursor.checked_sub(1).unwrap_or(last);
        }
        Code::PageDown => *cursor = (*cursor + 10).min(last),
        Code::PageUp => *cursor = cursor.saturating_sub(10),
        Code::Home => *cursor = 0,
        Code::End => *cursor = last,
        _ => return false,
    }
    true
}

fn palette_input(
    app: &mut App,
    mut palette: super::palette::Palette,
    input: &Input,
    key: Option<Key>,
) -> Vec<Effect> {
    match key.map(|key| (key.code, key.ctrl)) {
        Some((Code::Esc, _)) => return Vec::new(),
        Some((Code::Backspace, _)) if palette.field.text().is_empty() => return Vec::new(),
        Some((Code::Enter, _)) => {
            let Some(entry) = palette.entries.get(palette.cursor) else {
                let text = format!("nothing is called {:?}", palette.field.text());
                app.toast(text, Tone::Warn);
                return Vec::new();
            };
            return home::choose(app, entry.action);
        }
        Some((
            code @ (Code::Down
            | Code::Up
            | Code::Tab
            | Code::BackTab
            | Code::PageDown
            | Code::PageUp),
            _,
        )) => {
            step(&mut palette.cursor, palette.entries.len(), code);
        }
        Some((Code::Char('n'), true)) => {
            step(&mut palette.cursor, palette.entries.len(), Code::Down);
        }
        Some((Code::Char('p'), true)) => {
            step(&mut palette.cursor, palette.entries.len(), Code::Up);
        }
        _ => {
            if palette.field.edit(input) {
                palette.search(app);
            }
        }
    }
    app.overlay = Some(Overlay::Palette(palette));
    Vec::new()
}

fn confirm_input(
    app: &mut App,
    mut confirm: Confirm,
    input: &Input,
    key: Option<Key>,
) -> Vec<Effect> {
    match key.map(|key| key.code) {
        Some(Code::Tab | Code::BackTab | Code::Left | Code::Right) => {
            confirm.on_proceed = !confirm.on_proceed;
        }
        Some(Code::Enter) if confirm.on_proceed && confirm.is_ready() => {
            return proceed(app, confirm.then);
        }
        // A name that was typed in full moves on to the button, it does not press it.
        Some(Code::Enter) if confirm.typed.is_some() && confirm.is_ready() => {
            confirm.on_proceed = true;
        }
        // Only Esc leaves a name that was mistyped: what follows is no key for the screen behind.
        Some(Code::Enter) if confirm.on_proceed || !confirm.field.text().is_empty() => {
            confirm.is_wrong = true;
        }
        Some(Code::Enter | Code::Esc) => {
            match confirm.then {
                Then::Now(_) | Then::Grace(..) => app.toast(NOTHING_SENT, Tone::Muted),
                Then::Paste(_) => app.toast(NOTHING_PASTED, Tone::Muted),
                Then::Quit | Then::ClosePane(_) => {}
            }
            return Vec::new();
        }
        _ => {
            if confirm.typed.is_some() && confirm.field.edit(input) {
                confirm.is_wrong = false;
            }
        }
    }
    app.overlay = Some(Overlay::Confirm(Box::new(confirm)));
    Vec::new()
}

fn proceed(app: &mut App, then: Then) -> Vec<Effect> {
    let mut effects = Vec::new();
    // What was said of an earlier question is not true of this one.
    app.toasts.retain(|toast| toast.text != NOTHING_SENT && toast.text != NOTHING_PASTED);
    match then {
        Then::Now(what) => perform::send(app, what, &mut effects),
        Then::Grace(title, what) => {
            drafts::sent(app, &what);
            let until = app.now.plus_millis(GRACE_MS);
            app.calls.grace.push(Grace { title, until, what });
        }
        Then::Quit => effects.push(Effect::Quit),
        Then::Paste(text) => panes::typing::paste_now(app, &text, &mut effects),
        Then::ClosePane(pane) => panes::commands::close_now(app, pane, &mut effects),
    }
    effects
}

fn form_input(
    app: &mut App,
    mut dialog: Box<FormDialog>,
    input: &Input,
    key: Option<Key>,
) -> Vec<Effect> {
    let code = key.map(|key| key.code);
    if code == Some(Code::Esc) {
        return Vec::new();
    }
    // While it is under way nothing more is typed into it.
    if dialog.pending.is_some() {
        app.overlay = Some(Overlay::Form(dialog));
        return Vec::new();
    }
    if dialog.form.input(input) == FormStep::Submit {
        dialog.error = None;
        if dialog.form.values().is_some() {
            return people::submit(app, dialog);
        }
    }
    app.overlay = Some(Overlay::Form(dialog));
    Vec::new()
}

fn pick_input(app: &mut App, mut pick: Pick, key: Option<Key>) -> Vec<Effect> {
    let Some(key) = key else {
        app.overlay = Some(Overlay::Pick(pick));
        return Vec::new();
    };
    match key.code {
        Code::Esc | Code::Char('q') => return Vec::new(),
        Code::Enter | Code::Char(' ') => {
            let Some(item) = pick.items.get_mut(pick.cursor) else { return Vec::new() };
            if let Some(ticked) = &mut item.ticked {
                *ticked = !*ticked;
                let (value, on) = (item.value.clone(), *ticked);
                if let PickPurpose::Columns(table) = pick.purpose {
                    let hidden = &mut app.list_mut(table).hidden;
                    if on {
                        hidden.remove(&value);
                    } else {
                        hidden.insert(value);
                    }
                }
                if key.code == Code::Enter {
                    return Vec::new();
                }
            } else {
                let value = item.value.clone();
                return pickers::picked(app, pick.purpose, &value);
            }
        }
        Code::Char('D') if pick.purpose == PickPurpose::Drafts => {
            return drafts::forget(app, &pick);
        }
        Code::Char('D') if matches!(pick.purpose, PickPurpose::Views(_)) => {
            return pickers::forget_view(app, pick);
        }
        code => {
            step(&mut pick.cursor, pick.items.len(), code);
        }
    }
    app.overlay = Some(Overlay::Pick(pick));
    Vec::new()
}

fn prompt_input(app: &mut App, mut prompt: Prompt, input: &Input, key: Option<Key>) -> Vec<Effect> {
    match key.map(|key| key.code) {
        Some(Code::Esc) => {
            preview(app, prompt.kind, &prompt.before);
            return Vec::new();
        }
        Some(Code::Enter) => {
            return pickers::prompted(app, prompt.kind, prompt.field.text().trim());
        }
        _ => {
            prompt.field.edit(input);
            preview(app, prompt.kind, prompt.field.text());
        }
    }
    app.overlay = Some(Overlay::Prompt(prompt));
    Vec::new()
}

/// Shows what a text finds while it is typed, where the server need not be asked for it.
fn preview(app: &mut App, kind: PromptKind, text: &str) {
    match (kind, &mut app.wizard) {
        (PromptKind::Search, _) => {
            text.clone_into(&mut app.viewer.search);
            app.viewer.found = None;
        }
        (PromptKind::Operations, Some(wizard)) => wizard.search(text),
        _ => {}
    }
}
