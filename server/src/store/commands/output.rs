//! Live output: rows by their offset, so that what is delivered again adds nothing.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::OutputChunk,
    ids::{CommandId, ProjectId},
    limits::OUTPUT_KEPT_MAX_BYTES,
    text,
    time::Timestamp,
};

use super::write::{Statement, statement};
use crate::store::{
    StoreError, Tx,
    bulk::{placeholders, sizes},
    on,
    query::{WindowRow, to_raw},
};

/// The longest row that pieces are joined to, in bytes.
const JOINED_MAX_BYTES: usize = 64 * 1024;

/// One piece of one stream of one command.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub command_id: String,
    pub stream: &'static str,
    pub start: i64,
    pub text: String,
    pub at: i64,
}

impl Chunk {
    /// Cuts what lies beyond the bound that is kept; `None` when nothing is left.
    ///
    /// Chunks are said in order from 0, so all that lies below the bound is kept
    /// and what lies above is cut, whatever arrives first.
    pub fn kept(mut self) -> Option<Self> {
        let room = OUTPUT_KEPT_MAX_BYTES.checked_sub(usize::try_from(self.start).ok()?)?;
        if room == 0 || self.text.is_empty() {
            return None;
        }
        if self.text.len() > room {
            self.text = text::truncate_bytes(&self.text, room).to_owned();
        }
        Some(self)
    }

    /// Takes a piece in that begins no earlier; `false` when there is a gap, or no room.
    fn take(&mut self, next: &Self) -> bool {
        if next.start == self.start {
            if next.text.len() > self.text.len() {
                self.text.clone_from(&next.text);
            }
            return true;
        }
        let Ok(known) = usize::try_from(self.start + self.text.len() as i64 - next.start) else {
            return false;
        };
        let Some(rest) = next.text.get(known.min(next.text.len())..) else { return false };
        if self.text.len() + rest.len() > JOINED_MAX_BYTES {
            return rest.is_empty();
        }
        self.text.push_str(rest);
        self.at = self.at.max(next.at);
        true
    }
}

/// Joins pieces of one stream that follow or repeat one another: a row costs more than its text.
///
/// No two of what comes out begin at the same place.
pub fn joined(mut chunks: Vec<Chunk>) -> Vec<Chunk> {
    chunks.sort_by(|a, b| {
        (&a.command_id, a.stream, a.start).cmp(&(&b.command_id, b.stream, b.start))
    });
    let mut joined: Vec<Chunk> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match joined.last_mut() {
            Some(last) if last.command_id == chunk.command_id && last.stream == chunk.stream => {
                if !last.take(&chunk) {
                    joined.push(chunk);
                }
            }
            _ => joined.push(chunk),
        }
    }
    joined
}

