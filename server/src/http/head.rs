//! What the head of a request may be, before anything is done with it.
//!
//! hyper has parsed it, within bounds of its own (`server.rs`) that are twice as wide: over those it
//! answers without a body. Within them it is here that a head is too long, so that the answer is a
//! problem like any other. What two programs may read differently (RFC 9112) is refused as well.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::{Error, Result};

/// The longest target of a request, path and query, in bytes.
pub const TARGET_MAX_BYTES: usize = 16 * 1024;
/// The longest head of a request, in bytes.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;
/// The most header fields of a request.
pub const FIELDS_MAX: usize = 100;

/// Lets a request in whose head is one.
pub async fn check(request: Request, next: Next) -> Response {
    let checked = within_limits(request.method(), request.uri(), request.headers())
        .and_then(|()| one_host(request.version(), request.headers()))
        .and_then(|()| one_authorization(request.headers()))
        .and_then(|()| known_coding(request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn within_limits(method: &Method, uri: &Uri, fields: &HeaderMap) -> Result<()> {
    let target_bytes = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target_bytes > TARGET_MAX_BYTES {
        let detail =
            format!("path and query have {target_bytes} bytes; at most {TARGET_MAX_BYTES}");
        return Err(Error::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    let too_large = |detail| {
        Error::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
    };
    if fields.len() > FIELDS_MAX {
        let found = fields.len();
        return Err(too_large(format!("{found} header fields; at most {FIELDS_MAX}")));
    }
    // Of each line its separators and its end.
    let lines: usize =
        fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let bytes = method.as_str().len() + target_bytes + " HTTP/1.1\r\n".len() + 1 + lines;
    if bytes > HEAD_MAX_BYTES {
        return Err(too_large(format!("the head has {bytes} bytes; at most {HEAD_MAX_BYTES}")));
    }
    Ok(())
}

/// A request of HTTP/1.1 names its host once (3.2): of none or two, programs before us may have
/// understood another one.
fn one_host(version: Version, fields: &HeaderMap) -> Result<()> {
    let hosts = fields.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        let detail = format!("expected one Host header, found {hosts}");
        return Err(Error::malformed("bad_host", detail));
    }
    Ok(())
}

/// Who asks is said once: of two, programs before us may have let in the other one.
fn one_authorization(fields: &HeaderMap) -> Result<()> {
    let found = fields.get_all(header::AUTHORIZATION).iter().count();
    if found > 1 {
        let detail = format!("expected one Authorization header, found {found}");
        return Err(Error::malformed("bad_authorization", detail));
    }
    Ok(())
}

/// A body comes as it is or in chunks (6.1): of any other coding it would be taken for the content.
fn known_coding(fields: &HeaderMap) -> Result<()> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let is_known = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_known {
        return Ok(());
    }
    let detail = "expected no Transfer-Encoding but chunked, once";
    Err(Error::new(StatusCode::NOT_IMPLEMENTED, "unknown_transfer_encoding", detail))
}
