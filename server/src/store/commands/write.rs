//! New commands, and what comes of their events: in bulk, with few statements of few sizes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use quarterdeck_protocol::command::CommandStatus;

use crate::store::{
    StoreError, Tx,
    bulk::{placeholders, sizes},
    on,
};

/// What the commands of one submission have in common.
#[derive(Debug, Clone)]
pub struct NewCommands<'a> {
    pub project_id: &'a str,
    pub batch_id: &'a str,
    pub kind: &'a str,
    pub priority: i64,
    pub timeout_s: i64,
    pub created_by: &'a str,
    pub created_at: i64,
    pub expires_at: i64,
    pub expires_due: i64,
    pub attempt: i64,
    pub retry_of: Option<&'a str>,
    pub timeline: &'a str,
    pub events: i64,
    /// Their devices are there, and get them once this is committed.
    pub published_at: Option<i64>,
    /// Refused by a safety rule until then: it has ended before it began.
    pub blocked: Option<Blocked<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Blocked<'a> {
    pub until: i64,
    pub code: &'a str,
    pub message: &'a str,
}

/// Adds commands that differ in id and device only: `rows` are these two.
pub async fn insert(
    tx: &mut Tx,
    new: &NewCommands<'_>,
    rows: &[(String, String)],
) -> Result<(), StoreError> {
    const COLUMNS: usize = 2;
    const COMMON: usize = 22;
    let status = match (&new.blocked, new.published_at) {
        (Some(_), _) => CommandStatus::BlockedSafety,
        (None, Some(_)) => CommandStatus::Published,
        (None, None) => CommandStatus::Queued,
    };
    let is_open = new.blocked.is_none();
    let mut start = 0;
    for size in sizes(rows.len(), COLUMNS + COMMON) {
        let sql = statement(tx, Statement::Insert, size, || {
            let n = size * COLUMNS;
            let p = |offset: usize| n + offset;
            format!(
                "WITH v (id, device_id) AS (VALUES {}) INSERT INTO commands (id, device_id, project_id, batch_id, type,
                 priority, timeout_s, created_by, created_at, expires_at, expires_due, attempt, retry_of, status, due,
                 open, deliver, finished_at, blocked_until, error_code, error_message, events, timeline, published_at)
                 SELECT v.id, v.device_id, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${}, ${},
                 ${}, ${}, ${}, ${}, ${}, ${} FROM v",
                placeholders(size, COLUMNS), p(1), p(2), p(3), p(4), p(5), p(6), p(7), p(8), p(9), p(10), p(11), p(12),
                p(13), p(14), p(15), p(16), p(17), p(18), p(19), p(20), p(21), p(22),
            )
        });
        let chunk = &rows[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (id, device_id) in chunk {
                query = query.bind(id.as_str()).bind(device_id.as_str());
            }
            query
                .bind(new.project_id).bind(new.batch_id).bind(new.kind).bind(new.priority).bind(new.timeout_s)
                .bind(new.created_by).bind(new.created_at).bind(new.expires_at).bind(new.expires_due)
                .bind(new.attempt).bind(new.retry_of).bind(status.as_str())
                .bind(is_open.then_some(new.expires_due)).bind(is_open).bind(is_open)
                .bind(new.blocked.map(|_| new.created_at)).bind(new.blocked.map(|blocked| blocked.until))
                .bind(new.blocked.map(|blocked| blocked.code)).bind(new.blocked.map(|blocked| blocked.message))
                .bind(new.events).bind(new.timeline).bind(new.published_at)
                .execute(conn).await?.rows_affected()
        });
    }
    count(tx, &Counts::from([((new.project_id.to_owned(), status), rows.len() as i64)])).await
}

/// What events made of one command. What is `None` stays as it is, save what [`Update::is_shifted`] speaks of.
#[derive(Debug, Clone, Default)]
pub struct Update {
    pub id: String,
    pub progress: Option<i64>,
    pub step: Option<String>,
    pub state: Option<String>,
    pub accepted_at: Option<i64>,
    pub started_at: Option<i64>,
    pub cancel_requested_at: Option<i64>,
    pub boot_id: Option<String>,
    pub ends_due: Option<i64>,
    pub cancel_due: Option<i64>,
    /// Whether status or dues changed; else they stay as they are.
    pub is_shifted: bool,
    /// When the sweep is to look, if that is another time than before.
    pub due: Option<i64>,
    /// Only when it ended.
    pub ended: Option<Box<Ended>>,
    /// Lines to append to the timeline, and how many.
    pub timeline: String,
    pub events: i64,
}

/// What is known of a command that has ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    pub finished_at: i64,
    pub result: Option<String>,
    pub exit_code: Option<i64>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

