//! Reads a JSON body, once, into a valid type; anything else is a problem that says where.
//!
//! | body | answer |
//! | --- | --- |
//! | no `application/json`, or compressed | 415 |
//! | longer than 1 MiB | 413 |
//! | slower than [`BODY_TIMEOUT_MS`] | 408 |
//! | no JSON, not UTF-8, deeper than 64 | 400 |
//! | JSON of another shape, a name twice in one object | 422, with the field |

mod words;

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt as _, Limited};
use quarterdeck_protocol::{
    json,
    limits::{HTTP_BODY_MAX_BYTES, JSON_MAX_DEPTH},
};
use serde::de::DeserializeOwned;

use super::problem::Error;

/// How long a body may take to arrive, in milliseconds.
pub const BODY_TIMEOUT_MS: u64 = 30_000;

/// A request's body: what it says, and its bytes.
#[derive(Debug, Clone)]
pub struct Json<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "expected Content-Type: application/json",
            ));
        }
        let bytes = read_body(request).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

/// Reads a whole body within the limits of size and time.
pub async fn read_body(request: Request) -> Result<Bytes, Error> {
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "expected a body without Content-Encoding",
        ));
    }
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > HTTP_BODY_MAX_BYTES as u64) {
        return Err(Error::too_large(HTTP_BODY_MAX_BYTES as u64));
    }
    let body = Limited::new(request.into_body(), HTTP_BODY_MAX_BYTES).collect();
    match tokio::time::timeout(Duration::from_millis(BODY_TIMEOUT_MS), body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::too_large(HTTP_BODY_MAX_BYTES as u64))
        }
        Ok(Err(_)) => Err(Error::malformed("incomplete_body", "the body broke off")),
        Err(_) => Err(Error::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body took too long to arrive",
        )),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads a JSON object into a type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    scan(bytes)?;
    let malformed = |error: serde_json::Error| {
        Error::malformed("malformed_json", format!("malformed JSON: {error}"))
    };
    // Whether it is JSON at all does not hang on what is expected of it.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::malformed("malformed_json", format!("not UTF-8: {error}")))?;
    if let Some(fault) = json::check(text).map_err(malformed)? {
        return Err(Error::invalid(fault.field, fault.expected));
    }
    // serde would also take an array, its items in the order of the fields.
    if !text.trim_start().starts_with('{') {
        let detail = "expected a JSON object";
        return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let message = error.inner().to_string();
        Error::invalid(field_of(&error.path().to_string(), &message), words::of(&message))
    })
}

/// Refuses, before anything is built, what nests too deep.
fn scan(bytes: &[u8]) -> Result<(), Error> {
    let (mut depth, mut in_string) = (0_usize, false);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > JSON_MAX_DEPTH {
                    let detail = format!("the JSON nests deeper than {JSON_MAX_DEPTH}");
                    return Err(Error::malformed("too_deep", detail));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The path of the input that is wrong: a missing or unknown field is named with its parent's path.
fn field_of(path: &str, message: &str) -> String {
    let named = ["unknown field `", "missing field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    match (path, named) {
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => {
            path.to_owned()
        }
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::api::{CreateCommands, CreateTunnel};

    fn refused(body: &str) -> (u16, Option<String>) {
        let error = parse::<CreateCommands>(body.as_bytes()).expect_err(body);
        (error.status.as_u16(), error.field)
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path() {
        let field = |name: &str| Some(name.to_owned());
        assert_eq!(refused(r#"{"type":"ping"}"#), (422, field("targets")));
        assert_eq!(
            refused(r#"{"targets":{"devices":["a"],"groops":[]},"type":"ping"}"#),
            (422, field("targets.groops"))
        );
        assert_eq!(
            refused(r#"{"targets":{"devices":["a",7]},"type":"ping"}"#),
            (422, field("targets.devices[1]"))
        );
        assert_eq!(
            refused(r#"{"targets":{},"type":"ping","priority":"high"}"#),
            (422, field("priority"))
        );
        assert_eq!(refused(r#"{"targets":{},"type":"ping","pririty":1}"#), (422, field("pririty")));
    }

    #[test]
    fn a_wrong_number_is_told_in_words_of_the_outside() {
        let body = br#"{"device_id":"pi-1","kind":"port_forward","port":-1}"#;
        let error = parse::<CreateTunnel>(body).expect_err("negative");
        assert_eq!(error.detail, "-1 is out of range");
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", "{}x", "nul", "{\"type\":\"\u{1}\"}", "{'a':1}"] {
            assert_eq!(refused(body).0, 400, "{body:?}");
        }
        assert_eq!(
            parse::<serde_json::Value>(b"{\"x\":\"\xff\"}").expect_err("not UTF-8").status.as_u16(),
            400
        );
    }

    #[test]
    fn a_name_twice_and_nul_are_refused_where_they_stand() {
        let field = |name: &str| (422, Some(name.to_owned()));
        let with = |rest: &str| format!(r#"{{"targets":{{}},"type":"run_script",{rest}}}"#);
        assert_eq!(refused(&with(r#""type":"ping""#)), field("type"));
        let payload = with(r#""payload":{"script":"a","env":{"A":"1","A":"2"}}"#);
        assert_eq!(refused(&payload), field("payload.env.A"));
        assert_eq!(refused(&with(r#""notes":"a\u0000""#)), field("notes"));
    }

    #[test]
    fn an_array_is_no_request() {
        assert_eq!(refused(r#"[{"devices":[]},"ping"]"#), (422, None));
        assert_eq!(refused("7"), (422, None));
    }

    #[test]
    fn deep_json_is_refused_before_it_is_built() {
        let code = |json: &str| {
            let body = format!("{{\"x\":{json}}}");
            parse::<serde_json::Value>(body.as_bytes()).map(drop).map_err(|error| error.code)
        };
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(code(&deep(63)), Ok(()));
        assert_eq!(code(&deep(64)), Err("too_deep"));
        assert_eq!(code(&deep(500_000)), Err("too_deep"));
        assert_eq!(code(&format!("\"{}\"", "[".repeat(100))), Ok(()));
    }
}
