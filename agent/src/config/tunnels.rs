//! `[tunnels]`: from what was written to a valid [`Policy`].

use serde::Deserialize;

use super::ConfigError;
use crate::tunnel::policy::{Place, Policy};

/// The most that `tunnels.max` may be.
const TUNNELS_MAX: u64 = 100;

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTunnels {
    enabled: Option<bool>,
    max: Option<u64>,
    shell: Option<String>,
    users: Vec<String>,
    connect: Option<Vec<String>>,
    listen: Option<Vec<String>>,
}

/// Checks each key; what is absent has its default.
pub(super) fn policy(
    raw: RawTunnels,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Policy, ConfigError> {
    let usual = Policy::default();
    let tunnels_max = raw.max.unwrap_or(usual.tunnels_max as u64);
    if !(1..=TUNNELS_MAX).contains(&tunnels_max) {
        return Err(wrong("tunnels.max", "1 to 100"));
    }
    if raw.shell.as_ref().is_some_and(|shell| !shell.starts_with('/') || shell.contains('\0')) {
        return Err(wrong("tunnels.shell", "a program's absolute path"));
    }
    if raw.users.iter().any(|user| user.is_empty() || user.contains('\0')) {
        return Err(wrong("tunnels.users", "names of users"));
    }
    let places = |key: &str, given: Option<Vec<String>>, usual: Vec<Place>| {
        let Some(given) = given else { return Ok(usual) };
        given.iter().map(|text| Place::parse(text)).collect::<Option<Vec<_>>>().ok_or_else(|| {
            wrong(key, "places such as 127.0.0.1:22, [::1]:*, db.local:5432 or *:8080")
        })
    };
    Ok(Policy {
        is_enabled: raw.enabled.unwrap_or(usual.is_enabled),
        tunnels_max: tunnels_max as usize,
        shell: raw.shell,
        users: raw.users,
        connect: places("tunnels.connect", raw.connect, usual.connect)?,
        listen: places("tunnels.listen", raw.listen, usual.listen)?,
    })
}
