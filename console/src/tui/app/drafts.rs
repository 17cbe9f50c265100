//! What the wizard has not sent: kept until it is sent, or thrown away on purpose.
//!
//! ```text
//!               left with something chosen
//!   on screen ──────────────────────────────▶ draft ── n ──▶ on screen
//!       │ sent                                  ▲       └─ D ──▶ gone
//!       ▼                                       │
//!   under way ── refused, called back, no connection
//!       └─ taken by the server ──▶ gone
//! ```
//!
//! Who sends a batch may be on another screen, or in another wizard, when the
//! server refuses it ten seconds later: so each submission has a number, and a
//! copy of its wizard waits under it for the answer.
//!
//! Drafts belong to the project that they were written in: they wait while
//! another is open, and are never offered to its devices.

use quarterdeck_protocol::api::Problem;

use super::{
    App,
    answers::sentence,
    calls::Outgoing,
    dialog::{Overlay, Pick, PickItem, PickPurpose},
    doing::new_command,
    moving::go,
    nav::Place,
    wizard::{Step, Wizard},
};
use crate::tui::{effects::Effect, store::WindowKey, theme::Tone};

/// The most that are kept of a project; a further one takes the place of the oldest, and says so.
const DRAFTS_MAX: usize = 8;
/// The value of the entry that begins anew.
const NEW: &str = "new";

/// Opens the wizard, or asks first whether to go on with what was left.
pub(super) fn new(app: &mut App) {
    if app.drafts.is_empty() {
        new_command(app);
    } else {
        app.overlay = Some(Overlay::Pick(pick(app)));
    }
}

fn pick(app: &App) -> Pick {
    let draft = |(at, draft): (usize, &Wizard)| PickItem {
        label: format!("go on: {}", draft.title()),
        note: draft.error.clone().unwrap_or_else(|| "a draft".to_owned()),
        value: at.to_string(),
        ticked: None,
    };
    let mut items: Vec<PickItem> = app.drafts.iter().enumerate().map(draft).rev().collect();
    items.push(PickItem {
        label: "a new command".to_owned(),
        note: String::new(),
        value: NEW.to_owned(),
        ticked: None,
    });
    let title = "Not sent yet (D forgets one)".to_owned();
    Pick { title, items, cursor: 0, purpose: PickPurpose::Drafts }
}

/// Takes what was chosen.
pub(super) fn picked(app: &mut App, value: &str) {
    match value.parse::<usize>() {
        Ok(at) if at < app.drafts.len() => {
            let mut draft = app.drafts.remove(at);
            // Back where it was written, not at the step by which it was left.
            if draft.operation.is_some() {
                draft.step = draft.step.max(Step::Configure);
            }
            open(app, draft);
        }
        _ => new_command(app),
    }
}

/// Throws away the draft under the cursor.
pub(super) fn forget(app: &mut App, picked: &Pick) -> Vec<Effect> {
    let at = picked.items.get(picked.cursor).and_then(|item| item.value.parse::<usize>().ok());
    if let Some(at) = at.filter(|at| *at < app.drafts.len()) {
        app.drafts.remove(at);
    }
    if !app.drafts.is_empty() {
        let cursor = picked.cursor.min(app.drafts.len());
        app.overlay = Some(Overlay::Pick(Pick { cursor, ..pick(app) }));
    }
    Vec::new()
}

/// Shows a wizard, with its devices marked in its first step.
pub(super) fn open(app: &mut App, wizard: Wizard) {
    let list = app.list_mut(WindowKey::WizardDevices);
    list.marks.clone_from(&wizard.targets);
    list.filter.clear();
    list.restart();
    app.wizard = Some(wizard);
    go(app, Place::NewCommand);
}

/// Keeps what was left, where something was chosen or written.
pub(super) fn put_aside(app: &mut App) {
    if app.nav.here == Place::NewCommand {
        return;
    }
    let Some(mut left) = app.wizard.take() else { return };
    take_marks(app, &mut left);
    // Of what is under way a copy waits for the answer.
    if left.submission.is_none() && (left.is_begun() || left.error.is_some()) {
        keep(app, left);
    }
}

/// In its first step the devices are marked, and not yet taken.
fn take_marks(app: &App, wizard: &mut Wizard) {
    let marks = &app.list(WindowKey::WizardDevices).marks;
    if wizard.step == Step::Targets && !marks.is_empty() {
        wizard.aim(marks.clone());
    }
}

