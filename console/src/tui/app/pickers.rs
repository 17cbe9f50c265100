//! Tables as their reader wants them: filter, order, columns, views, matches.

use quarterdeck_protocol::{
    ids::{CommandId, DeviceId},
    search,
};

use super::{
    App,
    columns::{columns, noun, sort_of},
    dialog::{FormPurpose, Overlay, Pick, PickItem, PickPurpose, Prompt, PromptKind},
    document, drafts,
    field::TextField,
    filter,
    moving::go,
    nav::Place,
    panes, people, player, taking, windows,
};
use crate::tui::{
    effects::Effect,
    term::input::{Input, Key},
    theme::Tone,
    view::texts,
};

pub(super) fn prompt(app: &mut App, kind: PromptKind, before: &str) {
    let field = TextField::new(before);
    app.overlay = Some(Overlay::Prompt(Prompt { kind, field, before: before.to_owned() }));
}

pub(super) fn prompt_filter(app: &mut App) {
    if app.is_choosing_operation() {
        let before = app.wizard.as_ref().map(|wizard| wizard.filter.clone()).unwrap_or_default();
        prompt(app, PromptKind::Operations, &before);
    } else if let Some(key) = app.current_list() {
        if let Err(why) = filter::check("", windows::listing(key)) {
            app.toast(why, Tone::Muted);
            return;
        }
        let before = app.list(key).filter.clone();
        let mut field = TextField::new(&before);
        if !before.is_empty() {
            // Ready for the next word.
            field.edit(&Input::Key(Key::char(' ')));
        }
        let kind = PromptKind::Filter(key);
        app.overlay = Some(Overlay::Prompt(Prompt { kind, field, before }));
    }
}

/// Takes what was typed at the bottom.
pub fn prompted(app: &mut App, kind: PromptKind, text: &str) -> Vec<Effect> {
    match kind {
        PromptKind::Filter(key) => {
            if let Err(why) = windows::check_filter(key, text) {
                app.toast(why, Tone::Warn);
                prompt(app, kind, text);
                return Vec::new();
            }
            let list = app.list_mut(key);
            if list.filter != text {
                text.clone_into(&mut list.filter);
                list.restart();
            }
        }
        PromptKind::Operations => {
            if let Err(why) = search::words(text) {
                app.toast(format!("words: {why}"), Tone::Warn);
                prompt(app, kind, text);
            }
            if let Some(wizard) = &mut app.wizard {
                wizard.search(text);
            }
        }
        PromptKind::Search => {
            text.clone_into(&mut app.viewer.search);
            app.viewer.found = None;
            next_match(app, 0);
        }
        PromptKind::Jump if matches!(app.nav.here, Place::Player(_)) => player::jump(app, text),
        PromptKind::Jump => jump(app, text),
        PromptKind::PaneSearch => panes::scroll::search(app, text),
        PromptKind::PlayerSearch => player::search(app, text),
        PromptKind::PaneName => panes::commands::rename(app, text),
    }
    Vec::new()
}

pub(super) fn jump(app: &mut App, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Ok(row) = text.replace(' ', "").parse::<u64>() {
        if let Some(key) = app.current_list() {
            let window = app.store.window(key);
            app.lists.entry(key).or_default().go(row.saturating_sub(1), window);
        }
    } else if let Ok(id) = text.parse::<CommandId>() {
        go(app, Place::Command(id));
    } else if let Ok(id) = DeviceId::new(text) {
        go(app, Place::Device(id));
    } else {
        app.toast(format!("{text:?} is no row number, device or command"), Tone::Warn);
    }
}

pub(super) fn next_match(app: &mut App, by: isize) {
    if app.viewer.search.is_empty() {
        return;
    }
    if document::next_match(app, by) {
        return;
    }
    let Some((place, row)) = texts::next_match(app, by) else {
        app.toast(format!("{:?} is not in the text", app.viewer.search), Tone::Warn);
        return;
    };
    app.viewer.found = Some(place);
    app.viewer.follow = false;
    let rows = app.layout.viewer.map_or(1, |(area, _)| usize::from(area.height));
    let is_in_sight = (app.viewer.top..app.viewer.top + rows).contains(&row);
    if !is_in_sight {
        // With some of what stands before it.
        app.viewer.top = row.saturating_sub(rows / 3);
    }
}

