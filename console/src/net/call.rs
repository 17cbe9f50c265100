//! A request before it is sent.

use quarterdeck_protocol::text;
use reqwest::Method;
use serde::Serialize;

/// Method, route, body: all that an attempt needs but the credentials.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) segments: Vec<&'a str>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) idempotency_key: Option<String>,
    /// Sent without credentials: login and refresh.
    pub(super) open: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, segments: &[&'a str]) -> Self {
        Self {
            method,
            segments: segments.to_vec(),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
            open: false,
        }
    }

    pub(super) fn get(segments: &[&'a str]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(super) fn post(segments: &[&'a str]) -> Self {
        Self::new(Method::POST, segments)
    }

    pub(super) fn query(mut self, query: Vec<(String, String)>) -> Self {
        self.query = query;
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("types of the protocol serialise"));
        self
    }

    pub(super) fn key(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned());
        self
    }

    pub(super) const fn without_credentials(mut self) -> Self {
        self.open = true;
        self
    }

    /// Whether sending it twice is as good as once.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.method == Method::GET || self.idempotency_key.is_some()
    }

    /// The id in its route that names one of these, such as a `device`.
    pub(super) fn id_of(&self, what: &str) -> Option<&'a str> {
        let mut pairs =
            self.segments.windows(2).filter_map(|pair| <[&str; 2]>::try_from(pair).ok());
        pairs.find(|[listing, _]| listing.strip_suffix('s') == Some(what)).map(|[_, id]| id)
    }

    pub(super) fn name(&self) -> String {
        format!("{} /api/v1/{}", self.method, text::line(&self.segments.join("/")))
    }
}
