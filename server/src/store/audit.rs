//! The audit trail: one row per action, chained and signed (chapter 9).
//!
//! ```text
//!  entry 1 ──hash──▶ entry 2 ──hash──▶ … ──▶ entry n ──▶ head: n, hash, Ed25519 signature
//! ```
//!
//! Each project has a chain of its own; what belongs to no project (logins,
//! users, projects) goes into the chain of project `default`. The hash of an
//! entry covers all its fields and the hash before it, so an entry that was
//! edited, moved or removed is found by its sequence number. The head names
//! the newest entry and is signed, so a tail that was cut is found as well.
//!
//! [`Auditor::append`] runs in the transaction of the action that it records:
//! either both are stored or neither.
//!
//! Never here: passwords, tokens or anything else that must not be shown to
//! every viewer of the trail.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use quarterdeck_protocol::{
    api::{AuditEntry, AuditOutcome},
    ids::ProjectId,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{
    StoreError, Tx, on,
    query::{InvalidQuery, Names, Sql, fetch_all},
};
use crate::hex;

/// The chain of what belongs to no project.
pub const SERVER_CHAIN: &str = "default";
/// The longest actor, address, action or object, in characters; a claimed name may be anything.
const TEXT_MAX_CHARS: usize = 256;
/// The longest detail, in bytes of JSON.
const DETAIL_MAX_BYTES: usize = 16 * 1024;
/// Entries that are checked at once.
const VERIFY_PAGE_ENTRIES: i64 = 1_000;
/// Opens what is hashed and signed, so that neither passes for something else.
const ENTRY_DOMAIN: &str = "quarterdeck audit entry 1";
const HEAD_DOMAIN: &str = "quarterdeck audit head 1";

/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A username, `service:NAME#ID-END`, `device:ID`, `server`, or the name that somebody claimed.
    pub name: String,
    /// An address, or empty for the server itself.
    pub from: String,
}

impl Actor {
    /// The server, acting by itself.
    pub fn server() -> Self {
        Self { name: "server".to_owned(), from: String::new() }
    }
}

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    pub project: &'a ProjectId,
    pub at: Timestamp,
    pub actor: &'a Actor,
    /// `noun.verb`: `command.create`, `auth.login`.
    pub action: &'a str,
    /// `noun:id`: `command:018f…`, `device:pi-1`.
    pub object: String,
    pub outcome: AuditOutcome,
    /// A JSON object; [`Value::Null`] for nothing more to say.
    pub detail: Value,
}

/// Appends to the trail; holds the key that signs its heads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auditor {
    key: Arc<Ed25519KeyPair>,
}

impl Auditor {
    pub fn new(key: Arc<Ed25519KeyPair>) -> Self {
        Self { key }
    }

    /// Checks a chain that this key signed.
    pub async fn verify(&self, tx: &mut Tx, project: &str) -> Result<Verified, VerifyError> {
        verify(tx, project, self.key.public_key().as_ref()).await
    }

    /// Records one action in the transaction that carries it out, and answers its sequence number.
    pub async fn append(&self, tx: &mut Tx, entry: NewEntry<'_>) -> Result<i64, StoreError> {
        let project = entry.project.as_str();
        // An update first: on both engines it holds the chain for this transaction.
        let advanced: Option<(i64, String)> = on!(tx, conn => sqlx::query_as(
            "UPDATE audit_heads SET seq = seq + 1 WHERE project_id = $1 RETURNING seq, hash",
        ).bind(project).fetch_optional(conn).await?);
        let (seq, before) = advanced.unwrap_or((1, String::new()));
        let row = Row {
            seq,
            at: entry.at.as_millis(),
            actor: clean(&entry.actor.name),
            from_addr: clean(&entry.actor.from),
            action: clean(entry.action),
            object: clean(&entry.object),
            outcome: outcome_text(entry.outcome).to_owned(),
            detail: detail_text(entry.detail),
            hash: String::new(),
        };
        let hash = row.hash_after(project, &before);
        let signature = hex::encode(self.key.sign(&head_text(project, seq, &hash)).as_ref());
        on!(tx, conn => sqlx::query(
            "INSERT INTO audit (project_id, seq, at, actor, from_addr, action, object, outcome, detail, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        ).bind(project).bind(seq).bind(row.at).bind(&row.actor).bind(&row.from_addr).bind(&row.action)
         .bind(&row.object).bind(&row.outcome).bind(&row.detail).bind(&hash)
         .execute(conn).await?.rows_affected());
        on!(tx, conn => sqlx::query(
            "INSERT INTO audit_heads (project_id, seq, hash, signature) VALUES ($1, $2, $3, $4)
             ON CONFLICT (project_id) DO UPDATE SET seq = $2, hash = $3, signature = $4",
        ).bind(project).bind(seq).bind(&hash).bind(&signature).execute(conn).await?.rows_affected());
        Ok(seq)
    }
}

/// The filters of `GET /audit`.
pub const FILTERS: &[&str] = &["actor", "action", "object", "outcome", "from", "to"];

/// Which entries of a chain are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    actors: Names,
    actions: Names,
    objects: Names,
    /// All, when empty.
    outcomes: Vec<AuditOutcome>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Filter {
    /// Reads the filters of a request; an empty one filters nothing.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidQuery> {
        const ALL: [AuditOutcome; 3] =
            [AuditOutcome::Ok, AuditOutcome::Denied, AuditOutcome::Failed];
        let mut filter = Self::default();
        for (name, value) in given {
            if value.is_empty() && FILTERS.contains(&name.as_str()) {
                continue;
            }
            let at = || value.parse().map_err(|e| InvalidQuery::new(name, format!("{e}")));
            match name.as_str() {
                "actor" => filter.actors = Names::parse(name, value)?,
                "action" => filter.actions = Names::parse(name, value)?,
                "object" => filter.objects = Names::parse(name, value)?,
                "outcome" => filter.outcomes = Names::choose(name, value, &ALL, outcome_text)?,
                "from" => filter.from = Some(at()?),
                "to" => filter.to = Some(at()?),
                _ => return Err(InvalidQuery::unknown_filter(name, FILTERS)),
            }
        }
        Ok(filter)
    }

