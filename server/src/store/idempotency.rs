//! Answers of creating requests, kept so that a repeated one creates nothing (chapter 2).
//!
//! In the transaction of the effect: [`find`] first; when it says [`Found::New`],
//! do the work and [`remember`] the answer. Writers take turns, so of two
//! requests with one key that arrive together the second finds the first's answer.
//!
//! An answer may hold a secret that is stored nowhere else in the clear (a new
//! token), so it is sealed with a key made from the idempotency key, of which
//! only a hash is stored: who reads the database cannot open it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest, hmac,
};
use quarterdeck_protocol::time::Timestamp;

use super::{StoreError, Tx, on};
use crate::hex;

/// The longest `Idempotency-Key`, in bytes.
pub const KEY_MAX_BYTES: usize = 255;
/// How long an answer is kept, in milliseconds.
pub const KEPT_MS: i64 = 48 * 3600 * 1000;
/// Answers that one sweep forgets at most.
const SWEEP_MAX_ROWS: i64 = 1_000;

/// What makes two requests the same.
#[derive(Debug, Clone)]
pub struct Key {
    /// The project, or empty for a request of the server as a whole.
    pub project: String,
    pub actor: String,
    /// As the client chose it.
    pub key: String,
    /// Covers method, route and body.
    pub request_hash: String,
}

impl Key {
    /// Makes a key for a request; `request` are the parts in which two may differ.
    pub fn new(project: &str, actor: &str, key: &str, request: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in request {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self {
            project: project.to_owned(),
            actor: actor.to_owned(),
            key: key.to_owned(),
            request_hash: hex::encode(context.finish().as_ref()),
        }
    }

    fn derive(&self, purpose: &str) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        for part in ["quarterdeck idempotency", purpose, &self.project, &self.actor] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign()
    }

    fn stored(&self) -> String {
        hex::encode(self.derive("name").as_ref())
    }

    /// One key seals one answer at one time, so that time will do as a nonce.
    fn seal(&self, at_ms: i64) -> Result<(LessSafeKey, Nonce), StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, self.derive("seal").as_ref())
            .map_err(|_| StoreError::Corrupt { what: "a sealing key".to_owned() })?;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&at_ms.to_be_bytes());
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
    }
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Never seen: do the work.
    New,
    /// Seen with this request: the same answer again.
    Answered { status: u16, answer: String },
    /// Seen with another request: 409.
    Mismatch,
}

/// Looks a key up, in the transaction that would do the work.
pub async fn find(tx: &mut Tx, key: &Key) -> Result<Found, StoreError> {
    let row: Option<(String, i64, String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT request, status, answer, created_at FROM idempotency WHERE project_id = $1 AND actor = $2 AND key = $3",
    ).bind(&key.project).bind(&key.actor).bind(key.stored()).fetch_optional(conn).await?);
    let Some((request, status, sealed, at_ms)) = row else { return Ok(Found::New) };
    if request != key.request_hash {
        return Ok(Found::Mismatch);
    }
    let corrupt = || StoreError::Corrupt { what: "a remembered answer".to_owned() };
    let mut sealed = hex::decode(&sealed).ok_or_else(corrupt)?;
    let (seal, nonce) = key.seal(at_ms)?;
    let opened = seal.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| corrupt())?;
    let answer = String::from_utf8(opened.to_vec()).map_err(|_| corrupt())?;
    Ok(Found::Answered { status: u16::try_from(status).map_err(|_| corrupt())?, answer })
}

/// Keeps the answer (a JSON text), in the transaction that did the work.
pub async fn remember(
    tx: &mut Tx,
    key: &Key,
    at: Timestamp,
    status: u16,
    answer: &str,
) -> Result<(), StoreError> {
    let mut sealed = answer.as_bytes().to_vec();
    let (seal, nonce) = key.seal(at.as_millis())?;
    seal.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
        .map_err(|_| StoreError::Corrupt { what: "an answer to remember".to_owned() })?;
    on!(tx, conn => sqlx::query(
        "INSERT INTO idempotency (project_id, actor, key, request, status, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    ).bind(&key.project).bind(&key.actor).bind(key.stored()).bind(&key.request_hash)
     .bind(i64::from(status)).bind(hex::encode(&sealed)).bind(at.as_millis())
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Forgets answers older than [`KEPT_MS`], and answers how many.
pub async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    Ok(on!(tx, conn => sqlx::query(
        "DELETE FROM idempotency WHERE (project_id, actor, key) IN
         (SELECT project_id, actor, key FROM idempotency WHERE created_at < $1 LIMIT $2)",
    ).bind(now.plus_millis(-KEPT_MS).as_millis()).bind(SWEEP_MAX_ROWS)
     .execute(conn).await?.rows_affected()))
}