pub(super) fn keep(app: &mut App, draft: Wizard) {
    app.toast(format!("kept as a draft: {}; n goes on with it", draft.title()), Tone::Muted);
    app.drafts.push(draft);
    if app.drafts.len() > DRAFTS_MAX {
        let oldest = app.drafts.remove(0);
        let text = format!("too many drafts: the oldest is gone, {}", oldest.title());
        app.toast(text, Tone::Warn);
    }
}

/// What is chosen or written and would be lost with the program.
pub(super) fn written(app: &App) -> Vec<String> {
    let open = app.wizard.iter().filter(|wizard| wizard.submission.is_none());
    let here = app.drafts.iter().chain(open).filter(|draft| draft.is_begun()).map(Wizard::title);
    let elsewhere = app.drafts_elsewhere.iter().flat_map(|(project, drafts)| {
        let written = drafts.iter().filter(|draft| draft.is_begun());
        written.map(move |draft| format!("{} (project {project})", draft.title()))
    });
    here.chain(elsewhere).collect()
}

/// Puts the drafts of the project that is left where they wait for it, and takes those of the next.
pub(super) fn change_project(app: &mut App, next: &str) {
    if let Some(mut open) = app.wizard.take() {
        take_marks(app, &mut open);
        if open.submission.is_none() && open.is_begun() {
            keep(app, open);
        }
    }
    let theirs = app.drafts_elsewhere.remove(next).unwrap_or_default();
    let left = std::mem::replace(&mut app.drafts, theirs);
    if !left.is_empty() {
        app.drafts_elsewhere.insert(app.session.project.clone(), left);
    }
}

/// Notes that a submission of the wizard on screen has left, or waits in its grace.
pub(super) fn sent(app: &mut App, what: &Outgoing) {
    if let (Some(number), Some(wizard)) = (what.submission(), &mut app.wizard) {
        app.calls.submissions.insert(number, wizard.clone());
        wizard.submission = Some(number);
    }
}

/// The server took a submission; answers whether its wizard was on screen.
pub(super) fn done(app: &mut App, number: u64) -> bool {
    app.calls.submissions.remove(&number);
    app.wizard.take_if(|wizard| wizard.submission == Some(number)).is_some()
        && app.nav.here == Place::NewCommand
}

/// A submission was not sent, or refused: its wizard is as before, or a draft.
pub(super) fn came_back(app: &mut App, number: u64, change: impl FnOnce(&mut Wizard)) {
    let copy = app.calls.submissions.remove(&number);
    let open = app.wizard.as_mut().filter(|wizard| wizard.submission == Some(number));
    if let Some(wizard) = open {
        wizard.submission = None;
        change(wizard);
    } else if let Some(mut wizard) = copy {
        change(&mut wizard);
        if wizard.is_begun() || wizard.error.is_some() {
            keep(app, wizard);
        }
    }
}

/// Takes the server's no; answers whether it is said on the screen that is shown.
pub(super) fn refused(app: &mut App, number: u64, problem: &Problem) -> bool {
    let sent = app.calls.submissions.get(&number);
    let devices = sent.map(|wizard| wizard.targets.keys().cloned().collect::<Vec<_>>());
    let blamed = blamed(problem, devices.iter().flatten());
    let is_shown = app.nav.here == Place::NewCommand
        && app.wizard.as_ref().is_some_and(|wizard| wizard.submission == Some(number));
    came_back(app, number, |wizard| {
        let field = problem.field.as_deref().unwrap_or_default();
        if let Some((device, why)) = &blamed {
            let rest = "it is left out now; nothing was sent";
            wizard.refused(format!("{device}: {why}: {rest}"), blamed.clone());
        } else if wizard.form.blame(field, &problem.detail) {
            wizard.step = Step::Configure;
            if !is_shown {
                wizard.error = Some(sentence(problem));
            }
        } else {
            wizard.refused(sentence(problem), None);
        }
    });
    is_shown
}

/// The device that a problem is about, by its place among those that were sent, and what is wrong.
pub(super) fn blamed<'a>(
    problem: &Problem,
    mut devices: impl Iterator<Item = &'a String>,
) -> Option<(String, String)> {
    let place = problem.field.as_deref()?.strip_prefix("targets.devices[")?.strip_suffix(']')?;
    let device = devices.nth(place.parse().ok()?)?;
    let why = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    Some((device.clone(), why.trim_end_matches('.').to_owned()))
}
