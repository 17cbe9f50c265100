//! What devices say, read once, outside of any transaction.
//!
//! Whatever is malformed, of an unknown schema version, or too large becomes a
//! [`Malformed`]: it changes nothing, is counted and logged, and acknowledged,
//! for the device would only send it again.

use std::{borrow::Cow, fmt::Write as _};

use quarterdeck_protocol::{
    command::{ResponseStatus, SCHEMA_VERSION},
    device::{HealthMessage, ProcessHealth, ServiceFailedMessage, StatusMessage},
    limits::{
        ERROR_MESSAGE_MAX_BYTES, JSON_MAX_DEPTH, OPERATION_NAME_MAX_BYTES, OPERATIONS_MAX,
        RESULT_MAX_BYTES,
    },
    operations::read_announced,
    text::{line, truncate_bytes},
    time::Timestamp,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::store::{
    commands::{
        live::Loaded,
        output::Chunk,
        write::{Ended, Update},
    },
    devices::operations::Announcement,
};

/// The longest name of a step, workflow state or error code, in bytes.
const WORD_MAX_BYTES: usize = 256;
/// The longest set of facts or capabilities of a device, in bytes of JSON.
const FACTS_MAX_BYTES: usize = 64 * 1024;
/// How much of a late answer's result, and of the end of each of its outputs, the timeline keeps.
const LATE_MAX_BYTES: usize = 1024;

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("not the JSON that is expected here: {0}")]
    Json(#[from] serde_json::Error),
    #[error("schema version {0:?} is not known")]
    SchemaVersion(String),
    #[error("{0}")]
    Invalid(&'static str),
}

/// A response as the engine needs it, without what it need not copy.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub command_id: String,
    pub status: ResponseStatus,
    pub state: Option<String>,
    pub progress: Option<u8>,
    pub step: Option<String>,
    pub error_code: Option<String>,
    pub at: Option<Timestamp>,
    /// Only with what is rare: kept apart, so that a plain response is small.
    pub rest: Option<Box<Rest>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Rest {
    pub result: Option<String>,
    pub error_message: Option<String>,
    pub exit_code: Option<i32>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub stdout_offset: Option<u64>,
    pub stderr_offset: Option<u64>,
}

/// The wire's shape, borrowed from the payload where it can be.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    schema_version: Cow<'a, str>,
    command_id: uuid::Uuid,
    status: ResponseStatus,
    #[serde(borrow, default)]
    state: Option<Cow<'a, str>>,
    #[serde(default)]
    progress: Option<u8>,
    #[serde(borrow, default)]
    step: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error_message: Option<Cow<'a, str>>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(borrow, default)]
    stdout: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stderr: Option<Cow<'a, str>>,
    #[serde(default)]
    stdout_offset: Option<u64>,
    #[serde(default)]
    stderr_offset: Option<u64>,
    #[serde(borrow, default)]
    at: Option<Cow<'a, str>>,
}

