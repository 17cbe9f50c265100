//! The devices of the demo: names, types, tags, and what their owners allow.

use std::fmt::Write as _;

use anyhow::Result;

use super::firmware;
use crate::{Fleet, agent::DeviceOptions};

/// One device.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub id: &'static str,
    pub kind: &'static str,
    pub site: &'static str,
    pub environment: &'static str,
    pub role: &'static str,
}

const fn spec(
    id: &'static str,
    kind: &'static str,
    site: &'static str,
    environment: &'static str,
    role: &'static str,
) -> Spec {
    Spec { id, kind, site, environment, role }
}

/// Its application gave up restarting, and its scripts fail.
pub const FAILING: &str = "kiosk-vie1-02";
/// It was switched off for the weekend.
pub const AWAY: &str = "signage-muc1-02";

pub const DEVICES: [Spec; 12] = [
    spec("gateway-fra1-01", "GATEWAY", "fra1", "production", "gateway"),
    spec("gateway-ber1-01", "GATEWAY", "ber1", "production", "gateway"),
    spec("kiosk-ber1-01", "KIOSK", "ber1", "production", "ticketing"),
    spec("kiosk-ber1-02", "KIOSK", "ber1", "production", "ticketing"),
    spec("kiosk-fra1-01", "KIOSK", "fra1", "production", "ticketing"),
    spec("kiosk-vie1-01", "KIOSK", "vie1", "production", "ticketing"),
    spec(FAILING, "KIOSK", "vie1", "production", "ticketing"),
    spec("signage-muc1-01", "SIGNAGE", "muc1", "production", "infoscreen"),
    spec(AWAY, "SIGNAGE", "muc1", "production", "infoscreen"),
    spec("signage-ham1-01", "SIGNAGE", "ham1", "staging", "infoscreen"),
    spec("drone-lab-01", "DRONE", "lab", "staging", "inspection"),
    spec("pi-lab-01", "RASPBERRY_PI", "lab", "development", "bench"),
];

impl Spec {
    /// How its agent is configured: command lines that are tried without harm.
    pub fn options(&self, fleet: &Fleet) -> Result<DeviceOptions> {
        let folder = fleet.folder().join("devices").join(self.id);
        let workflows = firmware::lay_out(&folder)?;
        let folder = folder.to_string_lossy();
        let restarted = if self.id == FAILING {
            "sleep 1; echo \"$0: start request repeated too quickly\" >&2; exit 1"
        } else {
            "sleep 1; echo \"$0 restarted\""
        };
        let mut config = String::from("heartbeat_s = 10\n");
        writeln!(config, "workflows = {}\n\n[exec]", serde_json::to_string(&workflows)?)?;
        for (key, words) in [
            ("reboot", vec!["touch", &format!("{folder}/reboot")]),
            ("shutdown", vec!["touch", &format!("{folder}/shutdown")]),
            ("restart_service", vec!["sh", "-c", restarted, "{service}"]),
            ("restart_app", vec!["sh", "-c", restarted, "{app}"]),
        ] {
            writeln!(config, "{key} = {}", serde_json::to_string(&words)?)?;
        }
        let tags = [("site", self.site), ("environment", self.environment), ("role", self.role)];
        Ok(DeviceOptions {
            kind: Some(self.kind.to_owned()),
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            config,
            ..DeviceOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::ids::DeviceId;

    #[test]
    fn each_name_is_valid_and_stands_once() {
        for (index, device) in DEVICES.iter().enumerate() {
            assert!(DeviceId::new(device.id).is_ok(), "{}", device.id);
            assert!(DEVICES[index + 1..].iter().all(|other| other.id != device.id));
        }
        for name in [FAILING, AWAY] {
            assert!(DEVICES.iter().any(|device| device.id == name));
        }
    }
}
