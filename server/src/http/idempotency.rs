//! `Idempotency-Key`: a creating request that is repeated creates nothing more.
//!
//! The answer is stored in the transaction of the effect, so there is no moment
//! at which one is there without the other; writers take turns, so of two such
//! requests at once the second gets the first's answer.

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use serde::Serialize;

use super::{
    App, Job,
    problem::{Error, Result},
};
use crate::{
    engine::After,
    store::{
        Tx,
        idempotency::{Found, KEY_MAX_BYTES, Key, find, remember},
    },
};

/// The `Idempotency-Key` of a request, if it has one, with the request's route.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    key: Option<String>,
    route: String,
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let route = format!("{} {}", parts.method, parts.uri.path());
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let key = match (values.next(), values.next()) {
            (None, _) => return Ok(Self { key: None, route }),
            (Some(only), None) => readable(only),
            (Some(_), Some(_)) => None,
        };
        let key = key.ok_or_else(|| {
            let detail = format!("expected 1 to {KEY_MAX_BYTES} visible ASCII characters, once");
            Error::invalid("Idempotency-Key", detail)
        })?;
        Ok(Self { key: Some(key.to_owned()), route })
    }
}

fn readable(value: &HeaderValue) -> Option<&str> {
    let key = value.to_str().ok()?;
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    (is_visible && (1..=KEY_MAX_BYTES).contains(&key.len())).then_some(key)
}

impl IdempotencyKey {
    /// The key as it was given.
    pub fn given(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Names the request by who sends it, and what it says.
    pub fn of(self, project: &str, actor: &str, body: &[u8]) -> Option<Key> {
        let key = self.key?;
        Some(Key::new(project, actor, &key, &[self.route.as_bytes(), body]))
    }

    /// Names the request of somebody who shows nothing but a secret in its body.
    ///
    /// The secret is part of the name and of the seal: who does not have it finds nothing under
    /// this key, and opens nothing.
    pub fn of_bearer(self, secret: &str, body: &[u8]) -> Option<Key> {
        let key = format!("{}\n{secret}", self.key?);
        Some(Key::new("", "", &key, &[self.route.as_bytes(), body]))
    }
}

/// What is answered: text where it is kept for who asks again.
enum Answer<T> {
    Text(u16, String),
    Value(T),
}

/// Does `work` once for each key, and answers with `status`; without a key, each time.
pub async fn once<T, F>(
    app: &App,
    key: Option<Key>,
    status: StatusCode,
    work: F,
) -> Result<Response>
where
    T: Serialize + Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> Job<'t, (T, After)> + Send + 'static,
{
    let at = app.clock.wall();
    let (answer, after) = app
        .write(move |tx| {
            Box::pin(async move {
                let Some(key) = &key else {
                    let (value, after) = work(tx).await?;
                    return Ok((Answer::Value(value), after));
                };
                match find(tx, key).await? {
                    Found::New => {}
                    Found::Answered { status, answer } => {
                        return Ok((Answer::Text(status, answer), After::default()));
                    }
                    Found::Mismatch => {
                        return Err(Error::conflict(
                            "idempotency_key_reused",
                            "this Idempotency-Key was used for another request",
                        ));
                    }
                }
                let (value, after) = work(tx).await?;
                let answer = serde_json::to_string(&value).map_err(|_| Error::internal())?;
                remember(tx, key, at, status.as_u16(), &answer).await?;
                Ok((Answer::Text(status.as_u16(), answer), after))
            })
        })
        .await?;
    // First to the devices, then to who asked: the answer for ten thousand of them takes a while to write.
    app.engine.after_commit(after);
    let (status, body) = match answer {
        Answer::Text(status, text) => (status, text),
        Answer::Value(value) => {
            (status.as_u16(), serde_json::to_string(&value).map_err(|_| Error::internal())?)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Error::internal())?;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