impl Said {
    /// Reads a `commands/response`.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let wire: Wire<'_> = serde_json::from_slice(payload)?;
        if wire.schema_version != SCHEMA_VERSION {
            return Err(Malformed::SchemaVersion(word(&wire.schema_version)));
        }
        if wire.progress.is_some_and(|percent| percent > 100) {
            return Err(Malformed::Invalid("progress: expected 0 to 100"));
        }
        let at = match wire.at {
            Some(text) => {
                Some(text.parse().map_err(|_| Malformed::Invalid("at: expected a timestamp"))?)
            }
            None => None,
        };
        let has_rest = wire.result.is_some()
            || wire.error_message.is_some()
            || wire.exit_code.is_some()
            || wire.stdout.is_some()
            || wire.stderr.is_some();
        let rest = if has_rest {
            Some(Box::new(Rest {
                result: wire.result.map(result).transpose()?.flatten(),
                error_message: wire.error_message.map(|text| kept(&text, ERROR_MESSAGE_MAX_BYTES)),
                exit_code: wire.exit_code,
                stdout: wire.stdout.map(|text| without_nul(text.into_owned())),
                stderr: wire.stderr.map(|text| without_nul(text.into_owned())),
                stdout_offset: wire.stdout_offset,
                stderr_offset: wire.stderr_offset,
            }))
        } else {
            None
        };
        let mut buffer = uuid::Uuid::encode_buffer();
        Ok(Self {
            command_id: wire.command_id.as_hyphenated().encode_lower(&mut buffer).to_owned(),
            status: wire.status,
            state: wire.state.map(|text| word(&text)),
            progress: wire.progress,
            step: wire.step.map(|text| word(&text)),
            error_code: wire.error_code.map(|text| word(&text)),
            at,
            rest,
        })
    }

    /// Puts progress, step and state into a row.
    pub(crate) fn describe(&self, update: &mut Update) {
        if let Some(progress) = self.progress {
            update.progress = Some(i64::from(progress));
        } else if self.status == ResponseStatus::Completed {
            update.progress = Some(100);
        }
        if let Some(step) = &self.step {
            update.step = Some(step.clone());
        }
        if let Some(state) = &self.state {
            update.state = Some(state.clone());
        }
    }

    /// Puts what a last response says into a row.
    pub(crate) fn outcome(&self, ended: &mut Ended) {
        ended.error_code.clone_from(&self.error_code);
        let Some(rest) = &self.rest else { return };
        ended.result.clone_from(&rest.result);
        ended.exit_code = rest.exit_code.map(i64::from);
        ended.stdout.clone_from(&rest.stdout);
        ended.stderr.clone_from(&rest.stderr);
        ended.error_message.clone_from(&rest.error_message);
    }

    /// The live output that a progress brings.
    pub(crate) fn chunks(&self, at: Timestamp) -> Vec<Chunk> {
        let Some(rest) = &self.rest else { return Vec::new() };
        if self.status != ResponseStatus::Progress {
            return Vec::new();
        }
        let chunk = |stream, text: &Option<String>, offset: Option<u64>| {
            Chunk {
                command_id: self.command_id.clone(),
                stream,
                start: i64::try_from(offset?).ok()?,
                text: text.clone()?,
                at: at.as_millis(),
            }
            .kept()
        };
        [
            chunk("stdout", &rest.stdout, rest.stdout_offset),
            chunk("stderr", &rest.stderr, rest.stderr_offset),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a progress says of another step or state than the row does. A percentage alone is no
    /// event: the timeline would only grow, and be written again with each of them.
    pub(crate) fn has_news(&self, row: &Loaded) -> bool {
        self.step.is_some() && self.step != row.step
            || self.state.is_some() && self.state != row.state
    }

    /// Lets a row say what this progress said.
    pub(crate) fn remember(&self, row: &mut Loaded) {
        row.progress = self.progress.map(i64::from).or(row.progress);
        row.step = self.step.clone().or_else(|| row.step.take());
        row.state = self.state.clone().or_else(|| row.state.take());
    }

    /// What a line of the timeline tells beside its name, as JSON; empty for nothing.
    pub(crate) fn detail(&self, event: &str, why: Option<&str>) -> String {
        let mut detail = String::new();
        let mut field = |name: &str, value: &str, quoted: bool| {
            let separator = if detail.is_empty() { '{' } else { ',' };
            let result = if quoted {
                write!(detail, "{separator}\"{name}\":{}", serde_json::Value::from(value))
            } else {
                write!(detail, "{separator}\"{name}\":{value}")
            };
            result.expect("writing to a string cannot fail");
        };
        if event == "late" {
            field("status", self.status.as_str(), true);
        }
        if let Some(why) = why {
            field("why", why, true);
        }
        if let Some(progress) = self.progress {
            field("progress", &progress.to_string(), false);
        }
        for (name, value) in
            [("step", &self.step), ("state", &self.state), ("error_code", &self.error_code)]
        {
            if let Some(value) = value {
                field(name, value, true);
            }
        }
        if let Some(rest) = &self.rest {
            if let Some(message) = &rest.error_message {
                field("error_message", message, true);
            }
            if let Some(code) = rest.exit_code {
                field("exit_code", &code.to_string(), false);
            }
        }
        if event == "late" {
            // It is evidence, and nowhere else: the row keeps what it ended with.
            if let Some(rest) = &self.rest {
                match &rest.result {
                    // A raw line break stands only between tokens; an event is one line.
                    Some(result) if result.len() <= LATE_MAX_BYTES => {
                        field("result", &result.replace(['\n', '\r'], " "), false);
                    }
                    Some(result) => field("result_bytes", &result.len().to_string(), false),
                    None => {}
                }
                for (name, text) in [("stdout", &rest.stdout), ("stderr", &rest.stderr)] {
                    if let Some(text) = text {
                        let tail =
                            text.ceil_char_boundary(text.len().saturating_sub(LATE_MAX_BYTES));
                        field(name, &text[tail..], true);
                    }
                }
            }
            if let Some(at) = self.at {
                field("device_at", &at.to_string(), true);
            }
        }
        if !detail.is_empty() {
            detail.push('}');
        }
        detail
    }
}

/// A status message as the engine needs it.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub online: bool,
    pub boot_id: Option<String>,
    pub agent_version: Option<String>,
    /// JSON.
    pub facts: Option<String>,
    pub announced: Option<Announcement>,
    pub at: Option<Timestamp>,
}

