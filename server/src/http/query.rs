//! Query parameters: each is known to its route, or the request is refused.

use std::{collections::BTreeMap, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quarterdeck_protocol::{
    api::Page,
    limits::{PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS},
};

use super::problem::{Error, Result};
use crate::{hex, store::query::ListError};

/// The parameters of one request.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

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
    pub cursor: Option<String>,
    pub sort: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

impl Params {
    pub(crate) fn read(text: &str) -> Result<Self> {
        if percent_decoded(text).is_none_or(|bytes| String::from_utf8(bytes).is_err()) {
            let detail = "the query has a % without two hexadecimal digits, or is not UTF-8";
            return Err(Error::malformed("bad_query", detail));
        }
        let mut params = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if value.contains('\0') || name.contains('\0') {
                return Err(Error::invalid(
                    name.replace('\0', ""),
                    "expected a text without U+0000",
                ));
            }
            if params.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(Error::invalid(name, "given twice; expected once"));
            }
        }
        Ok(Self(params))
    }

    /// Takes `limit`, `cursor` and `sort`.
    pub fn paging(&mut self) -> Result<Paging> {
        let limit = self.parse("limit", &format!("1 to {PAGE_MAX_ITEMS}"))?;
        let limit = limit.unwrap_or(PAGE_DEFAULT_ITEMS);
        if !(1..=PAGE_MAX_ITEMS).contains(&limit) {
            return Err(Error::invalid("limit", format!("expected 1 to {PAGE_MAX_ITEMS}")));
        }
        Ok(Paging { limit, cursor: self.take("cursor"), sort: self.take("sort") })
    }

    /// Takes one parameter.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
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
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(name, "there is no such parameter here")),
        }
    }

    /// What is left, for a listing that knows its own filters.
    pub fn filters(self) -> BTreeMap<String, String> {
        self.0
    }
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
            next_cursor = items.last().map(|item| URL_SAFE_NO_PAD.encode(key(item)));
        }
        Page { items, next_cursor, total }
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
            assert_eq!(Params::read(text).and_then(|mut q| q.paging()).is_ok(), is_good, "{text}");
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
            let read = Params::read(text).map(drop).map_err(|error| error.code);
            assert_eq!(read, if is_good { Ok(()) } else { Err("bad_query") }, "{text}");
        }
    }

    #[test]
    fn an_unknown_or_repeated_parameter_is_named() {
        let mut query = Params::read("limit=1&colour=red").expect("readable");
        query.paging().expect("a page");
        assert_eq!(query.finish().expect_err("unknown").field.as_deref(), Some("colour"));
        assert_eq!(Params::read("a=1&a=2").expect_err("twice").field.as_deref(), Some("a"));
    }
}
