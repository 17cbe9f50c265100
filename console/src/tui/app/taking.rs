//! Taking out: to the clipboard, to a file.

use quarterdeck_protocol::api::{CreateCommands, Targets};

use super::{
    App,
    columns::noun,
    nav::Place,
    subjects::{command, subjects},
    wizard::command_line,
};
use crate::tui::{
    effects::Effect,
    store::{CommandRow, Row},
    theme::Tone,
    view::texts,
};

pub(super) fn copy(app: &mut App, effects: &mut Vec<Effect>) {
    let ids = subjects(app);
    let text = if !ids.is_empty() {
        ids.join("\n")
    } else if app.peek.focused || app.current_list().is_none() {
        texts::plain(app)
    } else {
        return;
    };
    let what =
        if ids.len() == 1 { ids[0].clone() } else { format!("{} lines", text.lines().count()) };
    app.toast(format!("copied {what}"), Tone::Good);
    effects.push(Effect::CopyToClipboard(text));
}

pub(super) fn copy_cli(app: &mut App, effects: &mut Vec<Effect>) {
    let from_wizard = app.wizard.as_ref().filter(|_| app.nav.here == Place::NewCommand);
    let request = from_wizard
        .and_then(|wizard| wizard.request(wizard.operation.as_ref().is_some_and(|o| o.dangerous)))
        .or_else(|| command(app).map(|row| again(&row)));
    if let Some(request) = request {
        app.toast("copied the command line", Tone::Good);
        effects.push(Effect::CopyToClipboard(command_line(&request)));
    }
}

/// The submission that would make such a command.
pub fn again(row: &CommandRow) -> CreateCommands {
    let command = &row.command;
    CreateCommands {
        targets: Targets { devices: vec![command.device_id.to_string()], groups: vec![] },
        kind: command.kind.clone(),
        payload: command.payload.clone(),
        priority: Some(command.priority),
        timeout_s: Some(command.timeout_s),
        expires_in_s: None,
        notes: command.notes.clone(),
        confirm: quarterdeck_protocol::operations::is_dangerous(&command.kind),
    }
}

pub(super) fn export(app: &mut App, effects: &mut Vec<Effect>) {
    let stamp = jiff::Timestamp::from(app.now).strftime("%Y%m%d-%H%M%S").to_string();
    let (name, content) = if let Some(key) = app.current_list() {
        let marks = &app.list(key).marks;
        let rows: Vec<&str> = app
            .store
            .window(key)
            .rows()
            .iter()
            .filter(|row| marks.is_empty() || marks.contains_key(&row.key))
            .map(Row::raw)
            .collect();
        let name = noun(key).replace(' ', "-");
        (format!("{name}s-{stamp}.json"), format!("[\n{}\n]\n", rows.join(",\n")))
    } else {
        (format!("text-{stamp}.txt"), texts::plain(app))
    };
    effects.push(Effect::WriteFile { name, content });
}
