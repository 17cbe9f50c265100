//! The one way in which a request fails: `application/problem+json` (RFC 9457).
//!
//! A handler answers an [`Error`]; [`render`] turns it into the response, with
//! the request's id, at the border. Whatever else fails on the way (a path that
//! is not there, a panic, a limit) is made a problem there as well.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use quarterdeck_protocol::api::Problem;
use serde_json::Map;

use crate::{engine::Refused, store::StoreError};

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Error {
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    pub detail: String,
    pub field: Option<String>,
    pub retry_after_s: Option<u64>,
}

/// What a handler answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, retry_after_s: None }
    }

    /// 422: one input is wrong.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self { field, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// 404: unknown, or of another project.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    /// 400: the request cannot be read at all.
    pub fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: nobody, or no longer somebody.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403: somebody without the right.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 409: the state of things does not allow it.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 429: too often.
    pub fn too_many(retry_after_s: u64, detail: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(retry_after_s.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
        }
    }

    /// 413: the body is longer than may be.
    pub fn too_large(max_bytes: u64) -> Self {
        let detail = format!("the body is longer than {max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// 500: our fault; the log says more.
    pub fn internal() -> Self {
        let detail = "the server failed; its log says more under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_disk_full() {
            tracing::error!(%error, "the disk is full");
            return Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                "the server's disk is full; nothing was stored",
            );
        }
        match error {
            StoreError::Closed => Self::unavailable("the server is stopping"),
            // The client may repeat it with its idempotency key.
            StoreError::Commit(reason) => {
                tracing::error!(%reason, "a commit was not confirmed");
                Self::unavailable(
                    "whether it was stored is not known; look, or repeat it with the same Idempotency-Key",
                )
            }
            away if away.is_away() => {
                tracing::error!(error = %away, "the database is away");
                Self::unavailable("the database cannot be reached now; nothing was changed")
            }
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::internal()
            }
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (code, detail) = (refused.code(), refused.detail());
        let field = refused.field().map(str::to_owned);
        let status = match refused {
            Refused::NotFound { .. } => StatusCode::NOT_FOUND,
            Refused::Invalid { .. } | Refused::ConfirmationRequired { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Refused::Conflict { .. } => StatusCode::CONFLICT,
            Refused::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Refused::Store(error) => return error.into(),
        };
        Self { field, ..Self::new(status, code, detail) }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The id of one request: in its answer, in its problem, in the log.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Makes each failure a problem; runs around everything else.
pub async fn render(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    let error = match response.extensions().get::<Error>() {
        Some(error) => error.clone(),
        None if is_text => of_status(status),
        None => return response,
    };
    into_problem(response, error, id)
}

fn into_problem(response: Response, error: Error, id: Option<RequestId>) -> Response {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: error.status.canonical_reason().unwrap_or("Error").to_owned(),
        status: error.status.as_u16(),
        detail: error.detail,
        code: error.code.to_owned(),
        field: error.field,
        request_id: id.map(|id| id.0),
        other: Map::new(),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    // Headers that say more, e.g. Allow, stay.
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = error.retry_after_s {
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == StatusCode::UNAUTHORIZED
        && !parts.headers.contains_key(header::WWW_AUTHENTICATE)
    {
        parts.headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"quarterdeck\""),
        );
    }
    Response::from_parts(parts, Body::from(body))
}

/// For what fails before a handler is asked.
fn of_status(status: StatusCode) -> Error {
    let (code, detail): (_, Cow<'static, str>) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this path".into()),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", "this path does not take that method; see Allow".into())
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is too long".into()),
        StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took too long to arrive".into()),
        StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "try again in a moment".into()),
        status if status.is_server_error() => return Error { status, ..Error::internal() },
        status => {
            ("bad_request", status.canonical_reason().unwrap_or("the request is wrong").into())
        }
    };
    Error::new(status, code, detail)
}