impl Status {
    /// Reads a `status`.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        check_depth(payload)?;
        let message: StatusMessage = serde_json::from_slice(payload)?;
        if message.schema_version != SCHEMA_VERSION {
            return Err(Malformed::SchemaVersion(word(&message.schema_version)));
        }
        let facts = match message.facts {
            Some(facts) => {
                let text = serde_json::to_string(&facts)?;
                if text.len() > FACTS_MAX_BYTES {
                    return Err(Malformed::Invalid("facts: more than is kept"));
                }
                Some(text)
            }
            None => None,
        };
        let announced = message
            .capabilities
            .map(|names| announcement(names, &message.operations.unwrap_or_default()));
        Ok(Self {
            online: message.online,
            boot_id: message.boot_id.map(|text| word(&text)),
            agent_version: message.agent_version.map(|text| word(&text)),
            facts,
            announced,
            at: message.at,
        })
    }
}

/// Takes what is good of an announcement; what is not is logged and left out.
fn announcement(mut names: Vec<String>, cards: &[Value]) -> Announcement {
    let given = names.len();
    names.retain(|name| {
        !name.is_empty() && name.len() <= OPERATION_NAME_MAX_BYTES && !name.contains('\0')
    });
    names.sort_unstable();
    names.dedup();
    names.truncate(OPERATIONS_MAX);
    if names.len() < given {
        tracing::info!(given, taken = names.len(), "of the announced operations not all are taken");
    }
    let (mut cards, problems) = read_announced(cards);
    for problem in &problems {
        tracing::info!(problem = %line(&problem.to_string()), "what is told of an operation is not taken");
    }
    cards.retain(|card| names.binary_search(&card.name).is_ok());
    Announcement { names, cards }
}

/// A health report as the engine needs it.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// JSON, as the device wrote it.
    pub report: String,
    pub at: Option<Timestamp>,
    pub process_status: Option<String>,
    /// How many of its processes cannot be read; the rest counts all the same.
    pub odd_processes: usize,
    pub reconnect_count: i64,
    pub last_disconnect_at: Option<Timestamp>,
}

impl Health {
    /// Reads a `health`.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        check_depth(payload)?;
        let message: HealthMessage = serde_json::from_slice(payload)?;
        if message.schema_version != SCHEMA_VERSION {
            return Err(Malformed::SchemaVersion(word(&message.schema_version)));
        }
        let report = std::str::from_utf8(payload)
            .map_err(|_| Malformed::Invalid("expected UTF-8"))?
            .trim()
            .to_owned();
        let processes: Vec<_> = message.processes.iter().filter_map(ProcessHealth::read).collect();
        Ok(Self {
            report,
            at: message.at,
            process_status: worst(processes.iter().map(|process| process.state.as_str())),
            odd_processes: message.processes.len() - processes.len(),
            reconnect_count: i64::try_from(message.broker_connection.reconnect_count)
                .unwrap_or(i64::MAX),
            last_disconnect_at: message.broker_connection.last_disconnect_at,
        })
    }
}

