//! What the server's answers do to the screen.

use std::fmt::Write as _;

use quarterdeck_protocol::api::{CreatedCommands, Problem};

use super::{
    App,
    calls::Purpose,
    dialog::{Overlay, Secret},
    drafts, jobs,
    nav::Place,
    player, sweep,
};
use crate::tui::{
    effects::{ApiAnswer, Effect, RequestId},
    format,
    store::WindowKey,
    theme::Tone,
};

/// Takes the answer of a call.
pub fn answer(app: &mut App, id: RequestId, result: Result<ApiAnswer, Problem>) -> Vec<Effect> {
    let Some(pending) = app.calls.pending.remove(&id) else { return Vec::new() };
    match pending.purpose {
        Purpose::Job { job, keys } => {
            jobs::answered(app, job, &keys, result);
            return Vec::new();
        }
        Purpose::Sweep => return sweep::answered(app, id, result),
        Purpose::Recording => return player::answered(app, id, result),
        _ => {}
    }
    match result {
        Ok(answer) => done(app, id, pending.purpose, answer),
        Err(problem) => refused(app, id, &pending.purpose, &problem),
    }
    Vec::new()
}

fn done(app: &mut App, id: RequestId, purpose: Purpose, answer: ApiAnswer) {
    match (purpose, answer) {
        (Purpose::Health(device), ApiAnswer::Health(health)) => {
            app.health = Some((device, *health));
        }
        (Purpose::Settings, ApiAnswer::Settings(settings)) => app.settings = settings,
        (Purpose::Submit(number), ApiAnswer::Created(created)) => {
            submitted(app, number, &created);
        }
        (Purpose::Form, answer) => {
            if is_open_form(app, id) {
                app.overlay = None;
            }
            if let ApiAnswer::Token(token) = answer {
                app.overlay = Some(Overlay::Secret(Secret {
                    title: "Enrolment token".to_owned(),
                    lines: vec![
                        format!(
                            "Good for {}, until {}.",
                            format::plural(u64::from(token.uses), "device"),
                            format::utc(token.expires_at)
                        ),
                        "It is shown this once: copy it now.".to_owned(),
                    ],
                    secret: token.token.unwrap_or_default(),
                }));
            } else {
                app.tell("saved", Tone::Good);
            }
        }
        (Purpose::Rows { .. }, ApiAnswer::Cancelled(cancelled)) => {
            let mut parts = Vec::new();
            for (n, what) in [
                (cancelled.cancelled, "cancelled"),
                (cancelled.requested, "asked to stop"),
                (cancelled.already_finished, "had ended before"),
            ] {
                if n > 0 {
                    parts.push(format!("{} {what}", format::count(n)));
                }
            }
            app.tell(parts.join(", "), Tone::Good);
        }
        (Purpose::Rows { doing, .. }, ApiAnswer::Command(command)) => {
            app.tell(format!("{doing}: queued as {}", command.id), Tone::Good);
            if matches!(app.nav.here, Place::Command(_)) {
                app.nav.go(Place::Command(command.id));
            }
        }
        (Purpose::Rows { doing, keys }, _) => {
            let n = keys.len() as u64;
            app.tell(format!("{doing}: done for {}", format::count(n)), Tone::Good);
        }
        (_, ApiAnswer::Saved { path, size_bytes }) => {
            let text = format!("saved {} to {}", format::bytes(size_bytes), path.display());
            app.tell(text, Tone::Good);
        }
        (Purpose::Say(text), _) => app.tell(text, Tone::Good),
        // The others were taken before.
        (
            Purpose::Health(_)
            | Purpose::Settings
            | Purpose::Submit(_)
            | Purpose::Job { .. }
            | Purpose::Sweep
            | Purpose::Recording,
            _,
        ) => {}
    }
}

fn submitted(app: &mut App, number: u64, created: &CreatedCommands) {
    let mut text = format!("{} queued", format::plural(created.count, "command"));
    if created.offline > 0 {
        write!(text, ", {} for offline devices", format::count(created.offline))
            .expect("writing to a string cannot fail");
    }
    app.tell(text, Tone::Good);
    for warning in created.warnings.iter().take(2) {
        app.tell(warning.clone(), Tone::Warn);
    }
    app.list_mut(WindowKey::Devices).marks.clear();
    if !drafts::done(app, number) {
        return;
    }
    if let [only] = created.commands.as_slice() {
        app.nav.go(Place::Command(only.id));
        app.tabs.command = super::tabs::CommandTab::Overview;
        app.viewer = super::Viewer::default();
    } else {
        let list = app.list_mut(WindowKey::Commands);
        list.filter = format!("batch:{}", created.batch_id);
        list.restart();
        app.nav.go(Place::Commands);
    }
}

fn is_open_form(app: &App, id: RequestId) -> bool {
    matches!(&app.overlay, Some(Overlay::Form(form)) if form.pending == Some(id))
}

fn refused(app: &mut App, id: RequestId, purpose: &Purpose, problem: &Problem) {
    let text = sentence(problem);
    match purpose {
        // The health panel says by itself that there is none.
        Purpose::Health(_)
        | Purpose::Settings
        | Purpose::Job { .. }
        | Purpose::Sweep
        | Purpose::Recording => {}
        Purpose::Submit(number) => {
            if !drafts::refused(app, *number, problem) {
                app.tell(text, Tone::Bad);
            }
        }
        Purpose::Form => {
            if let Some(Overlay::Form(dialog)) = &mut app.overlay
                && dialog.pending == Some(id)
            {
                dialog.pending = None;
                let field = problem.field.as_deref().unwrap_or_default();
                if !dialog.form.blame(field, &problem.detail) {
                    dialog.error = Some(text);
                }
            } else {
                app.tell(text, Tone::Bad);
            }
        }
        Purpose::Rows { doing, .. } => app.tell(format!("{doing}: {text}"), Tone::Bad),
        Purpose::Say(_) => app.tell(text, Tone::Bad),
    }
}

/// A problem as one sentence: title, detail, field.
pub fn sentence(problem: &Problem) -> String {
    let mut text = problem.title.clone();
    if !problem.detail.is_empty() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&problem.detail);
    }
    if let Some(field) = &problem.field {
        write!(text, " ({field})").expect("writing to a string cannot fail");
    }
    text
}
