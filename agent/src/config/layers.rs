//! Where settings come from, one layer over the other, each value knowing its origin.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{ConfigError, FILE_MAX_BYTES, read_file};
use crate::{failpoint, io::host};

/// The environment's variables begin so.
const ENVIRONMENT: &str = "QUARTERDECK_AGENT_";
/// Variables that are no options of the file.
const NOT_IN_FILE: [&str; 3] =
    ["QUARTERDECK_AGENT_CONFIG", host::BOOT_ID_VARIABLE, failpoint::VARIABLE];

/// How a key's text, in a flag or a variable, is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A TOML value: number, boolean or list.
    Toml,
    /// `k=v,k=v`
    Pairs,
}

/// Every key there is, with dots for tables.
pub const KEYS: [(&str, Kind); 40] = [
    ("server", Kind::Text),
    ("token", Kind::Text),
    ("token_file", Kind::Text),
    ("device_id", Kind::Text),
    ("type", Kind::Text),
    ("tags", Kind::Pairs),
    ("data_dir", Kind::Text),
    ("workflows", Kind::Text),
    ("bus", Kind::Text),
    ("bus_password", Kind::Text),
    ("bus_password_file", Kind::Text),
    ("bus_root", Kind::Text),
    ("target", Kind::Text),
    ("children", Kind::Toml),
    ("offline", Kind::Toml),
    ("ca_file", Kind::Text),
    ("allow_plaintext", Kind::Toml),
    ("heartbeat_s", Kind::Toml),
    ("exec.reboot", Kind::Toml),
    ("exec.shutdown", Kind::Toml),
    ("exec.restart_service", Kind::Toml),
    ("exec.restart_app", Kind::Toml),
    ("exec.restart_agent", Kind::Toml),
    ("files.allow", Kind::Toml),
    ("software", Kind::Toml),
    ("configs", Kind::Toml),
    ("configuration", Kind::Toml),
    ("logs", Kind::Toml),
    ("health", Kind::Toml),
    ("limits.concurrent_commands", Kind::Toml),
    ("limits.queued_commands", Kind::Toml),
    ("limits.script_memory_mb", Kind::Toml),
    ("limits.script_grace_s", Kind::Toml),
    ("limits.reboot_ceiling_s", Kind::Toml),
    ("tunnels.enabled", Kind::Toml),
    ("tunnels.max", Kind::Toml),
    ("tunnels.shell", Kind::Text),
    ("tunnels.users", Kind::Toml),
    ("tunnels.connect", Kind::Toml),
    ("tunnels.listen", Kind::Toml),
];

