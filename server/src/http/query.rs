//! Query parameters: each is known to its route, or the request is refused.
//!
//! A cursor is good where it was made: it begins with a mark of its listing, project, filters and
//! sort, so that one of another listing is refused instead of leading somewhere into this one.

use std::{collections::BTreeMap, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quarterdeck_protocol::{
    api::Page,
    ids::ProjectId,
    limits::{PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS},
};
use serde_json::json;

use super::problem::{Error, Result};
use crate::{
    hex,
    store::{Store, listed::Listed, query::ListError},
};

/// What a mark of a cursor is long, in characters: 8 bytes in Base64.
const MARK_CHARS: usize = 11;

/// The parameters of one request.
#[derive(Debug, Clone)]
pub struct Params {
    given: BTreeMap<String, String>,
    /// Of the listing that is asked for.
    mark: String,
}

/// Reads percent-encoding (RFC 3986, 2.1); `None` where a `%` has no two digits after it.
pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        decoded.extend(hex::decode(digits)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    Some(decoded)
}

/// Which part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    pub limit: u32,
    /// Without its mark.
    pub cursor: Option<String>,
    pub sort: Option<String>,
    mark: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::read(parts.uri.path(), parts.uri.query().unwrap_or_default())
    }
}

impl Params {
    pub(crate) fn read(path: &str, text: &str) -> Result<Self> {
        if percent_decoded(text).is_none_or(|bytes| String::from_utf8(bytes).is_err()) {
            let detail = "the query has a % without two hexadecimal digits, or is not UTF-8";
            return Err(Error::malformed("bad_query", detail));
        }
        let mut given = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if value.contains('\0') || name.contains('\0') {
                return Err(Error::invalid(
                    name.replace('\0', ""),
                    "expected a text without U+0000",
                ));
            }
            if given.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(Error::invalid(name, "given twice; expected once"));
            }
        }
        Ok(Self { mark: mark(path, &given), given })
    }

    /// Takes `limit`, `cursor` and `sort`.
    pub fn paging(&mut self) -> Result<Paging> {
        let limit = self.parse("limit", &format!("1 to {PAGE_MAX_ITEMS}"))?;
        let limit = limit.unwrap_or(PAGE_DEFAULT_ITEMS);
        if !(1..=PAGE_MAX_ITEMS).contains(&limit) {
            return Err(Error::invalid("limit", format!("expected 1 to {PAGE_MAX_ITEMS}")));
        }
        let cursor = self.take("cursor").map(|cursor| self.unmarked(&cursor)).transpose()?;
        Ok(Paging { limit, cursor, sort: self.take("sort"), mark: self.mark.clone() })
    }

    fn unmarked(&self, cursor: &str) -> Result<String> {
        cursor.strip_prefix(&self.mark).map(str::to_owned).ok_or_else(|| {
            let expected = "expected a next_cursor of this listing, with the same filters and sort";
            Error::invalid("cursor", expected)
        })
    }

    /// Takes one parameter.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.given.remove(name)
    }

    /// Takes one parameter and reads it.
    pub fn parse<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>> {
        self.take(name)
            .map(|text| {
                text.parse().map_err(|_| Error::invalid(name, format!("expected {expected}")))
            })
            .transpose()
    }

    /// Ends the reading: what is left is known to nobody.
    pub fn finish(self) -> Result<()> {
        match self.given.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(name, "there is no such parameter here")),
        }
    }

    /// What is left, for a listing that knows its own filters.
    pub fn filters(self) -> BTreeMap<String, String> {
        self.given
    }
}

/// Tells listings apart, with their filters and sorts; how long a page is makes no difference.
fn mark(path: &str, given: &BTreeMap<String, String>) -> String {
    let differs = |(name, value): &(&String, &String)| {
        !matches!(name.as_str(), "cursor" | "limit") && !value.is_empty()
    };
    let given: BTreeMap<_, _> = given.iter().filter(differs).collect();
    let hash = digest(&SHA256, json!([path, given]).to_string().as_bytes());
    let mut mark = URL_SAFE_NO_PAD.encode(hash.as_ref());
    mark.truncate(MARK_CHARS);
    mark
}

/// Answers with a page of what a filter lets through.
pub async fn page<F: Listed>(
    store: &Store,
    project: &ProjectId,
    paging: &Paging,
    given: &BTreeMap<String, String>,
) -> Result<axum::Json<Page<F::Item>>> {
    let filter = F::parse(given)?;
    let (sort, cursor) = (paging.sort.as_deref(), paging.cursor.as_deref());
    let mut tx = store.read().await?;
    let mut page = filter.page(&mut tx, project, sort, cursor, paging.limit).await?;
    page.next_cursor = page.next_cursor.map(|cursor| paging.marked(&cursor));
    Ok(axum::Json(page))
}