/// The worst state among a device's processes.
fn worst<'a>(states: impl Iterator<Item = &'a str>) -> Option<String> {
    let rank = |state: &str| match state {
        "crashed" => 5,
        "failed" => 4,
        "restarting" | "starting" => 3,
        "stopped" => 2,
        _ => 1,
    };
    states.max_by_key(|state| rank(state)).map(word)
}

/// A unit that gave up, or `None` when that is over.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub Option<(String, String)>);

impl Failed {
    /// Reads a `service_failed`; the empty message clears it.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        if payload.is_empty() {
            return Ok(Self(None));
        }
        let message: ServiceFailedMessage = serde_json::from_slice(payload)?;
        if message.schema_version != SCHEMA_VERSION {
            return Err(Malformed::SchemaVersion(word(&message.schema_version)));
        }
        if message.unit.is_empty() {
            return Err(Malformed::Invalid("unit: expected a unit's name"));
        }
        Ok(Self(Some((word(&message.unit), kept(&message.reason, ERROR_MESSAGE_MAX_BYTES)))))
    }
}

/// The result of a command, as compact JSON; a result that is too large is said to be.
fn result(raw: &RawValue) -> Result<Option<String>, Malformed> {
    let text = raw.get();
    if text == "null" {
        return Ok(None);
    }
    if depth(text.as_bytes()) > JSON_MAX_DEPTH {
        return Err(Malformed::Invalid("result: nested too deep"));
    }
    if text.len() > RESULT_MAX_BYTES {
        return Ok(Some(format!(r#"{{"truncated":true,"size_bytes":{}}}"#, text.len())));
    }
    // It was skipped, not read: half of a surrogate pair would stop whoever reads it later.
    serde_json::from_str::<serde_json::Value>(text)?;
    Ok(Some(text.to_owned()))
}

/// Refuses what nests too deep: it is shown inside of listings, whose readers have a limit too.
fn check_depth(payload: &[u8]) -> Result<(), Malformed> {
    if depth(payload) > JSON_MAX_DEPTH {
        return Err(Malformed::Invalid("nested too deep"));
    }
    Ok(())
}

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn word(text: &str) -> String {
    kept(text, WORD_MAX_BYTES)
}

fn kept(text: &str, max_bytes: usize) -> String {
    without_nul(truncate_bytes(text, max_bytes).to_owned())
}

/// PostgreSQL takes no NUL in a text.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "018f0000-0000-7000-8000-000000000001";

    #[test]
    fn what_is_not_a_response_of_this_version_is_told_apart() {
        for (payload, expected) in [
            ("", "JSON"),
            ("{", "JSON"),
            ("[]", "JSON"),
            (r#"{"schema_version":"1.0","status":"accepted"}"#, "JSON"),
            (r#"{"schema_version":"1.0","command_id":"x","status":"accepted"}"#, "JSON"),
            (&format!(r#"{{"schema_version":"1.0","command_id":"{ID}","status":"done"}}"#), "JSON"),
            (
                &format!(r#"{{"schema_version":"2.0","command_id":"{ID}","status":"accepted"}}"#),
                "schema version",
            ),
            (
                &format!(
                    r#"{{"schema_version":"1.0","command_id":"{ID}","status":"progress","progress":101}}"#
                ),
                "progress",
            ),
            (
                &format!(
                    r#"{{"schema_version":"1.0","command_id":"{ID}","status":"accepted","at":"now"}}"#
                ),
                "timestamp",
            ),
        ] {
            let error = Said::parse(payload.as_bytes()).expect_err(payload);
            assert!(error.to_string().contains(expected), "{payload}: {error}");
        }
    }

    #[test]
    fn a_plain_response_is_read_and_one_of_a_later_version_too() {
        let said = Said::parse(
            format!(
                r#"{{"schema_version":"1.0","command_id":"{}","status":"progress","progress":40,"step":"inst\u0000all",
                "new":{{"x":[1]}},"stdout":"a","stdout_offset":3}}"#,
                ID.to_uppercase(),
            )
            .as_bytes(),
        )
        .expect("valid");
        assert_eq!(said.command_id, ID);
        assert_eq!(said.step.as_deref(), Some("inst\u{fffd}all"));
        let chunks = said.chunks(Timestamp::from_millis(5));
        assert_eq!((chunks[0].start, chunks[0].text.as_str()), (3, "a"));
        let detail: serde_json::Value =
            serde_json::from_str(&said.detail("progress", None)).expect("JSON");
        assert_eq!(detail["progress"], 40);
    }

    #[test]
    fn a_late_answer_is_kept_as_evidence_but_no_more_of_it_than_can_be_read() {
        let long = "é".repeat(LATE_MAX_BYTES);
        let detail = |result: &str| {
            let payload = format!(
                r#"{{"schema_version":"1.0","command_id":"{ID}","status":"completed","exit_code":3,
                "result":{result},"stdout":"{long}end","stderr":"oh"}}"#,
            );
            let said = Said::parse(payload.as_bytes()).expect("valid");
            let detail = said.detail("late", None);
            assert_eq!(detail.lines().count(), 1, "{detail}");
            serde_json::from_str::<serde_json::Value>(&detail).expect("JSON")
        };
        let kept = detail("{\n\"r\":\r\n1}");
        assert_eq!((&kept["status"], &kept["exit_code"]), (&"completed".into(), &3.into()));
        assert_eq!((&kept["result"]["r"], &kept["stderr"]), (&1.into(), &"oh".into()));
        let stdout = kept["stdout"].as_str().expect("a text");
        assert!(stdout.ends_with("éend") && stdout.len() <= LATE_MAX_BYTES, "{stdout}");
        let cut = detail(&format!("\"{long}\""));
        assert_eq!(
            (&cut["result"], &cut["result_bytes"]),
            (&().into(), &(2 * LATE_MAX_BYTES + 2).into())
        );
    }

    #[test]
    fn the_worst_process_speaks_for_its_device() {
        assert_eq!(
            worst(["running", "crashed", "stopped"].into_iter()).as_deref(),
            Some("crashed")
        );
        assert_eq!(worst(["running"].into_iter()).as_deref(), Some("running"));
        assert_eq!(worst(std::iter::empty()), None);
    }

    #[test]
    fn a_heartbeat_counts_whatever_one_of_its_processes_is() {
        for (processes, status, odd) in [
            (r#"[{"name":"app","status":"crashed"}]"#, Some("crashed"), 0),
            (r#"[{"name":"app","state":"stopped","status":1,"pid":7}]"#, Some("stopped"), 0),
            (r#"["app",{"name":"db","state":"running"},null,7]"#, Some("running"), 3),
            (r#"[{"name":"app"},{"state":"crashed"},{"name":1,"state":"crashed"}]"#, None, 3),
            ("[]", None, 0),
        ] {
            let payload = format!(r#"{{"schema_version":"1.0","processes":{processes}}}"#);
            let health = Health::parse(payload.as_bytes()).expect("a heartbeat");
            assert_eq!(health.process_status.as_deref(), status, "{processes}");
            assert_eq!(health.odd_processes, odd, "{processes}");
            assert_eq!(health.report, payload);
        }
    }

    #[test]
    fn what_would_spoil_a_listing_is_malformed() {
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        let status = format!(r#"{{"schema_version":"1.0","online":true,"facts":{{"a":{deep}}}}}"#);
        assert!(Status::parse(status.as_bytes()).is_err());
        let health = format!(r#"{{"schema_version":"1.0","checks":[{deep}]}}"#);
        assert!(Health::parse(health.as_bytes()).is_err());
        let half = format!(
            r#"{{"schema_version":"1.0","command_id":"{ID}","status":"completed","result":"\ud800"}}"#
        );
        assert!(Said::parse(half.as_bytes()).is_err());
    }

    #[test]
    fn a_deep_or_large_result_is_not_kept() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let raw = RawValue::from_string(deep).expect("JSON");
        assert!(result(&raw).is_err());
        let large =
            RawValue::from_string(format!("\"{}\"", "x".repeat(RESULT_MAX_BYTES))).expect("JSON");
        assert!(result(&large).expect("kept as a note").expect("some").contains("truncated"));
    }

    proptest! {
        #[test]
        fn nothing_that_a_device_sends_makes_the_reader_fall(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Said::parse(&payload);
            let _ = Status::parse(&payload);
            let _ = Health::parse(&payload);
            let _ = Failed::parse(&payload);
        }
    }
}
