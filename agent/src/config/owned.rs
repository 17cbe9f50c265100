//! `[software]`, `[configs]`, `[configuration]`, `[logs]`, `[health]`: what the owner has named,
//! so that operations say names and never paths or command lines.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, check_line, is_plain_absolute};

/// Names of one kind.
const NAMES_MAX: usize = 100;
/// The longest name, in bytes.
const NAME_MAX_BYTES: usize = 255;

/// All of it, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owned {
    /// Plugin programs, by kind of software.
    pub software: BTreeMap<String, Vec<String>>,
    pub configs: BTreeMap<String, Applied>,
    /// Where what the server holds for this device goes.
    pub configuration: Option<Applied>,
    pub logs: BTreeMap<String, PathBuf>,
    pub health: BTreeMap<String, Vec<String>>,
}

/// A file, and what makes it take effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    pub path: PathBuf,
    pub apply: Option<Vec<String>>,
}

impl Owned {
    pub(super) fn check(
        &self,
        wrong: &impl Fn(&str, &str) -> ConfigError,
    ) -> Result<(), ConfigError> {
        for (table, lines) in [("software", &self.software), ("health", &self.health)] {
            check_names(table, lines.keys(), wrong)?;
            for (name, line) in lines {
                check_line(&format!("{table}.{name}"), line, wrong)?;
            }
        }
        check_names("configs", self.configs.keys(), wrong)?;
        check_names("logs", self.logs.keys(), wrong)?;
        let files = self.configs.iter().map(|(name, file)| (format!("configs.{name}"), file));
        let own = self.configuration.iter().map(|file| ("configuration".to_owned(), file));
        for (key, file) in files.chain(own) {
            check_path(&format!("{key}.path"), &file.path, wrong)?;
            if let Some(line) = &file.apply {
                check_line(&format!("{key}.apply"), line, wrong)?;
            }
        }
        for (name, path) in &self.logs {
            check_path(&format!("logs.{name}"), path, wrong)?;
        }
        Ok(())
    }
}

fn check_names<'a>(
    table: &str,
    names: impl Iterator<Item = &'a String>,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<(), ConfigError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    for (at, name) in names.enumerate() {
        let is_name = (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(good);
        if !is_name || at >= NAMES_MAX {
            let expected = "at most 100 names of letters, digits, '.', '_', '-', '@', ':'";
            return Err(wrong(table, expected));
        }
    }
    Ok(())
}

fn check_path(
    key: &str,
    path: &Path,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<(), ConfigError> {
    if is_plain_absolute(path) && path.file_name().is_some() {
        Ok(())
    } else {
        Err(wrong(key, "a file's absolute path without '..'"))
    }
}
