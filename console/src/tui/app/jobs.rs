//! One action on many rows: sent a few requests at a time, summed up at its end.
//!
//! ```text
//!              next()                     answered()
//!   waiting ───────────▶ under way (≤ 8) ───────────▶ done | refused
//!      │                                     │ the server cannot be reached
//!      └──── stop() ──▶ not sent ◀───────────┘
//! ```
//!
//! What a request covers is at most what the API takes in one: ten thousand
//! devices of a submission or commands of a cancel, else one row. Rows without
//! an answer show as pending, never as done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quarterdeck_protocol::{api::Problem, ids::BatchId};

use super::{
    App,
    answers::sentence,
    calls::{CALLS_MAX, Purpose},
    drafts,
    nav::Place,
};
use crate::tui::{
    effects::{ApiAnswer, ApiRequest, Effect, NetRequest},
    format,
    store::WindowKey,
    theme::Tone,
};

/// Requests of one job that are under way at once.
const AT_ONCE_MAX: usize = 8;
/// Jobs at once.
const JOBS_MAX: usize = 8;

/// One request, and the rows that it is about.
#[derive(Debug, Clone)]
pub struct Task {
    pub call: ApiRequest,
    pub keys: Vec<String>,
}

impl Task {
    /// A request about one row.
    pub fn one(call: ApiRequest, key: impl Into<String>) -> Self {
        Self { call, keys: vec![key.into()] }
    }
}

/// One action on many rows.
#[derive(Debug, Clone, Default)]
pub struct Job {
    pub doing: String,
    /// The number of the wizard's submission that it is, in several batches.
    pub submission: Option<u64>,
    waiting: VecDeque<Task>,
    under_way: usize,
    /// Rows that have no answer.
    open: BTreeSet<String>,
    rows: u64,
    done: u64,
    refused: u64,
    not_sent: u64,
    /// The first refusal.
    why: Option<String>,
    /// What the answers counted, in the order of these words.
    counted: BTreeMap<&'static str, u64>,
    /// What was submitted.
    batches: Vec<BatchId>,
    /// Rows that were refused, or not sent.
    unsent: BTreeSet<String>,
    /// The device that the first refusal is about, with why.
    blamed: Option<(String, String)>,
}

impl Job {
    pub fn new(doing: &str, tasks: Vec<Task>) -> Self {
        let open: BTreeSet<String> = tasks.iter().flat_map(|task| task.keys.clone()).collect();
        let rows = open.len() as u64;
        let doing = doing.to_owned();
        Self { doing, waiting: tasks.into(), open, rows, ..Self::default() }
    }

    /// The wizard's submission, in several batches.
    #[must_use]
    pub fn submits(self, number: u64) -> Self {
        Self { submission: Some(number), ..self }
    }

    /// The next request that may be sent now.
    fn next(&mut self) -> Option<Task> {
        if self.under_way >= AT_ONCE_MAX {
            return None;
        }
        let task = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(task)
    }

    /// Takes the answer of a request.
    fn answered(&mut self, keys: &[String], result: Result<ApiAnswer, Problem>) {
        self.under_way = self.under_way.saturating_sub(1);
        let rows = self.close(keys);
        match result {
            Ok(answer) => {
                self.done += rows;
                self.count(answer);
            }
            Err(problem) => {
                self.refused += rows;
                self.unsent.extend(keys.iter().cloned());
                if self.why.is_none() {
                    self.blamed = drafts::blamed(&problem, keys.iter());
                    let said = self.blamed.as_ref().map(|(device, why)| format!("{device}: {why}"));
                    self.why = Some(said.unwrap_or_else(|| sentence(&problem)));
                }
                // What comes after would fare no better.
                if problem.code == "unreachable" {
                    self.stop();
                }
            }
        }
    }

    fn count(&mut self, answer: ApiAnswer) {
        let mut add = |what, n| *self.counted.entry(what).or_default() += n;
        match answer {
            ApiAnswer::Cancelled(cancelled) => {
                add("cancelled", cancelled.cancelled);
                add("asked to stop", cancelled.requested);
                add("had ended before", cancelled.already_finished);
            }
            ApiAnswer::Created(created) => {
                add("queued", created.count);
                add("for offline devices", created.offline);
                self.batches.push(created.batch_id);
            }
            ApiAnswer::Command(_) => add("queued", 1),
            _ => {}
        }
    }

    fn close(&mut self, keys: &[String]) -> u64 {
        keys.iter().filter(|key| self.open.remove(*key)).count() as u64
    }

    /// Sends nothing more.
    pub fn stop(&mut self) {
        for task in std::mem::take(&mut self.waiting) {
            self.not_sent += self.close(&task.keys);
            self.unsent.extend(task.keys);
        }
    }

    pub fn concerns(&self, key: &str) -> bool {
        self.open.contains(key)
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    /// Rows that have an answer, and rows in all.
    pub const fn progress(&self) -> (u64, u64) {
        (self.done + self.refused, self.rows)
    }

    /// Rows whose request has not left.
    pub fn left(&self) -> u64 {
        self.waiting.iter().map(|task| task.keys.len() as u64).sum()
    }

    /// What came of it, in one sentence.
    fn summary(&self) -> (String, Tone) {
        let mut parts: Vec<String> = self
            .counted
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(what, n)| format!("{} {what}", format::count(*n)))
            .collect();
        if self.counted.is_empty() && self.done > 0 {
            parts.push(format!("done for {}", format::count(self.done)));
        }
        if self.not_sent > 0 {
            parts.push(format!("{} not sent", format::count(self.not_sent)));
        }
        if let Some(why) = &self.why {
            parts.push(format!("{} refused: {why}", format::count(self.refused)));
        }
        let tone = match (self.refused, self.not_sent) {
            (0, 0) => Tone::Good,
            (0, _) => Tone::Warn,
            _ => Tone::Bad,
        };
        (format!("{}: {}", self.doing, parts.join(", ")), tone)
    }
}

