//! Taking out: to the clipboard, to a file.

use quarterdeck_protocol::{
    api::{Command, CreateCommands, Targets},
    command::Priority,
    limits::{EXPIRES_DEFAULT_S, TIMEOUT_DEFAULT_S},
};

use super::{
    App,
    columns::noun,
    dialog::{Overlay, Pick, PickItem, PickPurpose},
    document,
    export::Format,
    nav::Place,
    subjects::{command, subjects},
    sweep::{self, Sweep, What},
    wizard::unless,
};
use crate::tui::{effects::Effect, format, store::WindowKey, theme::Tone, view::texts};

pub(super) fn copy(app: &mut App, effects: &mut Vec<Effect>) {
    if let Some((text, path)) = document::value(app) {
        app.toast(format!("copied {path}"), Tone::Good);
        effects.push(Effect::CopyToClipboard(text));
        return;
    }
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

/// Copies where the cursor is in a JSON document.
pub(super) fn copy_path(app: &mut App, effects: &mut Vec<Effect>) {
    match document::path(app) {
        Some(path) => {
            app.toast(format!("copied {path}"), Tone::Good);
            effects.push(Effect::CopyToClipboard(path));
        }
        None => app
            .toast("there is no JSON here; it is in a command's Payload and Response", Tone::Muted),
    }
}

pub(super) fn copy_cli(app: &mut App, effects: &mut Vec<Effect>) {
    let from_wizard = app.wizard.as_ref().filter(|_| app.nav.here == Place::NewCommand);
    let request = from_wizard
        .and_then(|wizard| {
            let is_big = wizard.targets.len() > app.settings.confirm_over_devices as usize;
            wizard.request(is_big || wizard.operation.as_ref().is_some_and(|o| o.dangerous))
        })
        .or_else(|| command(app).map(|row| again(&row)));
    if let Some(request) = request {
        app.toast("copied the command line", Tone::Good);
        let line = app.cli_line(&request);
        effects.push(Effect::CopyToClipboard(line));
    }
}

/// The submission that would make such a command.
pub fn again(command: &Command) -> CreateCommands {
    CreateCommands {
        targets: Targets { devices: vec![command.device_id.to_string()], groups: vec![] },
        kind: command.kind.clone(),
        payload: command.payload.clone(),
        priority: unless(command.priority, Priority::DEFAULT.get()),
        timeout_s: unless(command.timeout_s, TIMEOUT_DEFAULT_S),
        expires_in_s: u32::try_from(command.expires_at.millis_since(command.created_at) / 1_000)
            .ok()
            .and_then(|seconds| unless(seconds, EXPIRES_DEFAULT_S)),
        notes: command.notes.clone(),
        confirm: quarterdeck_protocol::operations::is_dangerous(&command.kind),
    }
}

/// Asks for the format of an export of rows; text is written as it is.
pub(super) fn pick_export(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(key) = app.current_list() else {
        let stamp = jiff::Timestamp::from(app.now).strftime("%Y%m%d-%H%M%S").to_string();
        let what = if app.nav.here == Place::Handover { "handover" } else { "text" };
        let name = format!("{what}-{stamp}.txt");
        let content = quarterdeck_protocol::text::block(&texts::plain(app)).into_owned();
        effects.push(Effect::WriteFile { name, content });
        return;
    };
    let marked = app.list(key).marks.len() as u64;
    let rows = match marked {
        0 => format!("all {}", format::plural(app.store.window(key).total, noun(key))),
        n => format!("the {} marked", format::count(n)),
    };
    let item = |format: Format| PickItem {
        label: format.extension().to_uppercase(),
        note: match format {
            Format::Json => "one array of the API's items".to_owned(),
            Format::Csv => "a line for each, for spreadsheets".to_owned(),
        },
        value: format.extension().to_owned(),
        ticked: None,
    };
    let items = Format::ALL.into_iter().map(item).collect();
    let (title, purpose) = (format!("Export {rows}"), PickPurpose::Export(key));
    app.overlay = Some(Overlay::Pick(Pick { title, items, cursor: 0, purpose }));
}

/// Writes the marked rows of a table, else all of them, to a file.
pub(super) fn export(app: &mut App, key: WindowKey, extension: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    let Some(format) = Format::of(extension) else { return effects };
    let marks = &app.list(key).marks;
    let only = (!marks.is_empty()).then(|| marks.clone());
    let sweep = Sweep::over(app, key, What::Export { format, only });
    sweep::begin(app, sweep, &mut effects);
    effects
}
