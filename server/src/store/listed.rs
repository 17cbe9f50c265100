//! Listings by filter: read in pages by people and scripts, in windows by the live feed.
//!
//! A filter says which rows and which columns it sorts by; how pages, cursors
//! and windows are made of that is the same for all.

use std::collections::BTreeMap;

use quarterdeck_protocol::{api::Page, ids::ProjectId};

use super::{
    StoreError, Tx,
    query::{Column, InvalidQuery, Key, ListError, Select, Sort, WindowRow, to_raw},
};

/// A filter of a project's rows.
pub trait Listed: Sized + Sync {
    type Item: serde::Serialize + Send;

    /// By which columns it sorts.
    const COLUMNS: &'static [Column];
    /// The order when nobody asks for another.
    const DEFAULT_SORT: &'static str;

    /// Reads the filters of a request; an empty one filters nothing.
    fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidQuery>;

    /// The rows it lets through.
    fn select(&self, project: &ProjectId, sort: Sort) -> Select;

    /// Reads rows, in the order of their keys; one that is gone by now is left out.
    fn rows(
        tx: &mut Tx,
        project: &ProjectId,
        keys: &[Key],
    ) -> impl Future<Output = Result<Vec<Self::Item>, StoreError>> + Send;

    /// What the live feed knows a row by.
    fn key(item: &Self::Item) -> String;

    /// Reads the order that is asked for.
    fn sort(given: Option<&str>) -> Result<Sort, InvalidQuery> {
        Sort::parse(Self::COLUMNS, given.unwrap_or(Self::DEFAULT_SORT))
    }

    /// Reads a page.
    fn page(
        &self,
        tx: &mut Tx,
        project: &ProjectId,
        sort: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<Page<Self::Item>, ListError>> + Send {
        async move {
            let select = self.select(project, Self::sort(sort)?);
            let (keys, next_cursor, total) = select.page(tx, cursor, limit).await?;
            Ok(Page { items: Self::rows(tx, project, &keys).await?, next_cursor, total })
        }
    }

    /// Reads the rows `offset` to `offset + limit`, and how many there are.
    fn window(
        &self,
        tx: &mut Tx,
        project: &ProjectId,
        sort: Option<&str>,
        offset: u64,
        limit: u32,
    ) -> impl Future<Output = Result<(Vec<Self::Item>, u64), ListError>> + Send {
        async move {
            let select = self.select(project, Self::sort(sort)?);
            let (keys, total) = select.window(tx, offset, limit).await?;
            Ok((Self::rows(tx, project, &keys).await?, total))
        }
    }
}

/// Makes the rows of a live window.
pub fn shown<F: Listed>(items: &[F::Item]) -> Result<Vec<WindowRow>, StoreError> {
    items.iter().map(|item| Ok((F::key(item), to_raw(item)?))).collect()
}
