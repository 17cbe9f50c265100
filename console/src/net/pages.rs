//! A listing as a stream of pages.
//!
//! ```text
//!  First ──▶ At(cursor) ──▶ … ──▶ Done        next_page() asks for one more
//! ```

use std::collections::HashSet;

use quarterdeck_protocol::{api::Page, limits::PAGE_MAX_ITEMS};
use serde::de::DeserializeOwned;

use super::{call::Call, client::Client, error::ApiError};

/// A listing that is read page by page; nothing is asked for before it is wanted.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    segments: Vec<&'a str>,
    query: Vec<(String, String)>,
    place: Place,
    /// How many items are still wanted.
    left: u64,
    /// A server that repeats a cursor would be asked for ever.
    seen: HashSet<String>,
}

#[derive(Debug)]
enum Place {
    First,
    At(String),
    Done,
}

impl<'a> Pages<'a> {
    /// Reads at most `limit` items of the listing at `segments`.
    pub(super) fn new(
        client: &'a Client,
        segments: &[&'a str],
        query: Vec<(String, String)>,
        limit: Option<u64>,
    ) -> Self {
        Self {
            client,
            segments: segments.to_vec(),
            query,
            place: if limit == Some(0) { Place::Done } else { Place::First },
            left: limit.unwrap_or(u64::MAX),
            seen: HashSet::new(),
        }
    }

    /// Asks for the next page; `None` after the last one.
    pub async fn next_page<T: DeserializeOwned>(&mut self) -> Result<Option<Page<T>>, ApiError> {
        let mut query = self.query.clone();
        match &self.place {
            Place::Done => return Ok(None),
            Place::First => {}
            Place::At(cursor) => query.push(("cursor".to_owned(), cursor.clone())),
        }
        let limit = self.left.min(u64::from(PAGE_MAX_ITEMS));
        query.push(("limit".to_owned(), limit.to_string()));
        let call = Call::get(&self.segments).query(query);
        let mut page: Page<T> = self.client.call(call).await?;
        page.items.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= page.items.len() as u64;
        self.place = match page.next_cursor.clone() {
            Some(cursor) if self.left > 0 => {
                if !self.seen.insert(cursor.clone()) {
                    let listing = self.segments.join("/");
                    return Err(self.client.unexpected(&listing, "its pages go in a circle"));
                }
                Place::At(cursor)
            }
            _ => Place::Done,
        };
        Ok(Some(page))
    }

    /// Reads all pages into one list.
    pub async fn all<T: DeserializeOwned>(mut self) -> Result<Vec<T>, ApiError> {
        let mut items = Vec::new();
        while let Some(page) = self.next_page().await? {
            items.extend(page.items);
        }
        Ok(items)
    }
}