/// Adds chunks; of two that begin at the same place the longer one stays.
pub async fn insert(tx: &mut Tx, chunks: &[Chunk]) -> Result<(), StoreError> {
    const COLUMNS: usize = 5;
    let mut start = 0;
    for size in sizes(chunks.len(), COLUMNS) {
        let sql = statement(tx, Statement::Output, size, || {
            format!(
                "INSERT INTO command_output (command_id, stream, start, text, at) VALUES {}
                 ON CONFLICT (command_id, stream, start) DO UPDATE SET text = excluded.text, at = excluded.at
                 WHERE LENGTH(excluded.text) > LENGTH(command_output.text)",
                placeholders(size, COLUMNS),
            )
        });
        let part = &chunks[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for chunk in part {
                query = query.bind(chunk.command_id.as_str()).bind(chunk.stream).bind(chunk.start)
                    .bind(chunk.text.as_str()).bind(chunk.at);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Reads the chunks of a command in order, `stderr` first; `None` for an unknown command.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    id: CommandId,
) -> Result<Option<Vec<OutputChunk>>, StoreError> {
    let known: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM commands WHERE id = $1 AND project_id = $2",
    ).bind(id.to_string()).bind(project.as_str()).fetch_optional(conn).await?);
    if known.is_none() {
        return Ok(None);
    }
    Ok(Some(chunks(tx, id).await?))
}

/// Reads the chunks `offset` to `offset + limit` in the order of their arrival, and how many there are.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    id: CommandId,
    offset: u64,
    limit: u32,
) -> Result<Option<(Vec<WindowRow>, u64)>, StoreError> {
    let Some(mut chunks) = list(tx, project, id).await? else { return Ok(None) };
    chunks.sort_by_key(|chunk| (chunk.at, chunk.offset));
    let total = chunks.len() as u64;
    let rows = chunks
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(limit as usize)
        .map(|chunk| Ok((format!("{}:{}", chunk.stream, chunk.offset), to_raw(chunk)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Some((rows, total)))
}

/// Puts the chunks of a command together: `stdout` and `stderr`, with a marker where something is missing.
pub async fn assembled(
    tx: &mut Tx,
    id: CommandId,
) -> Result<(Option<String>, Option<String>), StoreError> {
    let mut streams: BTreeMap<String, String> = BTreeMap::new();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    for chunk in chunks(tx, id).await? {
        let end = ends.entry(chunk.stream.clone()).or_default();
        let whole = streams.entry(chunk.stream.clone()).or_default();
        let length = chunk.text.len() as u64;
        if chunk.offset > *end {
            whole.push_str(&text::cut_marker(chunk.offset - *end));
            whole.push_str(&chunk.text);
        } else {
            // Chunks that were cut elsewhere after a restart overlap.
            let known = usize::try_from(*end - chunk.offset).unwrap_or(usize::MAX);
            if let Some(rest) = chunk.text.get(known..) {
                whole.push_str(rest);
            }
        }
        *end = (*end).max(chunk.offset + length);
    }
    Ok((streams.remove("stdout"), streams.remove("stderr")))
}

/// Joins what the last response said, a head and a tail when it is long, with what came live,
/// which has more of the head. At most [`OUTPUT_KEPT_MAX_BYTES`] and a marker.
pub fn whole(said: Option<String>, live: Option<String>) -> Option<String> {
    let (said, mut live) = match (said, live) {
        (said, None) => return said,
        (None, Some(live)) => return Some(marked_at_bound(live)),
        (Some(said), Some(live)) if live.len() <= said.len() => return Some(said),
        (Some(said), Some(live)) => (said, live),
    };
    let Some((head, missing, tail)) = text::split_cut(&said) else {
        return Some(marked_at_bound(live));
    };
    let tail_from = head.len() as u64 + missing;
    let room = OUTPUT_KEPT_MAX_BYTES.saturating_sub(tail.len());
    let head_to = room.min(usize::try_from(tail_from).unwrap_or(usize::MAX));
    live.truncate(live.floor_char_boundary(head_to));
    let cut = tail_from - live.len() as u64;
    if cut > 0 {
        live.push_str(&text::cut_marker(cut));
    }
    live.push_str(tail);
    Some(live)
}

fn marked_at_bound(mut live: String) -> String {
    // Chunks are cut at a character, so up to three bytes before the bound.
    if live.len() + 4 > OUTPUT_KEPT_MAX_BYTES {
        live.push_str("\n[… what follows was cut …]\n");
    }
    live
}

async fn chunks(tx: &mut Tx, id: CommandId) -> Result<Vec<OutputChunk>, StoreError> {
    let rows: Vec<(String, i64, String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT stream, start, text, at FROM command_output WHERE command_id = $1 ORDER BY stream, start",
    ).bind(id.to_string()).fetch_all(conn).await?);
    Ok(rows
        .into_iter()
        .map(|(stream, start, text, at)| OutputChunk {
            stream,
            offset: start as u64,
            text,
            at: Timestamp::from_millis(at),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(said: &str, live: &str) -> String {
        whole(Some(said.to_owned()), Some(live.to_owned())).expect("both were given")
    }

    #[test]
    fn pieces_that_follow_one_another_become_one() {
        let chunk = |id: &str, stream, start, text: &str| Chunk {
            command_id: id.to_owned(),
            stream,
            start,
            text: text.to_owned(),
            at: start,
        };
        let all = joined(vec![
            chunk("a", "stdout", 0, "ab"),
            chunk("b", "stdout", 2, "x"),
            chunk("a", "stdout", 2, "cd"),
            chunk("a", "stdout", 2, "cd"),
            chunk("a", "stderr", 4, "e"),
            chunk("a", "stdout", 0, "a"),
            chunk("a", "stdout", 1, "bc"),
            chunk("a", "stdout", 9, "z"),
        ]);
        let seen: Vec<_> =
            all.iter().map(|one| (&*one.command_id, one.stream, one.start, &*one.text)).collect();
        assert_eq!(
            seen,
            [
                ("a", "stderr", 4, "e"),
                ("a", "stdout", 0, "abcd"),
                ("a", "stdout", 9, "z"),
                ("b", "stdout", 2, "x"),
            ]
        );
    }

    #[test]
    fn the_tail_of_the_last_response_follows_what_came_live() {
        let said = format!("ab{}yz", text::cut_marker(96));
        let live = "ab".to_owned() + &"-".repeat(48);
        assert_eq!(put_together(&said, &live), format!("{live}{}yz", text::cut_marker(48)));
        let live = "ab".to_owned() + &"-".repeat(96);
        assert_eq!(put_together(&said, &live), format!("{live}yz"));
        let live = "ab".to_owned() + &"-".repeat(96) + "y";
        assert_eq!(put_together(&said, &live), format!("{live}z"));
        let live = "ab".to_owned() + &"-".repeat(96) + "yz";
        assert_eq!(put_together(&said, &live), live);
        assert_eq!(put_together("short", "sh"), "short");
        let said = format!("ab{}yz", text::cut_marker(OUTPUT_KEPT_MAX_BYTES as u64));
        let live = "x".repeat(OUTPUT_KEPT_MAX_BYTES);
        let kept = put_together(&said, &live);
        assert!(kept.len() < OUTPUT_KEPT_MAX_BYTES + 50 && kept.ends_with("bytes cut …]\nyz"));
    }

    #[test]
    fn what_came_live_says_when_it_is_not_all() {
        let live = "x".repeat(OUTPUT_KEPT_MAX_BYTES);
        assert!(whole(None, Some(live)).expect("given").ends_with("what follows was cut …]\n"));
        assert_eq!(whole(None, Some("x".into())), Some("x".into()));
    }
}
