//! What can go wrong with a request, in words that say what to do.

use quarterdeck_protocol::{api::Problem, text};
use std::fmt::Write as _;

use super::{profile::ProfileError, server::InvalidServer};

/// Says why a request brought no answer that could be used.
///
/// Its text is fit for a terminal: what the server or a user wrote is shown escaped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// The server understood and said no.
    #[error("{}", problem_text(.0))]
    Refused(Box<Problem>),
    /// No connection, or it broke.
    #[error("cannot reach the server {server}: {reason}{}", advice(.server, .reason, *.may_be_done))]
    Unreachable {
        server: String,
        reason: String,
        /// The request would change something and may have arrived: nobody here can say whether it was done.
        may_be_done: bool,
    },
    /// There is no login, or it has ended.
    #[error("{reason}; {what_now}")]
    SignedOut { reason: String, what_now: String },
    /// What answers is not this API, or of another version.
    #[error(
        "{server} gave an unexpected answer to {call}: {reason}; is it a quarterdeck-server of the same version?"
    )]
    Unexpected { server: String, call: String, reason: String },
    /// An id that no server can have.
    #[error("{0:?} is no valid id")]
    BadId(String),
    #[error(transparent)]
    Server(#[from] InvalidServer),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// TLS could not be set up, or a certificate file is wrong.
    #[error("cannot set up the connection: {0}")]
    Setup(String),
    /// What an upload should bring.
    #[error("cannot read {source_file}: {reason}")]
    Read { source_file: String, reason: String },
    /// Where a download should go.
    #[error("cannot write {target}: {reason}")]
    Write { target: String, reason: String, broken_pipe: bool },
}

impl ApiError {
    /// The problem's stable code, when the server said no.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// The problem's HTTP status, when the server said no.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// Whether nobody heard the request, or nobody can say whether it was heard.
    pub const fn is_network(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn problem_text(problem: &Problem) -> String {
    let said = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let mut shown = text::line(said).into_owned();
    if shown.is_empty() {
        shown = format!("the server answered {}", problem.status);
    }
    if let Some(field) = &problem.field
        && !said.contains(field.as_str())
    {
        shown = format!("{}: {shown}", text::line(field));
    }
    if problem.status >= 500
        && let Some(id) = &problem.request_id
    {
        let _ = write!(shown, " (request {})", text::line(id));
    }
    shown
}

fn advice(server: &str, reason: &str, may_be_done: bool) -> String {
    if reason.contains("certificate") {
        "; if the server has a certificate authority of its own, name it with --ca-file".to_owned()
    } else if may_be_done {
        "; it may have been done all the same: look before you repeat it".to_owned()
    } else if server.contains("127.0.0.1")
        || server.contains("localhost")
        || server.contains("[::1]")
    {
        "; is quarterdeck-server running there?".to_owned()
    } else {
        "; check the address, the network and the server".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(value: serde_json::Value) -> ApiError {
        ApiError::Refused(Box::new(serde_json::from_value(value).expect("a problem")))
    }

    #[test]
    fn a_problem_names_its_field_and_shows_no_control_characters() {
        let error = problem(json!({
            "type": "about:blank", "title": "Unprocessable", "status": 422,
            "detail": "no device \u{1b}[31mpi-9\u{202e}", "code": "unknown_device",
            "field": "targets.devices[0]"
        }));
        assert_eq!(error.to_string(), "targets.devices[0]: no device ^[[31mpi-9<U+202E>");
        assert_eq!(error.code(), Some("unknown_device"));
        assert_eq!(error.status(), Some(422));
    }

    #[test]
    fn a_problem_without_detail_shows_its_title_and_a_fault_its_request() {
        let error = problem(json!({"title": "Forbidden", "status": 403, "code": "forbidden"}));
        assert_eq!(error.to_string(), "Forbidden");
        let error = problem(
            json!({"title": "Internal", "status": 500, "code": "internal", "request_id": "r-1"}),
        );
        assert_eq!(error.to_string(), "Internal (request r-1)");
    }

    #[test]
    fn an_unreachable_server_says_what_to_look_at() {
        let error = ApiError::Unreachable {
            server: "http://127.0.0.1:8470".into(),
            reason: "connection refused".into(),
            may_be_done: false,
        };
        assert_eq!(
            error.to_string(),
            "cannot reach the server http://127.0.0.1:8470: connection refused; is quarterdeck-server running there?"
        );
    }
}