/// Begins a job: its first requests leave with the next [`pump`].
pub fn begin(app: &mut App, job: Job) {
    if app.calls.jobs.len() >= JOBS_MAX {
        app.tell("too much is under way: wait for the server's answers", Tone::Bad);
        if let Some(number) = job.submission {
            drafts::came_back(app, number, |_| {});
        }
        return;
    }
    let id = app.calls.next_id();
    app.calls.jobs.insert(id, job);
}

/// Sends what may be sent of all jobs.
pub fn pump(app: &mut App) -> Vec<Effect> {
    let mut effects = Vec::new();
    let ids: Vec<u64> = app.calls.jobs.keys().copied().collect();
    for job in ids {
        while app.calls.pending.len() < CALLS_MAX {
            let Some(Task { call, keys }) = app.calls.jobs.get_mut(&job).and_then(Job::next) else {
                break;
            };
            let Some(id) = app.calls.begin(Purpose::Job { job, keys }, app.now) else { break };
            effects.push(Effect::Net(NetRequest::Call { id, call }));
        }
    }
    effects
}

/// Takes the answer to a request of a job; the last one sums the job up.
pub fn answered(app: &mut App, id: u64, keys: &[String], result: Result<ApiAnswer, Problem>) {
    let Some(job) = app.calls.jobs.get_mut(&id) else { return };
    job.answered(keys, result);
    if !job.is_over() {
        return;
    }
    let Some(job) = app.calls.jobs.remove(&id) else { return };
    let (text, tone) = job.summary();
    app.tell(text.clone(), tone);
    let Some(number) = job.submission else { return };
    if job.unsent.is_empty() {
        submitted(app, number, &job);
        return;
    }
    // What has left has left: what comes back is for the others.
    drafts::came_back(app, number, |wizard| {
        wizard.targets.retain(|device, _| job.unsent.contains(device));
        wizard.refused(text, job.blamed);
    });
}

/// A submission in several batches is under way: its wizard is done, and the commands are shown.
fn submitted(app: &mut App, number: u64, job: &Job) {
    app.list_mut(WindowKey::Devices).marks.clear();
    if drafts::done(app, number) {
        let batches: Vec<String> = job.batches.iter().map(ToString::to_string).collect();
        let list = app.list_mut(WindowKey::Commands);
        list.filter = format!("batch:{}", batches.join(","));
        list.restart();
        app.nav.go(Place::Commands);
    }
}

/// Sends no more of the job that began last; `false` when none has anything left to send.
pub fn stop_last(app: &mut App) -> bool {
    let Some(job) = app.calls.jobs.values_mut().rev().find(|job| !job.waiting.is_empty()) else {
        return false;
    };
    job.stop();
    true
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::ids::CommandId;

    use super::*;

    fn tasks(n: usize) -> Vec<Task> {
        let call = ApiRequest::RetryCommand { id: CommandId(uuid::Uuid::nil()), confirm: false };
        (0..n).map(|n| Task::one(call.clone(), format!("row {n}"))).collect()
    }

    fn problem(code: &str) -> Problem {
        let fields = serde_json::json!({"title": "No", "status": 409, "code": code});
        serde_json::from_value(fields).expect("a problem")
    }

    #[test]
    fn a_few_are_under_way_and_each_answer_lets_the_next_leave() {
        let mut job = Job::new("retry", tasks(20));
        let sent: Vec<Task> = std::iter::from_fn(|| job.next()).collect();
        assert_eq!((sent.len(), job.left()), (AT_ONCE_MAX, 12));
        job.answered(&sent[0].keys, Ok(ApiAnswer::Done));
        assert!(job.next().is_some() && job.next().is_none());
        assert!(!job.concerns("row 0") && job.concerns("row 1") && job.concerns("row 19"));
        assert_eq!(job.progress(), (1, 20));
    }

    #[test]
    fn the_sum_says_what_was_done_refused_and_not_sent() {
        let mut job = Job::new("retry", tasks(20));
        let sent: Vec<Task> = std::iter::from_fn(|| job.next()).collect();
        job.answered(&sent[0].keys, Ok(ApiAnswer::Done));
        job.answered(&sent[1].keys, Err(problem("not_finished")));
        job.stop();
        for task in &sent[2..] {
            assert!(!job.is_over());
            job.answered(&task.keys, Ok(ApiAnswer::Done));
        }
        assert!(job.is_over());
        let (said, tone) = job.summary();
        assert_eq!(
            (said.as_str(), tone),
            ("retry: done for 7, 12 not sent, 1 refused: No", Tone::Bad)
        );
    }

    #[test]
    fn nothing_more_is_sent_once_the_server_cannot_be_reached() {
        let mut job = Job::new("retry", tasks(20));
        let sent: Vec<Task> = std::iter::from_fn(|| job.next()).collect();
        job.answered(&sent[0].keys, Err(problem("unreachable")));
        assert_eq!((job.next().is_none(), job.left()), (true, 0));
    }
}