    /// The statement that reads `columns` of what is let through.
    fn select(&self, columns: &str, project: &ProjectId) -> Sql {
        let mut sql = Sql::new(&format!("SELECT {columns} FROM audit WHERE project_id = "));
        sql.bind(project.as_str());
        for (names, column) in
            [(&self.actors, "actor"), (&self.actions, "action"), (&self.objects, "object")]
        {
            names.push(&mut sql, column);
        }
        if !self.outcomes.is_empty() {
            sql.push(" AND outcome IN ")
                .bind_list(self.outcomes.iter().map(|outcome| outcome_text(*outcome)));
        }
        if let Some(from) = self.from {
            sql.push(" AND at >= ").bind(from.as_millis());
        }
        if let Some(to) = self.to {
            sql.push(" AND at <= ").bind(to.as_millis());
        }
        sql
    }
}

/// What [`Row`] reads.
const COLUMNS: &str = "seq, at, actor, from_addr, action, object, outcome, detail, hash";

/// Reads entries beyond `after` (a sequence number) in the order asked for.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    filter: &Filter,
    descending: bool,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut sql = filter.select(COLUMNS, project);
    if let Some(after) = after {
        sql.push(if descending { " AND seq < " } else { " AND seq > " }).bind(after);
    }
    sql.push(if descending { " ORDER BY seq DESC LIMIT " } else { " ORDER BY seq LIMIT " });
    sql.bind(i64::from(limit));
    entries(tx, sql).await
}

/// Reads the rows `offset` to `offset + limit` of a listing.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    filter: &Filter,
    descending: bool,
    offset: u64,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut sql = filter.select(COLUMNS, project);
    sql.push(if descending { " ORDER BY seq DESC LIMIT " } else { " ORDER BY seq LIMIT " });
    sql.bind(i64::from(limit));
    sql.push(" OFFSET ").bind(i64::try_from(offset).unwrap_or(i64::MAX));
    entries(tx, sql).await
}

async fn entries(tx: &mut Tx, sql: Sql) -> Result<Vec<AuditEntry>, StoreError> {
    let rows: Vec<Row> = fetch_all!(tx, sql)?;
    rows.into_iter().map(Row::into_entry).collect()
}

/// Counts the entries of a listing.
pub async fn count(tx: &mut Tx, project: &ProjectId, filter: &Filter) -> Result<u64, StoreError> {
    if *filter == Filter::default() {
        // A chain has no gaps.
        let head: Option<(i64,)> = on!(tx, conn => sqlx::query_as(
            "SELECT seq FROM audit_heads WHERE project_id = $1",
        ).bind(project.as_str()).fetch_optional(conn).await?);
        return Ok(head.map_or(0, |(seq,)| seq as u64));
    }
    let rows: Vec<(i64,)> = fetch_all!(tx, filter.select("COUNT(*)", project))?;
    Ok(rows.first().map_or(0, |(count,)| *count as u64))
}

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub project: String,
    pub entries: i64,
    /// The hash of the newest entry: kept elsewhere, it proves later that nothing before it was changed.
    pub head: String,
}

/// Says what is wrong with a chain.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("project {project}: entry {seq} is bad: {why}")]
    Broken { project: String, seq: i64, why: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for VerifyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Lists all projects that have a chain or should have one.
pub async fn chains(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM projects UNION SELECT project_id FROM audit_heads
         UNION SELECT DISTINCT project_id FROM audit ORDER BY 1",
    ).fetch_all(conn).await?);
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

