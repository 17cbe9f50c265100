//! The keyboard in the wizard.

use quarterdeck_protocol::{
    api::{CreateCommands, Targets},
    limits::BATCH_MAX_DEVICES,
    operations::{Operation, check_payload},
};

use super::{
    App, Viewer,
    calls::{Outgoing, Purpose},
    dialog::Then,
    drafts,
    form::FormStep,
    jobs::{Job, Task},
    moving,
    nav::Place,
    perform,
    update::device_mark,
    wizard::{Step, Wizard},
};
use crate::tui::{
    effects::{ApiRequest, Effect},
    format,
    store::WindowKey,
    term::input::{Code, Input, Key},
    theme::Tone,
};

/// Takes an input that is the wizard's own; `None` leaves it to the actions.
pub fn input(app: &mut App, input: &Input) -> Option<Vec<Effect>> {
    let key = match input {
        Input::Key(key) => Some(*key),
        _ => None,
    };
    let code = key.map(|key| key.code);
    let step = app.wizard.as_ref()?.step;
    // Leads out of the program, also from a field: it asks first where something is written.
    if key == Some(Key { code: Code::Char('c'), ctrl: true, alt: false, shift: false }) {
        return None;
    }
    if code == Some(Code::Esc) && step != Step::Targets {
        if step == Step::Operation && !app.wizard.as_ref()?.filter.is_empty() {
            app.wizard.as_mut()?.search("");
            return Some(Vec::new());
        }
        back(app);
        return Some(Vec::new());
    }
    if key == Some(Key { code: Code::Char('n'), ctrl: true, alt: false, shift: false }) {
        next(app);
        return Some(Vec::new());
    }
    match step {
        Step::Targets => (code == Some(Code::Enter)).then(|| {
            next(app);
            Vec::new()
        }),
        Step::Operation => {
            let columns = app.layout.card_columns.max(1);
            let last = operations(app).len().saturating_sub(1);
            let at = app.wizard.as_ref()?.card;
            let to = match code? {
                Code::Left | Code::Char('h') => at.checked_sub(1),
                Code::Right | Code::Char('l') | Code::Tab => Some(at + 1),
                Code::Up | Code::Char('k') => at.checked_sub(columns),
                Code::Down | Code::Char('j') => Some(at + columns),
                Code::Home | Code::Char('g') => Some(0),
                Code::End | Code::Char('G') => Some(last),
                Code::Enter => {
                    next(app);
                    return Some(Vec::new());
                }
                _ => return None,
            };
            if let Some(to) = to.filter(|to| *to <= last) {
                app.wizard.as_mut()?.card = to;
            }
            Some(Vec::new())
        }
        Step::Configure => {
            let wizard = app.wizard.as_mut()?;
            match wizard.form.input(input) {
                FormStep::Submit => next(app),
                FormStep::Ignored => {
                    // Letters typed at a slider or a switch are no shortcuts.
                    let is_letter = matches!(key, Some(Key { code: Code::Char(c), ctrl: false, .. }) if c != '?');
                    if !is_letter {
                        return None;
                    }
                }
                FormStep::Taken => {}
            }
            Some(Vec::new())
        }
        Step::Review => match code? {
            Code::Enter => {
                let send = app.wizard.as_ref()?.send_focused;
                if send && !is_read(app) {
                    moving::page(app, 1, 1);
                    return Some(Vec::new());
                }
                if send {
                    return Some(send_it(app));
                }
                leave(app);
                Some(Vec::new())
            }
            Code::Left | Code::Right | Code::Tab | Code::BackTab => {
                let wizard = app.wizard.as_mut()?;
                wizard.send_focused = !wizard.send_focused;
                Some(Vec::new())
            }
            Code::Char('y') => Some(perform::perform(app, super::actions::Action::CommandCli)),
            _ => None,
        },
    }
}

/// The operations that can be chosen for the devices and that the filter finds.
pub fn operations(app: &App) -> Vec<Operation> {
    let mut found = offered(app);
    found.retain(|operation| app.wizard.as_ref().is_none_or(|wizard| wizard.finds(operation)));
    found
}

/// The operations that can be chosen for the devices, the custom script last.
pub fn offered(app: &App) -> Vec<Operation> {
    let window = app.store.window(WindowKey::Operations);
    let offered =
        |operation: &&_| app.wizard.as_ref().is_none_or(|wizard| wizard.offers(operation));
    let all = window.rows().iter().filter_map(|row| row.operation());
    let mut all: Vec<_> = all.filter(offered).cloned().collect();
    all.sort_by_key(|operation| operation.name == "run_script");
    all
}

