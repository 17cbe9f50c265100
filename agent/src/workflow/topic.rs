//! Topics of the device's bus (source 003, rules F1, F3, P2, U1):
//!
//! ```text
//! <root>/<target: four segments>/cmd/<operation>/<cmd_id>     a command
//! <root>/<target>/cmd/<operation>                             a capability
//! <root>/<target>/cmd/<sub>/sub:<operation>:<cmd_id>          a sub-operation's command
//! <root>/<target>/status/quarterdeck                          whether the broker remembers us
//! ```
//!
//! This is the only file with these strings.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// The longest command topic; it bounds how deep sub-operations nest.
pub const TOPIC_MAX_BYTES: usize = 4 * 1024;
/// The longest name of an operation.
pub const OPERATION_NAME_MAX_BYTES: usize = 255;

const COMMAND: &str = "cmd";
const SUB: &str = "sub:";

/// The topic of one command. Cloning it is cheap.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandTopic {
    text: Arc<str>,
    root_bytes: usize,
    operation_at: usize,
    cmd_id_at: usize,
}

/// Says why a text is no topic of a command, or a name none of an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    #[error("expected <root>/<four segments>/cmd/<operation>/<id>")]
    Shape,
    #[error("a topic holds none of + #, control characters and what is no character")]
    Character,
    #[error("the topic would be longer than {TOPIC_MAX_BYTES} bytes: sub-operations nest too deep")]
    TooLong,
    #[error("{name:?} is no name of an operation: {problem}")]
    Operation { name: String, problem: &'static str },
}

impl CommandTopic {
    /// Reads the topic of a message.
    pub fn parse(text: &str) -> Result<Self, InvalidTopic> {
        if text.len() > TOPIC_MAX_BYTES {
            return Err(InvalidTopic::TooLong);
        }
        if !is_plain(text) {
            return Err(InvalidTopic::Character);
        }
        let mut segments = text.rsplitn(8, '/');
        let cmd_id = segments.next().unwrap_or_default();
        let operation = segments.next().unwrap_or_default();
        let is_command = segments.next() == Some(COMMAND);
        let root = segments.nth(4).unwrap_or_default();
        if !is_command || cmd_id.is_empty() || operation.is_empty() || root.is_empty() {
            return Err(InvalidTopic::Shape);
        }
        let cmd_id_at = text.len() - cmd_id.len();
        Ok(Self {
            root_bytes: root.len(),
            operation_at: cmd_id_at - 1 - operation.len(),
            cmd_id_at,
            text: text.into(),
        })
    }

    /// Builds the topic of a command of this device.
    pub fn new(
        root: &str,
        target: &str,
        operation: &str,
        cmd_id: &str,
    ) -> Result<Self, InvalidTopic> {
        check_operation_name(operation)?;
        Self::parse(&format!("{root}/{target}/{COMMAND}/{operation}/{cmd_id}"))
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// E.g. `te`.
    pub fn root(&self) -> &str {
        &self.text[..self.root_bytes]
    }

    /// E.g. `device/main//`.
    pub fn target(&self) -> &str {
        &self.text[self.root_bytes + 1..self.operation_at - COMMAND.len() - 2]
    }

    pub fn operation(&self) -> &str {
        &self.text[self.operation_at..self.cmd_id_at - 1]
    }

    pub fn cmd_id(&self) -> &str {
        &self.text[self.cmd_id_at..]
    }

    /// Builds the topic of a sub-operation that this command starts (U1).
    pub fn sub(&self, operation: &str) -> Result<Self, InvalidTopic> {
        let cmd_id = format!("{SUB}{}:{}", self.operation(), self.cmd_id());
        Self::new(self.root(), self.target(), operation, &cmd_id)
    }

    /// Finds the command that started this one, if it is a sub-operation's.
    pub fn parent(&self) -> Option<Self> {
        let (operation, cmd_id) = self.cmd_id().strip_prefix(SUB)?.split_once(':')?;
        Self::new(self.root(), self.target(), operation, cmd_id).ok()
    }

    /// Finds the command that all this began with: itself, if nothing started it.
    #[must_use]
    pub fn root_command(&self) -> Self {
        let mut root = self.clone();
        while let Some(parent) = root.parent() {
            root = parent;
        }
        root
    }
}

/// Builds the topic on which a device says that it knows an operation (P2).
pub fn capability(root: &str, target: &str, operation: &str) -> String {
    format!("{root}/{target}/{COMMAND}/{operation}")
}

/// Builds the filter for the commands of one target (F3).
pub fn commands_filter(root: &str, target: &str) -> String {
    format!("{root}/{target}/{COMMAND}/+/+")
}

/// Builds the topic that tells a broker that remembers what this agent said from one that
/// was started anew and has forgotten all.
pub fn memory(root: &str, target: &str) -> String {
    format!("{root}/{target}/status/quarterdeck")
}

/// Checks that a name can stand in a topic and in the id of a sub-operation.
pub fn check_operation_name(name: &str) -> Result<(), InvalidTopic> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.len() > OPERATION_NAME_MAX_BYTES {
        "it is longer than 255 bytes"
    } else if name.contains(['/', '+', '#', ':']) {
        "it holds one of / + # :"
    } else if !is_plain(name) || name.chars().any(char::is_whitespace) {
        "it holds white space, a control character or what is no character"
    } else {
        return Ok(());
    };
    Err(InvalidTopic::Operation { name: name.chars().take(80).collect(), problem })
}

