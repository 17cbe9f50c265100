//! `[[children]]`: what else the agent carries out operations for, beside its own device.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, absolute, bus};
use crate::runner::bus::{Child, Scope};

/// The most children of one agent: each has a folder that is watched.
const CHILDREN_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChild {
    target: Option<String>,
    workflows: Option<PathBuf>,
}

/// Checks each child: it has a target and a folder that no other target has. What is wrong with
/// one is told beside the others, for it harms neither them nor the agent's own device.
pub(super) fn children(
    raw: Vec<RawChild>,
    own: &Scope,
    own_folder: &Path,
    has_bus: bool,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<(Vec<Child>, Vec<ConfigError>), ConfigError> {
    if raw.len() > CHILDREN_MAX {
        return Err(wrong("children", &format!("at most {CHILDREN_MAX} children")));
    }
    if !raw.is_empty() && !has_bus {
        let expected = "a bus beside them: their commands come over the device's broker alone";
        return Err(wrong("children", expected));
    }
    let (mut children, mut refused) = (Vec::with_capacity(raw.len()), Vec::new());
    for (at, raw) in raw.into_iter().enumerate() {
        let wrong = |key: &str, expected: &str| wrong(&format!("children[{at}].{key}"), expected);
        match child(raw, own, own_folder, &children, &wrong) {
            Ok(child) => children.push(child),
            Err(error) => refused.push(error),
        }
    }
    Ok((children, refused))
}

fn child(
    RawChild { target, workflows }: RawChild,
    own: &Scope,
    own_folder: &Path,
    before: &[Child],
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Child, ConfigError> {
    let target = target.unwrap_or_default();
    if !bus::is_target(&target) {
        return Err(wrong("target", "four segments such as device/child1//, without + and #"));
    }
    if target == own.target {
        return Err(wrong("target", "another target than the agent's own"));
    }
    if before.iter().any(|before| before.target == target) {
        return Err(wrong("target", "a target that no other child has"));
    }
    let Some(folder) = workflows else {
        return Err(wrong("workflows", "the folder of this child's operations"));
    };
    let folder = absolute("workflows", folder, wrong)?;
    if is_same(&folder, own_folder) {
        return Err(wrong("workflows", "another folder than the agent's own workflows"));
    }
    if before.iter().any(|before| is_same(&before.workflows, &folder)) {
        return Err(wrong("workflows", "a folder that no other child has"));
    }
    Ok(Child { target, workflows: folder })
}

/// Whether two paths lead to one folder, so far as that can be known.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.components().collect());
    real(one) == real(other)
}
