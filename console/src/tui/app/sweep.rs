//! All rows of a listing, for marks and exports: read page by page beside what is shown.
//!
//! ```text
//!  begin ──▶ page asked ──▶ rows taken ──▶ … ──▶ last page: marked, or the file is there
//!                 │              │
//!                 └─ refused     └─ stop() ──▶ nothing is marked, no file is left
//! ```
//!
//! Pages go by the API's cursors, so rows that come or go meanwhile shift
//! nothing. One page is under way at a time; of its rows only what a mark or a
//! line of a file needs is kept.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::Problem,
    live::{Listing, Row as ListRow},
};

use super::{
    App,
    answers::sentence,
    calls::Purpose,
    columns::noun,
    export::Format,
    list::{MARKS_MAX, Mark},
    subjects::{mark_of_row, say_marked},
};
use crate::tui::{
    effects::{ApiAnswer, ApiRequest, Effect, ExportStep, NetRequest, RequestId},
    format,
    store::{Row, WindowKey},
    theme::Tone,
};

/// What is done with the rows.
#[derive(Debug, Clone)]
pub enum What {
    /// Marks them: all, or those from one row to another.
    Mark { marks: BTreeMap<String, Mark>, range: Option<Range> },
    /// Writes them to a file: all, or those that are marked.
    Export { format: Format, only: Option<BTreeMap<String, Mark>> },
}

/// The rows from one key to another, in whichever order they come.
#[derive(Debug, Clone)]
pub struct Range {
    ends: [String; 2],
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Before,
    Inside,
    Behind,
}

impl Range {
    pub const fn new(ends: [String; 2]) -> Self {
        Self { ends, at: At::Before }
    }

    /// Whether a row is in the range; asked of each row in order.
    fn takes(&mut self, key: &str) -> bool {
        let is_end = self.ends.iter().any(|end| end == key);
        match self.at {
            At::Before if is_end => {
                self.at = if self.ends[0] == self.ends[1] { At::Behind } else { At::Inside };
                true
            }
            At::Inside => {
                if is_end {
                    self.at = At::Behind;
                }
                true
            }
            At::Before | At::Behind => false,
        }
    }
}

/// One pass over a listing.
#[derive(Debug, Clone)]
pub struct Sweep {
    pub what: What,
    table: WindowKey,
    listing: Listing,
    filter: BTreeMap<String, String>,
    sort: Option<String>,
    request: Option<RequestId>,
    seen: u64,
    taken: u64,
    /// Retired devices, which are not marked with all.
    left_out: u64,
    total: u64,
}

impl Sweep {
    /// A pass over what a table shows; `None` while it shows nothing.
    pub fn over(app: &App, table: WindowKey, what: What) -> Option<Self> {
        let window = app.store.window(table);
        let shown = window.subscription.as_ref()?;
        Some(Self {
            what,
            table,
            listing: shown.listing,
            filter: shown.filter.clone(),
            sort: shown.sort.clone(),
            request: None,
            seen: 0,
            taken: 0,
            left_out: 0,
            total: window.total,
        })
    }

    /// What it is about, for the line that shows its progress.
    pub fn doing(&self) -> String {
        let verb = match &self.what {
            What::Mark { .. } => "marking",
            What::Export { .. } => "exporting",
        };
        format!(
            "{verb} {}s: {} of {}",
            noun(self.table),
            format::count(self.seen),
            format::count(self.total)
        )
    }

    fn ask(&mut self, app: &mut App, cursor: Option<String>) -> Option<Effect> {
        let call = ApiRequest::ListPage {
            listing: self.listing,
            filter: self.filter.clone(),
            sort: self.sort.clone(),
            cursor,
        };
        let id = app.calls.begin(Purpose::Sweep, app.now)?;
        self.request = Some(id);
        Some(Effect::Net(NetRequest::Call { id, call }))
    }

    /// Takes the rows of a page; `false` when there are too many to mark.
    fn take(&mut self, rows: Vec<ListRow>, effects: &mut Vec<Effect>) -> bool {
        let mut text = String::new();
        for row in rows {
            self.seen += 1;
            match &mut self.what {
                What::Mark { marks, range } => {
                    if range.as_mut().is_some_and(|range| !range.takes(&row.key)) {
                        continue;
                    }
                    if marks.len() >= MARKS_MAX {
                        return false;
                    }
                    let row = Row::new(row.key, row.data);
                    let mark = mark_of_row(self.listing, &row);
                    if range.is_none() && mark.is_retired() {
                        self.left_out += 1;
                        continue;
                    }
                    marks.insert(row.key.clone(), mark);
                }
                What::Export { format, only } => {
                    if only.as_ref().is_some_and(|only| !only.contains_key(&row.key)) {
                        continue;
                    }
                    text.push_str(&format.row(self.listing, &row, self.taken == 0));
                }
            }
            self.taken += 1;
        }
        if !text.is_empty() {
            effects.push(Effect::Export(ExportStep::Rows(text)));
        }
        true
    }

    /// Whether the rows that follow matter no more.
    fn is_behind(&self) -> bool {
        match &self.what {
            What::Mark { range: Some(range), .. } => range.at == At::Behind,
            What::Export { only: Some(only), .. } => self.taken >= only.len() as u64,
            _ => false,
        }
    }
}

