//! Moving and folding in the JSON of a command's payload or response.

use super::App;
use crate::tui::{
    theme::Tone,
    view::{json, texts},
};

/// Whether the text that is shown is a document.
pub(super) fn is_shown(app: &App) -> bool {
    texts::document(app).is_some()
}

/// Moves the cursor by lines; `false` where no document is shown.
pub(super) fn step(app: &mut App, by: i64) -> bool {
    let Some(lines) = texts::document(app) else { return false };
    let last = lines.len().saturating_sub(1);
    let by = isize::try_from(by).unwrap_or(0);
    app.viewer.cursor = app.viewer.cursor.min(last).saturating_add_signed(by).min(last);
    app.viewer.follow = false;
    true
}

/// Goes to the first or the last line; `false` where no document is shown.
pub(super) fn to_end(app: &mut App, is_last: bool) -> bool {
    step(app, if is_last { i64::from(i32::MAX) } else { i64::from(i32::MIN) })
}

/// Folds or unfolds what begins at the cursor, or what the cursor's line closes.
pub(super) fn fold(app: &mut App) {
    let Some(lines) = texts::document(app) else { return };
    let Some(path) = lines.get(app.viewer.cursor).and_then(|line| line.path.clone()) else {
        return;
    };
    let Some(at) = lines.iter().position(|line| line.folds && line.path.as_ref() == Some(&path))
    else {
        return;
    };
    if !app.viewer.folded.remove(&path) {
        app.viewer.folded.insert(path);
    }
    app.viewer.cursor = at;
}

/// Folds everything below the top, or unfolds all.
pub(super) fn fold_all(app: &mut App, is_folded: bool) {
    let Some(lines) = texts::unfolded(app) else { return };
    let under = lines_path(app);
    app.viewer.folded.clear();
    if is_folded {
        let inner = lines.into_iter().filter(|line| line.folds).filter_map(|line| line.path);
        app.viewer.folded.extend(inner.filter(|path| path != "."));
    }
    // Where one was, or what is folded over it.
    let Some(mut path) = under else { return };
    let Some(now) = texts::document(app) else { return };
    loop {
        if let Some(at) = now.iter().position(|line| line.path.as_ref() == Some(&path)) {
            app.viewer.cursor = at;
            return;
        }
        match json::above(&path).pop() {
            Some(above) => path = above,
            None => return,
        }
    }
}

fn lines_path(app: &App) -> Option<String> {
    texts::document(app)?.get(app.viewer.cursor)?.path.clone()
}

/// The value under the cursor as text, a string as it is; and what to call it.
pub(super) fn value(app: &App) -> Option<(String, String)> {
    let path = lines_path(app)?;
    let value = json::value_at(texts::document_value(app)?, &path)?;
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    Some((text, path))
}

/// The path under the cursor, as `jq` takes it.
pub(super) fn path(app: &App) -> Option<String> {
    lines_path(app)
}

/// The lines in which the searched text stands with nothing folded, and the one where one is.
struct Matches {
    all: Vec<json::JsonLine>,
    lines: Vec<usize>,
    at: usize,
}

fn matches(app: &App) -> Option<Matches> {
    let (all, now) = (texts::unfolded(app)?, texts::document(app)?);
    let needle = &app.viewer.search;
    let lines = (0..all.len()).filter(|at| texts::has(&all[*at].line, needle)).collect();
    // The same place with nothing folded: the first line of its path, and as far behind it.
    let at = now.get(app.viewer.cursor).map_or(0, |under| {
        let first = |lines: &[json::JsonLine]| lines.iter().position(|l| l.path == under.path);
        let behind = app.viewer.cursor - first(&now).unwrap_or(app.viewer.cursor);
        (first(&all).unwrap_or(0) + behind).min(all.len().saturating_sub(1))
    });
    Some(Matches { all, lines, at })
}

/// Which of the lines with the searched text one is on, and how many there are; none where no
/// document is shown.
pub fn place(app: &App) -> Option<(Option<usize>, usize)> {
    let Matches { lines, at, .. } = matches(app)?;
    Some((lines.iter().position(|line| *line == at), lines.len()))
}

/// Goes to the next line that has the searched text, and unfolds it; `false` where no document is
/// shown.
pub(super) fn next_match(app: &mut App, by: isize) -> bool {
    let Some(Matches { all, lines: matches, at }) = matches(app) else { return false };
    let next = match by {
        0 => matches.iter().find(|line| **line >= at).or_else(|| matches.first()),
        1.. => matches.iter().find(|line| **line > at).or_else(|| matches.first()),
        _ => matches.iter().rev().find(|line| **line < at).or_else(|| matches.last()),
    };
    let Some(found) = next.copied() else {
        app.toast(format!("{:?} is not in the text", app.viewer.search), Tone::Warn);
        return true;
    };
    let path = all[found].path.clone();
    if let Some(path) = &path {
        for above in json::above(path) {
            app.viewer.folded.remove(&above);
        }
        // A fold shows only its first line.
        if !all[found].folds {
            app.viewer.folded.remove(path);
        }
    }
    let same = |lines: &[json::JsonLine]| lines.iter().position(|line| line.path == path);
    let behind = found - same(&all).unwrap_or(found);
    if let Some(lines) = texts::document(app) {
        app.viewer.cursor = same(&lines).unwrap_or(0) + behind;
        app.viewer.follow = false;
    }
    true
}
