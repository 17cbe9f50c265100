//! What is said on `tunnel/control`, both ways, at QoS 1.
//!
//! ```text
//!  server                              device
//!  ── open {tunnel_id, handle, …} ──▶
//!                                      ◀── opened {tunnel_id, handle}
//!                                          or error {tunnel_id, code, message}
//!  ◀═══════════ frames on tunnel/down and tunnel/up ═══════════▶
//!  ── close {tunnel_id, reason} ────▶
//!                                      ◀── close {tunnel_id, reason}
//! ```
//!
//! Messages may come twice. A device answers a repeated `open` of a tunnel that
//! is open with `opened` again, and one of a tunnel that is over with `close`.
//! Whoever closes says so once; a `close` of what is not open is answered by nothing.
//! After a new connection the server asks with `check` whether a tunnel still is:
//! it is answered as a repeated `open` is, but opens nothing; a device that does
//! not know the tunnel answers `close` with `unknown`.
//!
//! These are requests: a field that is not known is refused, since what an
//! older device would leave out may be a restriction.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{close::CloseCode, mark::Size};
use crate::{command::SCHEMA_VERSION, ids::TunnelId};

/// The longest control message, in bytes.
pub const CONTROL_MAX_BYTES: usize = 64 * 1024;
/// Words of a command line, and variables of an environment.
pub const ARGV_MAX_WORDS: usize = 1_024;
pub const ENV_MAX_VARIABLES: usize = 64;
/// The longest host name, in bytes.
pub const HOST_MAX_BYTES: usize = 253;
/// The longest text for people.
pub const MESSAGE_MAX_BYTES: usize = 1_024;

/// One message on `tunnel/control`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Control {
    /// To the device: make this.
    Open {
        /// `1.0`
        schema_version: String,
        tunnel_id: TunnelId,
        /// What frames call it; unique among the tunnels of the device.
        handle: u32,
        /// Who asked for it: for the device's log.
        user: String,
        target: Target,
    },
    /// From the device: it is there. Streams may be opened.
    Opened {
        /// `1.0`
        schema_version: String,
        tunnel_id: TunnelId,
        handle: u32,
        /// Of a `tcp_listen`: where it listens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// To the device: is it there still?
    Check {
        /// `1.0`
        schema_version: String,
        tunnel_id: TunnelId,
    },
    /// From the device: it cannot be; nothing was started.
    Error {
        /// `1.0`
        schema_version: String,
        tunnel_id: TunnelId,
        code: CloseCode,
        message: String,
    },
    /// From either: it is over.
    Close {
        /// `1.0`
        schema_version: String,
        tunnel_id: TunnelId,
        reason: CloseCode,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
}

/// What a tunnel leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A login shell, or `argv`, on a terminal of its own.
    Terminal {
        /// The owner's shell when empty.
        #[serde(default)]
        argv: Vec<String>,
        size: Size,
        /// `TERM`.
        #[serde(default = "default_term")]
        term: String,
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// The user it runs as; the configured one when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// A program with stdin, stdout and stderr apart.
    Exec {
        argv: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Each stream that is opened becomes one connection to this address: ssh and port forwards.
    Tcp { host: String, port: u16 },
    /// The device listens here, and opens a stream for each connection: `-R`.
    TcpListen {
        host: String,
        /// 0: any free one.
        port: u16,
    },
}

fn default_term() -> String {
    "xterm-256color".to_owned()
}

/// Says why a control message is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct InvalidControl {
    /// The path of the field, e.g. `target.argv[0]`.
    pub field: String,
    pub expected: String,
}

impl InvalidControl {
    fn new(field: &str, expected: impl Into<String>) -> Self {
        Self { field: field.to_owned(), expected: expected.into() }
    }
}

impl Control {
    pub fn opened(tunnel_id: TunnelId, handle: u32, port: Option<u16>) -> Self {
        Self::Opened { schema_version: SCHEMA_VERSION.to_owned(), tunnel_id, handle, port }
    }

    pub fn check(tunnel_id: TunnelId) -> Self {
        Self::Check { schema_version: SCHEMA_VERSION.to_owned(), tunnel_id }
    }

    pub fn error(tunnel_id: TunnelId, code: CloseCode, message: &str) -> Self {
        let message = cut(message);
        Self::Error { schema_version: SCHEMA_VERSION.to_owned(), tunnel_id, code, message }
    }

    pub fn close(tunnel_id: TunnelId, reason: CloseCode, message: &str) -> Self {
        let message = cut(message);
        Self::Close { schema_version: SCHEMA_VERSION.to_owned(), tunnel_id, reason, message }
    }

    pub const fn tunnel_id(&self) -> TunnelId {
        match self {
            Self::Open { tunnel_id, .. }
            | Self::Opened { tunnel_id, .. }
            | Self::Check { tunnel_id, .. }
            | Self::Error { tunnel_id, .. }
            | Self::Close { tunnel_id, .. } => *tunnel_id,
        }
    }

    fn schema_version(&self) -> &str {
        match self {
            Self::Open { schema_version, .. }
            | Self::Opened { schema_version, .. }
            | Self::Check { schema_version, .. }
            | Self::Error { schema_version, .. }
            | Self::Close { schema_version, .. } => schema_version,
        }
    }

    /// Reads and checks a message.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidControl> {
        if text.len() > CONTROL_MAX_BYTES {
            let expected = format!("expected at most {CONTROL_MAX_BYTES} bytes");
            return Err(InvalidControl::new("message", expected));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let message: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| InvalidControl::new(&e.path().to_string(), e.inner().to_string()))?;
        json.end().map_err(|e| InvalidControl::new("message", e.to_string()))?;
        if message.schema_version() != SCHEMA_VERSION {
            let expected = format!("expected {SCHEMA_VERSION}");
            return Err(InvalidControl::new("schema_version", expected));
        }
        if let Self::Open { target, .. } = &message {
            target.check()?;
        }
        Ok(message)
    }

    /// Writes the message.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }
}