impl Paging {
    /// For a listing in one order, by one text key: the key after which to go on.
    pub fn after_key(&self) -> Result<Option<String>> {
        self.cursor
            .as_deref()
            .map(|cursor| {
                URL_SAFE_NO_PAD
                    .decode(cursor)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .filter(|key| !key.contains('\0'))
                    .ok_or_else(|| {
                        Error::invalid("cursor", "expected a next_cursor of this listing")
                    })
            })
            .transpose()
    }

    /// For a listing that is sorted by one column: whether descending.
    pub fn descending(&self, columns: &[&str], default: bool) -> Result<bool> {
        let Some(sort) = &self.sort else { return Ok(default) };
        let (name, descending) =
            sort.strip_prefix('-').map_or((&**sort, false), |name| (name, true));
        if columns.contains(&name) {
            Ok(descending)
        } else {
            let expected =
                format!("expected one of {}, with - before it for descending", columns.join(", "));
            Err(Error::invalid("sort", expected))
        }
    }

    /// For a listing that has one order: refuses any other.
    pub fn one_order(&self, column: &str) -> Result<()> {
        match self.sort.as_deref() {
            None => Ok(()),
            Some(sort) if sort == column => Ok(()),
            Some(_) => Err(Error::invalid("sort", format!("expected {column}"))),
        }
    }

    /// Makes the page of what was read with one row more than `limit`.
    pub fn page<T>(&self, mut items: Vec<T>, total: u64, key: impl Fn(&T) -> String) -> Page<T> {
        let mut next_cursor = None;
        if items.len() > self.limit as usize {
            items.truncate(self.limit as usize);
            next_cursor = items.last().map(|item| self.after(&key(item)));
        }
        Page { items, next_cursor, total }
    }

    /// The cursor that goes on after a key.
    pub fn after(&self, key: &str) -> String {
        self.marked(&URL_SAFE_NO_PAD.encode(key))
    }

    fn marked(&self, cursor: &str) -> String {
        format!("{}{cursor}", self.mark)
    }
}

impl From<ListError> for Error {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Invalid(invalid) => Self::invalid(invalid.field, invalid.expected),
            ListError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_1_to_1000() {
        for (text, is_good) in [
            ("", true),
            ("limit=1", true),
            ("limit=1000", true),
            ("limit=0", false),
            ("limit=1001", false),
            ("limit=x", false),
            ("limit=-1", false),
        ] {
            assert_eq!(
                Params::read("/x", text).and_then(|mut q| q.paging()).is_ok(),
                is_good,
                "{text}"
            );
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_listing_filters_and_sort() {
        let paging = |path, text: &str| Params::read(path, text).and_then(|mut q| q.paging());
        let cursor = paging("/a", "type=ping&sort=-id").expect("a page").after("7");
        let with = |query: &str| format!("{query}&cursor={cursor}");
        for (path, query, is_good) in [
            ("/a", "type=ping&sort=-id", true),
            ("/a", "sort=-id&limit=7&type=ping&user=", true),
            ("/a", "type=pong&sort=-id", false),
            ("/a", "type=ping&sort=id", false),
            ("/a", "type=ping&sort=-id&user=x", false),
            ("/b", "type=ping&sort=-id", false),
        ] {
            let read = paging(path, &with(query));
            let read = read.and_then(|paging| paging.after_key()).map_err(|error| error.field);
            let expected =
                if is_good { Ok(Some("7".to_owned())) } else { Err(Some("cursor".to_owned())) };
            assert_eq!(read, expected, "{path}?{query}");
        }
        for text in ["cursor=", "cursor=Nw", "cursor=%C3%A4"] {
            let refused = paging("/a", text).expect_err(text);
            assert_eq!(refused.field.as_deref(), Some("cursor"));
        }
    }

    #[test]
    fn a_query_that_cannot_be_read_is_malformed() {
        for (text, is_good) in [
            ("q=100%25", true),
            ("q=%C3%a4+b", true),
            ("q=", true),
            ("q=%", false),
            ("q=%f", false),
            ("q=%zz", false),
            ("q=%+1", false),
            ("q=%é1", false),
            ("q=%ff", false),
            ("%ff=1", false),
        ] {
            let read = Params::read("/x", text).map(drop).map_err(|error| error.code);
            assert_eq!(read, if is_good { Ok(()) } else { Err("bad_query") }, "{text}");
        }
    }

    #[test]
    fn an_unknown_or_repeated_parameter_is_named() {
        let mut query = Params::read("/x", "limit=1&colour=red").expect("readable");
        query.paging().expect("a page");
        assert_eq!(query.finish().expect_err("unknown").field.as_deref(), Some("colour"));
        assert_eq!(Params::read("/x", "a=1&a=2").expect_err("twice").field.as_deref(), Some("a"));
    }
}
