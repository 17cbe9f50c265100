//! The only place with MQTT topic strings (chapter 2).
//!
//! All of a device's topics stand under `roboticks/{project}/devices/{device}/`.

use crate::ids::{DeviceId, ProjectId};

const ROOT: &str = "roboticks";

/// Who may publish on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToDevice,
    FromDevice,
    Both,
}

/// One of the topics that a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceTopic {
    Commands,
    CommandsCancel,
    CommandsResponse,
    RolloutProgress,
    Status,
    Health,
    ServiceFailed,
    TunnelControl,
    TunnelDown,
    TunnelUp,
}

impl DeviceTopic {
    pub const ALL: [Self; 10] = [
        Self::Commands,
        Self::CommandsCancel,
        Self::CommandsResponse,
        Self::RolloutProgress,
        Self::Status,
        Self::Health,
        Self::ServiceFailed,
        Self::TunnelControl,
        Self::TunnelDown,
        Self::TunnelUp,
    ];

    /// What follows `roboticks/{project}/devices/{device}/`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::CommandsCancel => "commands/cancel",
            Self::CommandsResponse => "commands/response",
            Self::RolloutProgress => "rollout/progress",
            Self::Status => "status",
            Self::Health => "health",
            Self::ServiceFailed => "service_failed",
            Self::TunnelControl => "tunnel/control",
            Self::TunnelDown => "tunnel/down",
            Self::TunnelUp => "tunnel/up",
        }
    }

    pub const fn direction(self) -> Direction {
        match self {
            Self::Commands | Self::CommandsCancel | Self::TunnelDown => Direction::ToDevice,
            Self::CommandsResponse
            | Self::RolloutProgress
            | Self::Status
            | Self::Health
            | Self::ServiceFailed
            | Self::TunnelUp => Direction::FromDevice,
            Self::TunnelControl => Direction::Both,
        }
    }

    /// The quality of service of chapter 2's table: 0, 1 or 2.
    pub const fn qos(self) -> u8 {
        match self {
            Self::Commands | Self::CommandsResponse => 2,
            Self::TunnelDown | Self::TunnelUp => 0,
            _ => 1,
        }
    }

    /// Whether the broker keeps the last message for later subscribers.
    pub const fn retained(self) -> bool {
        matches!(self, Self::Status | Self::ServiceFailed)
    }

    pub const fn device_may_publish(self) -> bool {
        matches!(self.direction(), Direction::FromDevice | Direction::Both)
    }

    pub const fn device_may_subscribe(self) -> bool {
        matches!(self.direction(), Direction::ToDevice | Direction::Both)
    }

    fn from_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.suffix() == suffix)
    }
}

/// Names `kind` of one device.
pub fn topic(kind: DeviceTopic, project: &ProjectId, device: &DeviceId) -> String {
    format!("{ROOT}/{project}/devices/{device}/{}", kind.suffix())
}

/// Names the filter that takes `kind` of all devices of all projects.
pub fn filter(kind: DeviceTopic) -> String {
    format!("{ROOT}/+/devices/+/{}", kind.suffix())
}

/// Reads a topic; `None` for whatever is not exactly one of a device's topics.
pub fn parse(topic: &str) -> Option<(ProjectId, DeviceId, DeviceTopic)> {
    let rest = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
    let (project, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("devices/")?;
    let (device, suffix) = rest.split_once('/')?;
    Some((
        ProjectId::new(project).ok()?,
        DeviceId::new(device).ok()?,
        DeviceTopic::from_suffix(suffix)?,
    ))
}

/// The connection of a device that one MQTT client id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `{project}:{device}`
    Main,
    /// `{project}:{device}:tunnel`, so that keys never wait behind a durable acknowledgement.
    Tunnel,
}

/// Names the MQTT client id of a device's connection.
pub fn client_id(project: &ProjectId, device: &DeviceId, channel: Channel) -> String {
    match channel {
        Channel::Main => format!("{project}:{device}"),
        Channel::Tunnel => format!("{project}:{device}:tunnel"),
    }
}

/// Reads an MQTT client id.
pub fn parse_client_id(client_id: &str) -> Option<(ProjectId, DeviceId, Channel)> {
    let (project, rest) = client_id.split_once(':')?;
    let (device, channel) = match rest.split_once(':') {
        None => (rest, Channel::Main),
        Some((device, "tunnel")) => (device, Channel::Tunnel),
        Some(_) => return None,
    };
    Some((ProjectId::new(project).ok()?, DeviceId::new(device).ok()?, channel))
}

/// Names the user that a device with a secret signs in as: `{project}/{device}`.
pub fn username(project: &ProjectId, device: &DeviceId) -> String {
    format!("{project}/{device}")
}

/// Reads such a user name.
pub fn parse_username(username: &str) -> Option<(ProjectId, DeviceId)> {
    let (project, device) = username.split_once('/')?;
    Some((ProjectId::new(project).ok()?, DeviceId::new(device).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_topic_is_read_back() {
        let (project, device) =
            (ProjectId::new("p").expect("valid"), DeviceId::new("d-1").expect("valid"));
        for kind in DeviceTopic::ALL {
            let text = topic(kind, &project, &device);
            assert_eq!(parse(&text), Some((project.clone(), device.clone(), kind)), "{text}");
        }
        for channel in [Channel::Main, Channel::Tunnel] {
            let id = client_id(&project, &device, channel);
            assert_eq!(parse_client_id(&id), Some((project.clone(), device.clone(), channel)));
        }
    }

    #[test]
    fn near_misses_are_no_topics() {
        for text in [
            "roboticks/p/devices/d",
            "roboticks/p/devices/d/",
            "roboticks/p/devices/d/commands/",
            "/roboticks/p/devices/d/commands",
            "roboticks//devices/d/commands",
            "roboticks/p/devices//status",
            "roboticks/+/devices/d/commands",
            "roboticks/p/devices/#",
            "x/p/devices/d/status",
            "roboticks/p/device/d/status",
            "roboticks/p/devices/d/Status",
            "$SYS/x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_the_same(text in "roboticks/[a-z+#/]{0,8}/devices/[a-z./]{0,8}/(status|commands|commands/cancel)") {
            if let Some((project, device, kind)) = parse(&text) {
                prop_assert_eq!(topic(kind, &project, &device), text);
            }
        }
    }
}