impl Target {
    /// Checks what the types cannot say.
    pub fn check(&self) -> Result<(), InvalidControl> {
        match self {
            Self::Terminal { argv, term, env, user, .. } => {
                check_words(argv)?;
                check_env(env)?;
                check_user(user.as_deref())?;
                let is_good = !term.is_empty()
                    && term.len() <= 64
                    && term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
                if is_good {
                    Ok(())
                } else {
                    Err(InvalidControl::new("target.term", "expected a terminal's name"))
                }
            }
            Self::Exec { argv, env, user } => {
                if argv.is_empty() {
                    return Err(InvalidControl::new("target.argv", "expected a program"));
                }
                check_words(argv)?;
                check_env(env)?;
                check_user(user.as_deref())
            }
            Self::Tcp { host, port } => {
                if *port == 0 {
                    return Err(InvalidControl::new("target.port", "expected 1 to 65535"));
                }
                check_host(host)
            }
            Self::TcpListen { host, .. } => check_host(host),
        }
    }
}

fn check_words(argv: &[String]) -> Result<(), InvalidControl> {
    if argv.len() > ARGV_MAX_WORDS {
        let expected = format!("expected at most {ARGV_MAX_WORDS} words");
        return Err(InvalidControl::new("target.argv", expected));
    }
    if argv.first().is_some_and(String::is_empty) {
        return Err(InvalidControl::new("target.argv[0]", "expected a program"));
    }
    match argv.iter().position(|word| word.contains('\0')) {
        Some(index) => {
            let field = format!("target.argv[{index}]");
            Err(InvalidControl::new(&field, "expected text without NUL"))
        }
        None => Ok(()),
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), InvalidControl> {
    let is_good = |(name, value): (&String, &String)| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
    };
    if env.len() <= ENV_MAX_VARIABLES && env.iter().all(is_good) {
        return Ok(());
    }
    let expected =
        format!("expected at most {ENV_MAX_VARIABLES} variables, without NUL, names without '='");
    Err(InvalidControl::new("target.env", expected))
}

fn check_user(user: Option<&str>) -> Result<(), InvalidControl> {
    match user {
        Some(name) if name.is_empty() || name.len() > 255 || name.contains('\0') => {
            Err(InvalidControl::new("target.user", "expected a user's name"))
        }
        _ => Ok(()),
    }
}

fn check_host(host: &str) -> Result<(), InvalidControl> {
    let is_good = !host.is_empty()
        && host.len() <= HOST_MAX_BYTES
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    if is_good {
        Ok(())
    } else {
        Err(InvalidControl::new("target.host", "expected a host's name or address"))
    }
}

fn cut(message: &str) -> String {
    message[..message.floor_char_boundary(MESSAGE_MAX_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn open(target: &serde_json::Value) -> Result<Control, InvalidControl> {
        let message = json!({
            "schema_version": "1.0", "type": "open", "handle": 7, "user": "ops-1",
            "tunnel_id": "018f0000-0000-7000-8000-000000000001", "target": target,
        });
        Control::parse(message.to_string().as_bytes())
    }

    #[test]
    fn messages_are_read_back() {
        let id = TunnelId(uuid::Uuid::nil());
        for message in [
            Control::opened(id, 7, None),
            Control::opened(id, 7, Some(2222)),
            Control::check(id),
            Control::error(id, CloseCode::NotAllowed, "no"),
            Control::close(id, CloseCode::Killed, ""),
            open(&json!({"kind": "terminal", "size": {"cols": 80, "rows": 24}})).expect("valid"),
            open(&json!({"kind": "exec", "argv": ["ls", ""], "env": {"A": "b"}})).expect("valid"),
            open(&json!({"kind": "tcp", "host": "::1", "port": 22})).expect("valid"),
            open(&json!({"kind": "tcp_listen", "host": "127.0.0.1", "port": 0})).expect("valid"),
        ] {
            assert_eq!(Control::parse(&message.to_json()), Ok(message));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let size = json!({"cols": 80, "rows": 24});
        for (target, field) in [
            (json!({"kind": "terminal", "size": {"cols": 0, "rows": 24}}), "target"),
            (json!({"kind": "terminal", "size": size, "term": "a b"}), "target.term"),
            (json!({"kind": "terminal", "size": size, "argv": ["a", "\0"]}), "target.argv[1]"),
            (json!({"kind": "terminal", "size": size, "user": ""}), "target.user"),
            (json!({"kind": "exec", "argv": []}), "target.argv"),
            (json!({"kind": "exec", "argv": ["x"], "env": {"A=": "b"}}), "target.env"),
            (json!({"kind": "exec", "argv": ["x"], "root": true}), "target"),
            (json!({"kind": "tcp", "host": "a", "port": 0}), "target.port"),
            (json!({"kind": "tcp", "host": "a b", "port": 1}), "target.host"),
            (json!({"kind": "udp"}), "target"),
        ] {
            let error = open(&target).expect_err("not valid");
            assert!(
                error.field == field || error.field == "." || error.field == "?",
                "{target}: {error:?}"
            );
        }
        assert!(Control::parse(br#"{"type":"opened","schema_version":"2.0","tunnel_id":"018f0000-0000-7000-8000-000000000001","handle":1}"#).is_err());
        assert!(Control::parse(b"{} {}").is_err());
        assert!(Control::parse(&vec![b' '; CONTROL_MAX_BYTES + 1]).is_err());
    }
}