/// The settings of all layers, put together.
#[derive(Debug, Default, Clone)]
pub struct Layers {
    table: Table,
    /// Key → where it was set.
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// Reads the lowest layer.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = read_file("config", path, FILE_MAX_BYTES)?;
        self.read_text(&text, path)
    }

    /// Reads the text of the lowest layer, which came from `path`.
    pub(crate) fn read_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let invalid = |error: toml::de::Error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            // The line itself may hold a secret.
            let key = text.lines().nth(line - 1).and_then(|text| text.split('=').next());
            let message = format!("{}: {}", key.unwrap_or_default().trim(), error.message());
            ConfigError::Toml { path: path.to_owned(), line, message }
        };
        let table: Table = text.parse().map_err(invalid)?;
        let lines = lines_of(text).map_err(invalid)?;
        let origin = |key: &str| match lines.get(key) {
            Some(line) => format!("{}, line {line}", path.display()),
            None => path.display().to_string(),
        };
        for (key, value) in table {
            let within = format!("{key}[");
            match value {
                Value::Table(inner) if key != "tags" => {
                    for (inner_key, value) in inner {
                        let key = format!("{key}.{inner_key}");
                        self.set(&key, value, &origin(&key));
                    }
                }
                value => self.set(&key, value, &origin(&key)),
            }
            for inner in lines.keys().filter(|known| known.starts_with(&within)) {
                self.origins.insert(inner.clone(), origin(inner));
            }
        }
        Ok(())
    }

    /// Lays `QUARTERDECK_AGENT_…` over what is there.
    pub fn read_environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for (key, kind) in KEYS {
            let name = variable_of(key);
            if let Some(text) = variable(&name) {
                self.set(key, from_text(kind, &text), &name);
            }
        }
    }

    /// Lays a flag over what is there.
    pub fn set_flag(&mut self, key: &str, text: &str) {
        let kind = KEYS.iter().find(|(name, _)| *name == key).map_or(Kind::Text, |(_, kind)| *kind);
        self.set(key, from_text(kind, text), &format!("--{}", key.replace('_', "-")));
    }

    fn set(&mut self, key: &str, value: Value, origin: &str) {
        let within = format!("{key}[");
        self.origins.retain(|known, _| !known.starts_with(&within));
        self.origins.insert(key.to_owned(), origin.to_owned());
        match key.split_once('.') {
            Some((table, inner)) => {
                let table = self.table.entry(table).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(table) = table {
                    table.insert(inner.to_owned(), value);
                }
            }
            None => {
                self.table.insert(key.to_owned(), value);
            }
        }
    }

    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(self.table.clone()).map_err(|error| {
            let key = error.path().to_string();
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default();
            let expected = message.split_once(", expected ").map(|(_, expected)| expected);
            match expected {
                // What its value was meant for is not known: it may be a secret.
                Some(expected) if message.starts_with("unknown field") => ConfigError::Unknown {
                    origin: self.origin(&key),
                    key,
                    expected: expected.replace('`', ""),
                },
                Some(expected) => self.wrong(&key, in_words(expected)),
                None => self.wrong(&key, message),
            }
        })
    }

    /// Says that the value of a key is not what was expected.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        let mut value = Some(&self.table).map(|table| Value::Table(table.clone()));
        for part in key.split('.') {
            let mut steps = part.split(['[', ']']).filter(|step| !step.is_empty());
            let name = steps.next().unwrap_or(part);
            value = value.and_then(|value| value.get(name).cloned());
            for at in steps.filter_map(|step| step.parse::<usize>().ok()) {
                value = value.and_then(|value| value.get(at).cloned());
            }
        }
        let shown = match value {
            // A wrong token is still a token.
            Some(_) if matches!(key, "token" | "bus_password") => "[secret]".to_owned(),
            // A password may stand in it.
            Some(Value::String(text)) if key == "bus" && text.contains('@') => {
                "[a URL with a user]".to_owned()
            }
            Some(value) => value.to_string(),
            None => "(none)".to_owned(),
        };
        ConfigError::Wrong {
            origin: self.origin(key),
            key: key.to_owned(),
            value: shown,
            expected: expected.to_owned(),
        }
    }

    /// Says where a key, or the innermost that it is in, was set.
    fn origin(&self, key: &str) -> String {
        let within = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let origins = self.origins.iter();
        let origin = origins
            .filter(|(known, _)| key.strip_prefix(known.as_str()).is_some_and(within))
            .max_by_key(|(known, _)| known.len());
        origin.map_or_else(|| "settings".to_owned(), |(_, origin)| origin.clone())
    }
}

/// The line, from 1, that a byte of a text is in.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].split(|byte| *byte == b'\n').count()
}

/// The lines, from 1, that the keys of a file stand in; those of tables with a dot, those of
/// tables in a list with its number.
fn lines_of(text: &str) -> Result<BTreeMap<String, usize>, toml::de::Error> {
    let mut lines = BTreeMap::new();
    for (key, value) in DeTable::parse(text)?.get_ref() {
        lines.insert(key.get_ref().to_string(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            for key_within in inner.keys() {
                let name = format!("{}.{}", key.get_ref(), key_within.get_ref());
                lines.insert(name, line_of(text, key_within.span().start));
            }
        }
        for (at, item) in array_of(value.get_ref()).iter().enumerate() {
            let name = format!("{}[{at}]", key.get_ref());
            lines.insert(name.clone(), line_of(text, item.span().start));
            let DeValue::Table(inner) = item.get_ref() else { continue };
            for key_within in inner.keys() {
                let line = line_of(text, key_within.span().start);
                lines.insert(format!("{name}.{}", key_within.get_ref()), line);
            }
        }
    }
    Ok(lines)
}

fn array_of<'a, 'i>(value: &'a DeValue<'i>) -> &'a [Spanned<DeValue<'i>>] {
    if let DeValue::Array(items) = value { items } else { &[] }
}

/// Says in plain words what the parser expected.
fn in_words(expected: &str) -> &str {
    match expected {
        "u64" | "usize" | "u32" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        "a sequence" => "a list of texts",
        "a map" => "a table of texts",
        other => other,
    }
}

/// Finds the variables that look like options and are none: perhaps mistyped. They are not
/// refused: whoever starts the agent may have set them for its own use.
pub(crate) fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known = |name: &str| KEYS.iter().any(|(key, _)| variable_of(key) == name);
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| {
            name.starts_with(ENVIRONMENT) && !NOT_IN_FILE.contains(&name.as_str()) && !known(name)
        })
        .collect()
}

/// Names the environment variable of a key.
fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT}{}", key.replace('.', "_").to_uppercase())
}

fn from_text(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Toml => format!("v = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(text.to_owned())),
        Kind::Pairs => {
            let mut table = Table::new();
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                match pair.split_once('=') {
                    Some((key, value)) => {
                        table.insert(key.trim().to_owned(), Value::String(value.trim().to_owned()));
                    }
                    // Not a table: refused as such, with the text.
                    None => return Value::String(text.to_owned()),
                }
            }
            Value::Table(table)
        }
    }
}