async fn verify(tx: &mut Tx, project: &str, public_key: &[u8]) -> Result<Verified, VerifyError> {
    let broken = |seq, why| VerifyError::Broken { project: project.to_owned(), seq, why };
    let mut last_seq = 0_i64;
    let mut last_hash = String::new();
    loop {
        let rows = raw_page(tx, project, last_seq).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if row.seq != last_seq + 1 {
                return Err(broken(last_seq + 1, "it is missing"));
            }
            let hash = row.hash_after(project, &last_hash);
            if hash != row.hash {
                return Err(broken(
                    row.seq,
                    "its hash does not match its fields and the entry before",
                ));
            }
            last_seq = row.seq;
            last_hash = hash;
        }
    }
    let head: Option<(i64, String, String)> = on!(tx, conn => sqlx::query_as(
        "SELECT seq, hash, signature FROM audit_heads WHERE project_id = $1",
    ).bind(project).fetch_optional(conn).await?);
    let Some((seq, hash, signature)) = head else {
        // Each project's chain begins with the project.
        return Err(broken(last_seq + 1, "the chain's signed head is missing"));
    };
    if seq > last_seq {
        return Err(broken(last_seq + 1, "the chain's tail was cut"));
    }
    if seq < last_seq {
        return Err(broken(seq + 1, "it is beyond the chain's signed head"));
    }
    if hash != last_hash {
        return Err(broken(seq, "its hash is not the one of the chain's signed head"));
    }
    let signature = hex::decode(&signature).unwrap_or_default();
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&head_text(project, seq, &hash), &signature)
        .map_err(|_| {
            broken(seq, "the signature of the chain's head is not by this server's key")
        })?;
    Ok(Verified { project: project.to_owned(), entries: last_seq, head: last_hash })
}

/// Reads a page of a chain for an export: entries after `after`, with a mark of their order.
pub async fn export_page(
    tx: &mut Tx,
    project: &str,
    after: i64,
) -> Result<Vec<AuditEntry>, StoreError> {
    raw_page(tx, project, after).await?.into_iter().map(Row::into_entry).collect()
}

async fn raw_page(tx: &mut Tx, project: &str, after: i64) -> Result<Vec<Row>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT seq, at, actor, from_addr, action, object, outcome, detail, hash FROM audit
         WHERE project_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    ).bind(project).bind(after).bind(VERIFY_PAGE_ENTRIES).fetch_all(conn).await?))
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    seq: i64,
    at: i64,
    actor: String,
    from_addr: String,
    action: String,
    object: String,
    outcome: String,
    detail: String,
    hash: String,
}

impl Row {
    /// The hash of this row in a chain: over each field with its length before it.
    fn hash_after(&self, project: &str, before: &str) -> String {
        let (seq, at) = (self.seq.to_string(), self.at.to_string());
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [
            ENTRY_DOMAIN,
            before,
            project,
            &seq,
            &at,
            &self.actor,
            &self.from_addr,
            &self.action,
            &self.object,
            &self.outcome,
            &self.detail,
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        hex::encode(context.finish().as_ref())
    }

    fn into_entry(self) -> Result<AuditEntry, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt {
            what: format!("{what} of audit entry {}", self.seq),
        };
        Ok(AuditEntry {
            seq: self.seq,
            at: Timestamp::from_millis(self.at),
            outcome: outcome_of(&self.outcome).ok_or_else(|| corrupt("outcome"))?,
            detail: serde_json::from_str(&self.detail).map_err(|_| corrupt("detail"))?,
            actor: self.actor,
            from: self.from_addr,
            action: self.action,
            object: self.object,
            hash: self.hash,
        })
    }
}

fn head_text(project: &str, seq: i64, hash: &str) -> Vec<u8> {
    format!("{HEAD_DOMAIN}\n{project}\n{seq}\n{hash}").into_bytes()
}

const fn outcome_text(outcome: AuditOutcome) -> &'static str {
    match outcome {
        AuditOutcome::Ok => "ok",
        AuditOutcome::Denied => "denied",
        AuditOutcome::Failed => "failed",
    }
}

/// Reads the name of an outcome.
fn outcome_of(text: &str) -> Option<AuditOutcome> {
    [AuditOutcome::Ok, AuditOutcome::Denied, AuditOutcome::Failed]
        .into_iter()
        .find(|outcome| outcome_text(*outcome) == text)
}

/// PostgreSQL takes no NUL in a text, and a claimed name may be huge.
fn clean(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(TEXT_MAX_CHARS).collect()
}

fn detail_text(detail: Value) -> String {
    let detail = if detail.is_null() { json!({}) } else { detail };
    // JSON writes a NUL as \u0000, which a TEXT column takes.
    let text = detail.to_string();
    if text.len() > DETAIL_MAX_BYTES {
        json!({ "truncated": true, "size_bytes": text.len() }).to_string()
    } else {
        text
    }
}