pub(super) fn pick_sort(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let now = app.list(key).sort.clone();
    let now = now.or_else(|| windows::default_sort(key).map(str::to_owned));
    let items: Vec<PickItem> = columns(key)
        .iter()
        .filter_map(|column| {
            let by = sort_of(key, column)?;
            let note = match now.as_deref() {
                Some(sort) if sort == by => "ascending now; again for descending",
                Some(sort) if sort.strip_prefix('-') == Some(by) => {
                    "descending now; again for ascending"
                }
                _ => "",
            };
            // A column that is sorted by turns round.
            let value = if now.as_deref() == Some(by) { format!("-{by}") } else { by.to_owned() };
            let label = column.title.to_lowercase();
            Some(PickItem { label, note: note.to_owned(), value, ticked: None })
        })
        .collect();
    if items.is_empty() {
        app.toast("this table has one order", Tone::Muted);
        return;
    }
    let cursor = items.iter().position(|item| !item.note.is_empty()).unwrap_or(0);
    let purpose = PickPurpose::Sort(key);
    app.overlay = Some(Overlay::Pick(Pick { title: "Sort by".to_owned(), items, cursor, purpose }));
}

pub(super) fn pick_columns(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let hidden = &app.list(key).hidden;
    let items: Vec<PickItem> = columns(key)
        .iter()
        .filter(|column| column.rank > 0)
        .map(|column| PickItem {
            label: column.title.to_lowercase(),
            note: String::new(),
            value: column.id.to_owned(),
            ticked: Some(!hidden.contains(column.id)),
        })
        .collect();
    let purpose = PickPurpose::Columns(key);
    let title = "Columns".to_owned();
    app.overlay = Some(Overlay::Pick(Pick { title, items, cursor: 0, purpose }));
}

/// The value of the entry that saves the table as it is.
const SAVE_VIEW: &str = "";

pub(super) fn pick_views(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let mut items = vec![PickItem {
        label: "Save this view as ...".to_owned(),
        note: String::new(),
        value: SAVE_VIEW.to_owned(),
        ticked: None,
    }];
    if let Some(views) = app.views.views.get(noun(key)) {
        items.extend(views.iter().map(|(name, view)| PickItem {
            label: name.clone(),
            note: view.filter.clone(),
            value: name.clone(),
            ticked: None,
        }));
    }
    let cursor = usize::from(items.len() > 1);
    let purpose = PickPurpose::Views(key);
    app.overlay = Some(Overlay::Pick(Pick {
        title: "Views (D forgets one)".to_owned(),
        items,
        cursor,
        purpose,
    }));
}

/// Takes what was chosen from a list.
pub fn picked(app: &mut App, purpose: PickPurpose, value: &str) -> Vec<Effect> {
    match purpose {
        PickPurpose::Sort(key) => {
            let list = app.list_mut(key);
            list.sort = Some(value.to_owned());
            list.restart();
        }
        PickPurpose::Columns(_) => {}
        PickPurpose::Drafts => drafts::picked(app, value),
        PickPurpose::Export(key) => return taking::export(app, key, value),
        PickPurpose::Views(_) if value == SAVE_VIEW => people::open(app, FormPurpose::SaveView),
        PickPurpose::Views(key) => {
            let view = app.views.views.get(noun(key)).and_then(|views| views.get(value)).cloned();
            if let Some(view) = view {
                let list = app.list_mut(key);
                list.filter = view.filter;
                list.sort = view.sort;
                list.hidden = view.hidden;
                list.restart();
            }
        }
    }
    Vec::new()
}

/// Forgets the view under the cursor.
pub fn forget_view(app: &mut App, mut pick: Pick) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let PickPurpose::Views(key) = pick.purpose
        && let Some(item) = pick.items.get(pick.cursor).filter(|item| item.value != SAVE_VIEW)
        && let Some(views) = app.views.views.get_mut(noun(key))
    {
        views.remove(&item.value);
        pick.items.remove(pick.cursor);
        pick.cursor = pick.cursor.min(pick.items.len().saturating_sub(1));
        effects.push(Effect::SaveState(app.views.to_text()));
    }
    app.overlay = Some(Overlay::Pick(pick));
    effects
}

/// Saves how the table is shown under a name.
pub fn save_view(app: &mut App, name: &str) -> Vec<Effect> {
    let Some(key) = app.current_list() else { return Vec::new() };
    let list = app.list(key).clone();
    if !app.views.save(noun(key), name, &list) {
        app.toast("too many views of this table: forget one first (D)", Tone::Warn);
        return Vec::new();
    }
    app.toast(format!("saved as {name}"), Tone::Good);
    vec![Effect::SaveState(app.views.to_text())]
}