/// Writes updates, each of another command. `status` tells what each is in now.
pub async fn update(tx: &mut Tx, updates: &[(CommandStatus, Update)]) -> Result<(), StoreError> {
    let (mut noted, mut shifted, mut rearmed, mut ended) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in updates {
        match &entry.1 {
            Update { ended: Some(end), .. } => ended.push((entry.0, &entry.1, &**end)),
            Update { due: Some(_), .. } => rearmed.push(entry),
            Update { is_shifted: true, .. } => shifted.push(entry),
            update => noted.push(update),
        }
    }
    note(tx, &noted).await?;
    shift(tx, &shifted).await?;
    rearm(tx, &rearmed).await?;
    end(tx, &ended).await
}

/// Progress, and notes on what has ended: touches no index.
async fn note(tx: &mut Tx, updates: &[&Update]) -> Result<(), StoreError> {
    const COLUMNS: usize = 6;
    let mut start = 0;
    for size in sizes(updates.len(), COLUMNS) {
        let sql = statement(tx, Statement::Note, size, || {
            format!(
                "WITH v (id, progress, step, state, events, timeline) AS (VALUES {})
                 UPDATE commands SET progress = COALESCE(v.progress, commands.progress),
                   step = COALESCE(v.step, commands.step), state = COALESCE(v.state, commands.state),
                   events = commands.events + v.events, timeline = commands.timeline || v.timeline
                 FROM v WHERE commands.id = v.id",
                placeholders(size, COLUMNS),
            )
        });
        let chunk = &updates[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for u in chunk {
                query = query.bind(u.id.as_str()).bind(u.progress).bind(u.step.as_deref()).bind(u.state.as_deref())
                    .bind(u.events).bind(u.timeline.as_str());
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// What [`shift`] and [`rearm`] set.
const SHIFTED: &str = "status = v.status, deliver = v.deliver,
   progress = COALESCE(v.progress, commands.progress),
   step = COALESCE(v.step, commands.step), state = COALESCE(v.state, commands.state),
   accepted_at = COALESCE(commands.accepted_at, v.accepted_at),
   started_at = COALESCE(commands.started_at, v.started_at),
   cancel_requested_at = COALESCE(commands.cancel_requested_at, v.cancel_requested_at),
   boot_id = COALESCE(v.boot_id, commands.boot_id),
   ends_due = v.ends_due, cancel_due = v.cancel_due,
   events = commands.events + v.events, timeline = commands.timeline || v.timeline";

macro_rules! bind_shifted {
    ($query:expr, $status:expr, $update:expr) => {
        $query
            .bind($update.id.as_str())
            .bind($status.as_str())
            .bind($status.awaits_delivery() && $update.cancel_due.is_none())
            .bind($update.progress)
            .bind($update.step.as_deref())
            .bind($update.state.as_deref())
            .bind($update.accepted_at)
            .bind($update.started_at)
            .bind($update.cancel_requested_at)
            .bind($update.boot_id.as_deref())
            .bind($update.ends_due)
            .bind($update.cancel_due)
            .bind($update.events)
            .bind($update.timeline.as_str())
    };
}

/// From one live status to another: touches no index but the outbox.
async fn shift(tx: &mut Tx, updates: &[&(CommandStatus, Update)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 14;
    let mut start = 0;
    for size in sizes(updates.len(), COLUMNS) {
        let sql = statement(tx, Statement::Shift, size, || {
            format!(
                "WITH v (id, status, deliver, progress, step, state, accepted_at, started_at, cancel_requested_at,
                   boot_id, ends_due, cancel_due, events, timeline) AS (VALUES {})
                 UPDATE commands SET {SHIFTED} FROM v WHERE commands.id = v.id",
                placeholders(size, COLUMNS),
            )
        });
        let chunk = &updates[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (status, update) in chunk {
                query = bind_shifted!(query, status, update);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// The same, and the sweep is to look at another time.
async fn rearm(tx: &mut Tx, updates: &[&(CommandStatus, Update)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 15;
    let mut start = 0;
    for size in sizes(updates.len(), COLUMNS) {
        let sql = statement(tx, Statement::Rearm, size, || {
            format!(
                "WITH v (id, status, deliver, progress, step, state, accepted_at, started_at, cancel_requested_at,
                   boot_id, ends_due, cancel_due, events, timeline, due) AS (VALUES {})
                 UPDATE commands SET {SHIFTED}, due = v.due FROM v WHERE commands.id = v.id",
                placeholders(size, COLUMNS),
            )
        });
        let chunk = &updates[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (status, update) in chunk {
                query = bind_shifted!(query, status, update).bind(update.due);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Into a terminal status.
async fn end(tx: &mut Tx, updates: &[(CommandStatus, &Update, &Ended)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 17;
    let mut start = 0;
    for size in sizes(updates.len(), COLUMNS) {
        let sql = statement(tx, Statement::End, size, || {
            format!(
                "WITH v (id, status, progress, step, state, accepted_at, started_at,
                   cancel_requested_at, finished_at, result, exit_code, stdout, stderr, error_code, error_message,
                   events, timeline) AS (VALUES {})
                 UPDATE commands SET status = v.status, open = FALSE, deliver = FALSE, due = NULL,
                   ends_due = NULL, cancel_due = NULL,
                   progress = COALESCE(v.progress, commands.progress),
                   step = COALESCE(v.step, commands.step), state = COALESCE(v.state, commands.state),
                   accepted_at = COALESCE(commands.accepted_at, v.accepted_at),
                   started_at = COALESCE(commands.started_at, v.started_at),
                   cancel_requested_at = COALESCE(commands.cancel_requested_at, v.cancel_requested_at),
                   finished_at = v.finished_at, result = v.result, exit_code = v.exit_code, stdout = v.stdout,
                   stderr = v.stderr, error_code = v.error_code, error_message = v.error_message,
                   events = commands.events + v.events, timeline = commands.timeline || v.timeline
                 FROM v WHERE commands.id = v.id",
                placeholders(size, COLUMNS),
            )
        });
        let chunk = &updates[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (status, u, end) in chunk {
                query = query.bind(u.id.as_str()).bind(status.as_str())
                    .bind(u.progress).bind(u.step.as_deref()).bind(u.state.as_deref())
                    .bind(u.accepted_at).bind(u.started_at).bind(u.cancel_requested_at).bind(end.finished_at)
                    .bind(end.result.as_deref()).bind(end.exit_code).bind(end.stdout.as_deref())
                    .bind(end.stderr.as_deref()).bind(end.error_code.as_deref())
                    .bind(end.error_message.as_deref()).bind(u.events).bind(u.timeline.as_str());
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Marks commands as handed to their devices' connections: all with the same words, those still queued only.
pub async fn publish(
    tx: &mut Tx,
    ids: &[String],
    at: i64,
    timeline: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut published = Vec::with_capacity(ids.len());
    let mut start = 0;
    for size in sizes(ids.len(), 1) {
        let sql = statement(tx, Statement::Publish, size, || {
            format!(
                "WITH v (id) AS (VALUES {}) UPDATE commands SET status = 'published', published_at = ${},
                   events = commands.events + 1, timeline = commands.timeline || ${}
                 FROM v WHERE commands.id = v.id AND commands.status = 'queued'
                 RETURNING commands.id, commands.project_id",
                placeholders(size, 1), size + 1, size + 2,
            )
        });
        let chunk = &ids[start..start + size];
        start += size;
        let rows: Vec<(String, String)> = on!(tx, conn => {
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
            for id in chunk {
                query = query.bind(id.as_str());
            }
            query.bind(at).bind(timeline).fetch_all(conn).await?
        });
        published.extend(rows);
    }
    let mut counts = Counts::new();
    for (_, project) in &published {
        *counts.entry((project.clone(), CommandStatus::Queued)).or_default() -= 1;
        *counts.entry((project.clone(), CommandStatus::Published)).or_default() += 1;
    }
    count(tx, &counts).await?;
    Ok(published)
}

/// By how much the number of commands with a status changes, by project.
pub type Counts = BTreeMap<(String, CommandStatus), i64>;

/// Keeps the totals of `command_counts`.
pub async fn count(tx: &mut Tx, counts: &Counts) -> Result<(), StoreError> {
    let counts: Vec<_> = counts.iter().filter(|(_, delta)| **delta != 0).collect();
    let mut start = 0;
    for size in sizes(counts.len(), 3) {
        let sql = statement(tx, Statement::Count, size, || {
            format!(
                "INSERT INTO command_counts (project_id, status, count) VALUES {}
                 ON CONFLICT (project_id, status) DO UPDATE SET count = command_counts.count + excluded.count",
                placeholders(size, 3),
            )
        });
        let chunk = &counts[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for ((project, status), delta) in chunk {
                query = query.bind(project.as_str()).bind(status.as_str()).bind(**delta);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// The statements whose texts are kept: a large one takes longer to write than to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Statement {
    Insert,
    Note,
    Shift,
    Rearm,
    End,
    Publish,
    Count,
    Output,
}

/// Gives the text of a statement for so many rows, as the engine of `tx` likes it.
pub(super) fn statement(
    tx: &Tx,
    kind: Statement,
    rows: usize,
    make: impl FnOnce() -> String,
) -> Arc<str> {
    type Texts = HashMap<(Statement, usize, bool), Arc<str>>;
    static TEXTS: OnceLock<Mutex<Texts>> = OnceLock::new();
    let unnumbered = matches!(tx, Tx::Sqlite(_));
    // Bounded: a dozen sizes of each kind.
    let mut texts =
        TEXTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let text = texts.entry((kind, rows, unnumbered)).or_insert_with(|| tx.dialect(make()).into());
    text.clone()
}