/// Whether a text may stand in a topic. A broker may end the connection of who names another,
/// with all that is on it.
pub fn is_plain(text: &str) -> bool {
    let is_none = |c| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    !text.chars().any(|c| matches!(c, '+' | '#') || c.is_control() || is_none(c))
}

impl fmt::Display for CommandTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CommandTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.text)
    }
}

impl PartialEq for CommandTopic {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CommandTopic {}

impl Hash for CommandTopic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for CommandTopic {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CommandTopic {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl TryFrom<String> for CommandTopic {
    type Error = InvalidTopic;

    fn try_from(text: String) -> Result<Self, InvalidTopic> {
        Self::parse(&text)
    }
}

impl From<CommandTopic> for String {
    fn from(topic: CommandTopic) -> Self {
        topic.text.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_a_topic_has_a_root_a_target_an_operation_and_an_id() {
        let topic = CommandTopic::parse("te/device/main///cmd/restart/c8y-1").expect("valid");
        assert_eq!(
            [topic.root(), topic.target(), topic.operation(), topic.cmd_id()],
            ["te", "device/main//", "restart", "c8y-1"]
        );
        let service = CommandTopic::parse("a/b/device/x/service/y/cmd/o/1").expect("valid");
        assert_eq!([service.root(), service.target()], ["a/b", "device/x/service/y"]);
    }

    #[test]
    fn f3_what_is_no_topic_of_a_command_is_refused() {
        for text in [
            "",
            "te",
            "te/device/main///cmd/restart",
            "te/device/main///cmd/restart/",
            "te/device/main///cmd//1",
            "device/main///cmd/o/1",
            "te/device/main///evt/o/1",
            "/device/main///cmd/o/1",
            "te/device/+///cmd/o/1",
            "te/device/main///cmd/o/#",
            "te/device/main///cmd/o/\u{ffff}",
        ] {
            assert!(CommandTopic::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn u1_u14_ids_of_sub_operations_chain_and_lead_back() {
        let a = CommandTopic::new("te", "device/main//", "a", "id").expect("valid");
        let b = a.sub("b").expect("valid");
        let c = b.sub("c").expect("valid");
        assert_eq!(b.as_str(), "te/device/main///cmd/b/sub:a:id");
        assert_eq!(c.as_str(), "te/device/main///cmd/c/sub:b:sub:a:id");
        assert_eq!((c.root_command(), a.root_command()), (a.clone(), a.clone()));
        assert_eq!((c.parent(), b.parent(), a.parent()), (Some(b), Some(a), None));
    }

    #[test]
    fn u11_a_name_from_a_payload_cannot_leave_its_place_in_the_topic() {
        let topic = CommandTopic::new("te", "device/main//", "a", "id").expect("valid");
        for name in ["", "x/y", "+", "#", "a b", "a:b", "a\n", "\u{1fffe}", &"n".repeat(256)] {
            assert!(topic.sub(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn u14_endless_nesting_ends() {
        let mut topic = CommandTopic::new("te", "device/main//", "a", "id").expect("valid");
        let mut depth = 0;
        while let Ok(next) = topic.sub("a") {
            topic = next;
            depth += 1;
        }
        assert!((100..1_000).contains(&depth), "{depth}");
    }

    #[test]
    fn a_topic_is_kept_as_its_text() {
        let topic = CommandTopic::parse("te/device/main///cmd/o/1").expect("valid");
        let json = serde_json::to_string(&topic).expect("serialisable");
        assert_eq!(serde_json::from_str::<CommandTopic>(&json).expect("same"), topic);
        assert!(serde_json::from_str::<CommandTopic>("\"x\"").is_err());
    }
}
