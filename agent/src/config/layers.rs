//! Where settings come from, one layer over the other, each value knowing its origin.

use std::{collections::BTreeMap, fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::ConfigError;

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
pub const KEYS: [(&str, Kind); 34] = [
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
        let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
            key: "config",
            path: path.to_owned(),
            source,
        })?;
        self.read_text(&text, path)
    }

    /// Reads the text of the lowest layer, which came from `path`.
    pub(crate) fn read_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Toml {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let origin = path.display().to_string();
        for (key, value) in table {
            match value {
                Value::Table(inner) if key != "tags" => {
                    for (inner_key, value) in inner {
                        self.set(&format!("{key}.{inner_key}"), value, &origin);
                    }
                }
                value => self.set(&key, value, &origin),
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
            let path = error.path().to_string();
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default();
            self.wrong(&path, message.strip_prefix("invalid type: ").unwrap_or(message))
        })
    }

    /// Says that the value of a key is not what was expected.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        let origin = self.origins.iter().find(|(known, _)| {
            key == known.as_str()
                || key.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
        });
        let mut value = Some(&self.table).map(|table| Value::Table(table.clone()));
        for part in key.split('.') {
            let part = part.split('[').next().unwrap_or(part);
            value = value.and_then(|value| value.get(part).cloned());
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
            origin: origin.map_or_else(|| "settings".to_owned(), |(_, origin)| origin.clone()),
            key: key.to_owned(),
            value: shown,
            expected: expected.to_owned(),
        }
    }
}

/// Names the environment variable of a key.
fn variable_of(key: &str) -> String {
    format!("QUARTERDECK_AGENT_{}", key.replace('.', "_").to_uppercase())
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