/// Begins a pass; says so when another one is under way.
pub fn begin(app: &mut App, sweep: Option<Sweep>, effects: &mut Vec<Effect>) {
    if let Some(before) = &app.sweep {
        let text = format!("still {}: wait, or u stops it", before.doing());
        app.toast(text, Tone::Warn);
        return;
    }
    let Some(sweep) = sweep.filter(|_| app.link.is_connected()) else {
        app.toast("there is no connection to read the rows with", Tone::Warn);
        return;
    };
    if let What::Export { format, .. } = &sweep.what {
        let stamp = jiff::Timestamp::from(app.now).strftime("%Y%m%d-%H%M%S").to_string();
        let noun = noun(sweep.table).replace(' ', "-");
        let name = format!("{noun}s-{stamp}.{}", format.extension());
        effects.push(Effect::Export(ExportStep::Begin { name }));
        effects.push(Effect::Export(ExportStep::Rows(format.head(sweep.listing))));
    }
    go_on(app, sweep, None, effects);
}

/// Asks for the page behind `cursor`, the first one without.
fn go_on(app: &mut App, mut sweep: Sweep, cursor: Option<String>, effects: &mut Vec<Effect>) {
    if let Some(effect) = sweep.ask(app, cursor) {
        effects.push(effect);
        app.sweep = Some(sweep);
    } else {
        effects.extend(drop_file(&sweep));
        app.toast("too much is under way: begin again later", Tone::Bad);
    }
}

/// Takes a page.
pub fn answered(app: &mut App, id: RequestId, result: Result<ApiAnswer, Problem>) -> Vec<Effect> {
    let mut effects = Vec::new();
    // Of one that was stopped meanwhile nothing is taken.
    let Some(mut sweep) = app.sweep.take_if(|sweep| sweep.request == Some(id)) else {
        return effects;
    };
    let page = match result {
        Ok(ApiAnswer::Page(page)) => page,
        Ok(_) => return effects,
        Err(problem) => {
            effects.extend(drop_file(&sweep));
            app.tell(format!("{}: {}", sweep.doing(), sentence(&problem)), Tone::Bad);
            return effects;
        }
    };
    sweep.total = page.total;
    if !sweep.take(page.rows, &mut effects) {
        let most = format::count(MARKS_MAX as u64);
        app.tell(
            format!("more than {most} rows cannot be marked at once: filter first"),
            Tone::Bad,
        );
        return effects;
    }
    match page.next_cursor.filter(|_| !sweep.is_behind()) {
        None => finish(app, sweep, &mut effects),
        Some(cursor) => go_on(app, sweep, Some(cursor), &mut effects),
    }
    effects
}

fn finish(app: &mut App, sweep: Sweep, effects: &mut Vec<Effect>) {
    match sweep.what {
        What::Mark { marks, range } => {
            if range.is_some_and(|range| range.at != At::Behind) {
                let text = "a row at one end of the range is gone: nothing is marked, begin anew";
                app.tell(text, Tone::Warn);
                return;
            }
            let list = app.list_mut(sweep.table);
            let n = marks.len() as u64;
            let is_too_much = list.marks.len() + marks.len() > MARKS_MAX;
            if is_too_much {
                let most = format::count(MARKS_MAX as u64);
                app.tell(format!("at most {most} rows can be marked: U unmarks all"), Tone::Warn);
                return;
            }
            list.marks.extend(marks);
            list.left_out = sweep.left_out;
            say_marked(app, sweep.table, n);
        }
        What::Export { format, .. } => {
            effects.push(Effect::Export(ExportStep::Rows(format.tail().to_owned())));
            let noun = noun(sweep.table);
            let rows = format::plural(sweep.taken, noun);
            effects.push(Effect::Export(ExportStep::End { what: rows }));
        }
    }
}

/// Ends the pass that is under way, if one is; answers what to say.
pub fn stop(app: &mut App, effects: &mut Vec<Effect>) -> Option<String> {
    let sweep = app.sweep.take()?;
    effects.extend(drop_file(&sweep));
    Some(format!("stopped {}", sweep.doing()))
}

fn drop_file(sweep: &Sweep) -> Option<Effect> {
    matches!(sweep.what, What::Export { .. }).then_some(Effect::Export(ExportStep::Drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ends: [&str; 2], keys: &[&str]) -> (String, At) {
        let mut range = Range::new(ends.map(str::to_owned));
        let taken = keys.iter().filter(|key| range.takes(key)).copied().collect();
        (taken, range.at)
    }

    #[test]
    fn a_range_is_from_whichever_end_comes_first_to_the_other() {
        let keys = ["a", "b", "c", "d", "e"];
        for ends in [["b", "d"], ["d", "b"]] {
            assert_eq!(taken(ends, &keys), ("bcd".to_owned(), At::Behind));
        }
        assert_eq!(taken(["c", "c"], &keys), ("c".to_owned(), At::Behind));
        assert_eq!(taken(["d", "gone"], &keys), ("de".to_owned(), At::Inside));
    }
}