/// Goes on to the next step, when this one is complete.
pub fn next(app: &mut App) {
    let all = operations(app);
    let marks = app.list(WindowKey::WizardDevices).marks.clone();
    let under = {
        let list = app.list(WindowKey::WizardDevices);
        let row = app.store.window(WindowKey::WizardDevices).row(list.cursor);
        row.map(|row| (row.key.clone(), row.device().map(device_mark).unwrap_or_default()))
    };
    let Some(wizard) = &mut app.wizard else { return };
    wizard.error = None;
    match wizard.step {
        Step::Targets => {
            wizard.aim(if marks.is_empty() { under.into_iter().collect() } else { marks });
            if wizard.targets.is_empty() {
                let retired = wizard.says_left_out().pop();
                let text = retired.unwrap_or_else(|| "choose a device first".to_owned());
                app.toast(text, Tone::Warn);
            } else {
                wizard.step = Step::Operation;
            }
        }
        Step::Operation => {
            if let Some(operation) = all.into_iter().nth(wizard.card) {
                let is_other = wizard.operation.as_ref().is_some_and(|o| o.name != operation.name);
                let before = (is_other && wizard.is_written()).then(|| wizard.clone());
                wizard.choose(operation);
                if let Some(before) = before {
                    drafts::keep(app, before);
                }
            } else if !wizard.filter.is_empty() {
                app.toast("no operation matches: Esc drops the filter", Tone::Warn);
            }
        }
        Step::Configure => {
            check(wizard);
            if wizard.step == Step::Review {
                // From its beginning, and not before it is drawn.
                app.viewer = Viewer::default();
                app.layout.review_rows = None;
            }
        }
        Step::Review => {}
    }
}

/// Whether what is dangerous or may surprise was on the screen: nothing is sent unread.
fn is_read(app: &App) -> bool {
    let Some((area, _)) = app.layout.viewer else { return false };
    let seen = app.viewer.top + usize::from(area.height);
    app.layout.review_rows.is_some_and(|rows| seen >= rows)
}

/// Checks the form as the server will, and goes on to the review.
fn check(wizard: &mut Wizard) {
    let Some(payload) = wizard.payload() else { return };
    let Some(operation) = &wizard.operation else { return };
    let checked = quarterdeck_protocol::payload::check(&operation.name, &payload)
        .and_then(|()| check_payload(&operation.form_schema, &payload));
    match checked {
        Ok(()) => {
            wizard.step = Step::Review;
            wizard.send_focused = true;
        }
        Err(invalid) => {
            if !wizard.form.blame(&invalid.field, &invalid.expected) {
                wizard.error = Some(invalid.to_string());
            }
        }
    }
}

fn back(app: &mut App) {
    let Some(wizard) = &mut app.wizard else { return };
    wizard.error = None;
    wizard.step = match wizard.step {
        Step::Targets | Step::Operation => Step::Targets,
        Step::Configure => Step::Operation,
        Step::Review => Step::Configure,
    };
}

fn leave(app: &mut App) {
    if !app.nav.back() {
        app.nav.go(Place::Commands);
    }
}

/// A submission, in as many batches as its devices need.
fn submission(request: CreateCommands, number: u64) -> Outgoing {
    if request.targets.devices.len() <= BATCH_MAX_DEVICES {
        let call = Box::new(ApiRequest::CreateCommands(request));
        return Outgoing::Call(call, Purpose::Submit(number));
    }
    let batch = |devices: &[String]| {
        let targets = Targets { devices: devices.to_vec(), groups: Vec::new() };
        let call = ApiRequest::CreateCommands(CreateCommands { targets, ..request.clone() });
        Task { call, keys: devices.to_vec() }
    };
    let tasks = request.targets.devices.chunks(BATCH_MAX_DEVICES).map(batch).collect();
    Outgoing::Job(Box::new(Job::new(&request.kind, tasks).submits(number)))
}

fn send_it(app: &mut App) -> Vec<Effect> {
    let over = u64::from(app.settings.confirm_over_devices);
    let mut effects = Vec::new();
    let number = app.calls.next_id();
    let Some(wizard) = &app.wizard else { return effects };
    if wizard.submission.is_some() {
        return effects;
    }
    let Some(operation) = wizard.operation.clone() else { return effects };
    let n = wizard.targets.len() as u64;
    let danger = operation.dangerous;
    let big = n > over;
    let Some(request) = wizard.request(danger || big) else { return effects };
    if let Err(why) = app.available(super::actions::Action::New) {
        app.toast(why, Tone::Warn);
        return effects;
    }
    if !danger && !big {
        let what = submission(request, number);
        drafts::sent(app, &what);
        perform::send(app, what, &mut effects);
        return effects;
    }
    let mut lines = vec![operation.description.clone()];
    let blast = wizard.blast();
    lines.push(format!(
        "{}, {} in production.",
        format::plural(n, "device"),
        format::count(blast.production)
    ));
    lines.push("It leaves 10 seconds after you confirm; u calls it back.".to_owned());
    let typed = if danger { operation.name.clone() } else { n.to_string() };
    let on = format!("on {}", format::plural(n, "device"));
    let then = Then::Grace(format!("{} {on}", operation.name), submission(request, number));
    let title = format!("{} {on}?", operation.title);
    perform::ask_typed(app, &title, lines, &operation.title, true, Some(typed), then);
    effects
}
