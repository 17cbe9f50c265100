//! Payloads of the operations over what the device's owner has named: software by its type,
//! configuration files, logs and checks by their names (source 003).
//!
//! A name here is never a path or a command: those are the owner's, on the device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{InvalidPayload, Payload, check_sha256, one_source};

/// The longest name of anything here, in bytes.
const NAME_MAX_BYTES: usize = 255;
/// Modules that one update may name.
const MODULES_MAX: usize = 1_000;
/// Lines of a log that may be asked for.
const LINES_MAX: u32 = 1_000_000;
/// The longest text that a log is searched for, in bytes.
const SEARCH_MAX_BYTES: usize = 1_000;

/// What is to be done with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SoftwareAction {
    Install,
    Remove,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftwareModule {
    pub name: String,
    /// The newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub action: SoftwareAction,
}

/// Packages of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftwareOfType {
    /// The kind, as the device's owner named it, e.g. `apt`.
    #[serde(rename = "type")]
    pub kind: String,
    pub modules: Vec<SoftwareModule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftwareUpdate {
    /// What to install and remove, in this order.
    #[serde(rename = "updateList")]
    pub update_list: Vec<SoftwareOfType>,
}

impl Payload for SoftwareUpdate {
    fn check(&self) -> Result<(), InvalidPayload> {
        let mut modules = 0;
        if self.update_list.is_empty() {
            return Err(InvalidPayload::new("updateList", "expected something to update"));
        }
        for (at, of_type) in self.update_list.iter().enumerate() {
            let field = format!("updateList[{at}]");
            check_name(&format!("{field}.type"), &of_type.kind)?;
            for (at, module) in of_type.modules.iter().enumerate() {
                let field = format!("{field}.modules[{at}]");
                check_word(&format!("{field}.name"), &module.name)?;
                if let Some(version) = &module.version {
                    check_word(&format!("{field}.version"), version)?;
                }
            }
            modules += of_type.modules.len();
        }
        if modules > MODULES_MAX {
            return Err(InvalidPayload::new("updateList", "expected at most 1000 modules"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigSnapshot {
    /// Which configuration file, by the name that the device's owner gave it.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Payload for ConfigSnapshot {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_name("type", &self.kind)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigUpdate {
    /// Which configuration file, by the name that the device's owner gave it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The file's content as text. One of `content`, `content_base64`, `upload_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-editor" = "text"))]
    pub content: Option<String>,
    /// The file's content in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// The id under which the file was uploaded before (`PUT /uploads/{id}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<Uuid>,
    /// SHA-256 of the content in hex; checked before the file is put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Payload for ConfigUpdate {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_name("type", &self.kind)?;
        one_source(self.content.as_ref(), self.content_base64.as_ref(), self.upload_id.as_ref())?;
        check_sha256(self.sha256.as_deref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogUpload {
    /// Which log, by the name that the device's owner gave it.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many of the last lines, 1 to 1,000,000.
    #[serde(default = "LogUpload::default_lines")]
    #[schemars(range(min = 1, max = 1_000_000), default = "LogUpload::default_lines")]
    pub lines: u32,
    /// Only lines with this text in them.
    #[serde(default, rename = "searchText", skip_serializing_if = "Option::is_none")]
    pub search_text: Option<String>,
}

impl LogUpload {
    const fn default_lines() -> u32 {
        1_000
    }
}

impl Payload for LogUpload {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_name("type", &self.kind)?;
        if !(1..=LINES_MAX).contains(&self.lines) {
            return Err(InvalidPayload::new("lines", "expected 1 to 1000000"));
        }
        match self.search_text.as_deref() {
            Some(text) if text.is_empty() || text.len() > SEARCH_MAX_BYTES => {
                Err(InvalidPayload::new("searchText", "expected a text of 1 to 1000 bytes"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Only these checks, by the names that the device's owner gave them.
    #[serde(default)]
    pub checks: Vec<String>,
}

impl Payload for HealthCheck {
    fn check(&self) -> Result<(), InvalidPayload> {
        let mut names = self.checks.iter().enumerate();
        names.try_for_each(|(at, name)| check_name(&format!("checks[{at}]"), name))
    }
}

/// A name that the device's owner gave.
fn check_name(field: &str, name: &str) -> Result<(), InvalidPayload> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(good) {
        let expected = "expected a name: letters, digits, '.', '_', '-', '@', ':'";
        return Err(InvalidPayload::new(field, expected));
    }
    Ok(())
}

/// A word that becomes one argument of a program: it must not read as an option.
fn check_word(field: &str, word: &str) -> Result<(), InvalidPayload> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    let is_option = word.starts_with('-');
    if word.is_empty() || word.len() > NAME_MAX_BYTES || is_option || word.chars().any(is_odd) {
        let expected = "expected 1 to 255 bytes without white space, and no '-' in front";
        return Err(InvalidPayload::new(field, expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check;

    #[test]
    fn a_wrong_payload_names_its_field() {
        let module =
            |name: &str| json!({"type": "apt", "modules": [{"name": name, "action": "install"}]});
        for (operation, payload, field) in [
            ("software_update", json!({}), "payload.updateList"),
            ("software_update", json!({"updateList": []}), "payload.updateList"),
            (
                "software_update",
                json!({"updateList": [module("--force")]}),
                "payload.updateList[0].modules[0].name",
            ),
            (
                "software_update",
                json!({"updateList": [module("a b")]}),
                "payload.updateList[0].modules[0].name",
            ),
            (
                "software_update",
                json!({"updateList": [{"type": "../x", "modules": []}]}),
                "payload.updateList[0].type",
            ),
            ("config_snapshot", json!({"type": "/etc/passwd"}), "payload.type"),
            ("config_update", json!({"type": "app"}), "payload.content"),
            (
                "config_update",
                json!({"type": "app", "content": "", "sha256": "x"}),
                "payload.sha256",
            ),
            ("log_upload", json!({"type": "app", "lines": 0}), "payload.lines"),
            ("log_upload", json!({"type": "app", "searchText": ""}), "payload.searchText"),
            ("health_check", json!({"checks": ["a", "b c"]}), "payload.checks[1]"),
            ("update_config", json!({"x": 1}), "payload.x"),
        ] {
            let error = check(operation, &payload).expect_err(operation);
            assert_eq!(error.field, field, "{operation} {payload}: {error}");
        }
    }

    #[test]
    fn what_the_source_shows_is_valid() {
        let list = json!({"updateList": [{"type": "apt", "modules": [
            {"name": "nginx", "version": "1.21.6-1~bionic", "action": "install"},
            {"name": "collectd", "action": "remove"}
        ]}]});
        for (operation, payload) in [
            ("software_update", list),
            ("software_list", json!(null)),
            ("restart", json!({})),
            ("log_upload", json!({"type": "app", "lines": 10, "searchText": "error"})),
            ("health_check", json!({})),
        ] {
            assert_eq!(check(operation, &payload), Ok(()), "{operation}");
        }
    }
}
