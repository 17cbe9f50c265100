//! What one connection may say and hear: chapter 2's table of topics, and
//! nothing beside it. Pure; both brokers and the tests use it.
//!
//! Wildcards are refused altogether: no filter with one names exactly a topic
//! of the device, and a `$share` group would take messages away from it.

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    topics::{self, Channel, DeviceTopic},
};

use super::link::DeviceIdentity;

/// The device and channel that one connection stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub project_id: ProjectId,
    pub device_id: DeviceId,
    pub channel: Channel,
    /// `roboticks/{project}/devices/{device}/`
    prefix: Box<str>,
}

/// Says why a sign-in is refused before its secret is even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignInRefused {
    #[error("anonymous")]
    Anonymous,
    #[error("the user is not {{project}}/{{device}}")]
    NotADeviceUser,
    #[error("the client id is not {{project}}:{{device}} or {{project}}:{{device}}:tunnel")]
    NotADeviceClientId,
    #[error("user and client id name different devices")]
    ForeignClientId,
}

impl Grant {
    pub fn new(project_id: ProjectId, device_id: DeviceId, channel: Channel) -> Self {
        let kind = DeviceTopic::Status;
        let mut prefix = topics::topic(kind, &project_id, &device_id);
        prefix.truncate(prefix.len() - kind.suffix().len());
        Self { project_id, device_id, channel, prefix: prefix.into() }
    }

    /// Reads who wants to connect; whether it is, its secret must tell.
    pub fn claimed(user: Option<&str>, client_id: &str) -> Result<Self, SignInRefused> {
        let user = user.ok_or(SignInRefused::Anonymous)?;
        let (project_id, device_id) =
            topics::parse_username(user).ok_or(SignInRefused::NotADeviceUser)?;
        let (project, device, channel) =
            topics::parse_client_id(client_id).ok_or(SignInRefused::NotADeviceClientId)?;
        if (&project, &device) != (&project_id, &device_id) {
            return Err(SignInRefused::ForeignClientId);
        }
        Ok(Self::new(project_id, device_id, channel))
    }

    /// One of the device's topics, whole.
    pub fn topic(&self, kind: DeviceTopic) -> String {
        [&*self.prefix, kind.suffix()].concat()
    }

    pub fn is_of(&self, identity: &DeviceIdentity) -> bool {
        self.project_id == identity.project_id && self.device_id == identity.device_id
    }

    /// The topic, when the connection may publish to it.
    pub fn may_publish(&self, topic: &str) -> Option<DeviceTopic> {
        self.own(topic).filter(|kind| kind.device_may_publish())
    }

    /// The topic, when the connection may subscribe to a filter.
    pub fn may_subscribe(&self, filter: &str) -> Option<DeviceTopic> {
        self.own(filter).filter(|kind| kind.device_may_subscribe())
    }

    // On the path of every message: compares, allocates nothing.
    fn own(&self, topic: &str) -> Option<DeviceTopic> {
        let suffix = topic.strip_prefix(&*self.prefix)?;
        DeviceTopic::ALL
            .into_iter()
            .find(|kind| kind.suffix() == suffix)
            .filter(|kind| self.channel == Channel::Main || carries_tunnels(*kind))
    }
}

/// Whether a topic belongs to the second connection, which carries tunnels alone.
pub const fn carries_tunnels(kind: DeviceTopic) -> bool {
    matches!(kind, DeviceTopic::TunnelControl | DeviceTopic::TunnelDown | DeviceTopic::TunnelUp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(channel: Channel) -> Grant {
        let id = match channel {
            Channel::Main => "p:d",
            Channel::Tunnel => "p:d:tunnel",
        };
        Grant::claimed(Some("p/d"), id).expect("a device of project p")
    }

    #[test]
    fn a_device_has_its_own_topics_in_their_direction() {
        use DeviceTopic as T;
        let grant = grant(Channel::Main);
        for (suffix, says, hears) in [
            ("commands", None, Some(T::Commands)),
            ("commands/cancel", None, Some(T::CommandsCancel)),
            ("commands/response", Some(T::CommandsResponse), None),
            ("rollout/progress", Some(T::RolloutProgress), None),
            ("status", Some(T::Status), None),
            ("health", Some(T::Health), None),
            ("service_failed", Some(T::ServiceFailed), None),
            ("tunnel/control", Some(T::TunnelControl), Some(T::TunnelControl)),
            ("tunnel/down", None, Some(T::TunnelDown)),
            ("tunnel/up", Some(T::TunnelUp), None),
            ("", None, None),
            ("#", None, None),
            ("+", None, None),
            ("commands/#", None, None),
            ("commands/+", None, None),
            ("commands/", None, None),
            ("status?x=y", None, None),
        ] {
            let topic = format!("roboticks/p/devices/d/{suffix}");
            assert_eq!(grant.may_publish(&topic), says, "publish {topic}");
            assert_eq!(grant.may_subscribe(&topic), hears, "subscribe {topic}");
        }
    }

    #[test]
    fn nothing_of_another_device_is_reached() {
        let grant = grant(Channel::Main);
        for filter in [
            "#",
            "+",
            "+/+/+/+/commands",
            "roboticks/#",
            "roboticks/p/devices/#",
            "roboticks/p/devices/+/commands",
            "roboticks/p/devices/d2/commands",
            "roboticks/q/devices/d/commands",
            "roboticks/p/devices/d",
            "$share/g/roboticks/p/devices/d/commands",
            "/roboticks/p/devices/d/commands",
            "$SYS/#",
            "roboticks/p/devices/D/commands",
            "roboticks/p/devices/d//commands",
        ] {
            assert_eq!(grant.may_subscribe(filter), None, "{filter}");
            assert_eq!(grant.may_publish(filter), None, "{filter}");
        }
    }

    #[test]
    fn the_tunnel_connection_carries_tunnels_alone() {
        let grant = grant(Channel::Tunnel);
        for kind in DeviceTopic::ALL {
            let topic = topics::topic(kind, &grant.project_id, &grant.device_id);
            let tunnels = carries_tunnels(kind);
            assert_eq!(
                grant.may_publish(&topic).is_some(),
                tunnels && kind.device_may_publish(),
                "{topic}"
            );
            assert_eq!(
                grant.may_subscribe(&topic).is_some(),
                tunnels && kind.device_may_subscribe(),
                "{topic}"
            );
        }
    }

    #[test]
    fn user_and_client_id_must_name_the_same_device() {
        use SignInRefused as R;
        for (user, client_id, refused) in [
            (None, "p:d", R::Anonymous),
            (Some(""), "p:d", R::NotADeviceUser),
            (Some("admin"), "p:d", R::NotADeviceUser),
            (Some("p/d/e"), "p:d", R::NotADeviceUser),
            (Some("p/d"), "", R::NotADeviceClientId),
            (Some("p/d"), "p/d", R::NotADeviceClientId),
            (Some("p/d"), "p:d:other", R::NotADeviceClientId),
            (Some("p/d"), "p:d:tunnel:x", R::NotADeviceClientId),
            (Some("p/d"), "p:e", R::ForeignClientId),
            (Some("p/d"), "q:d", R::ForeignClientId),
            (Some("p/d"), "p:e:tunnel", R::ForeignClientId),
        ] {
            assert_eq!(Grant::claimed(user, client_id), Err(refused), "{user:?} {client_id}");
        }
    }

    proptest! {
        #[test]
        fn a_granted_topic_parses_to_the_same_device(topic in "(roboticks/[pq]/devices/[de]/)?[a-z/+#$_]{0,18}") {
            let grant = grant(Channel::Main);
            if let Some(kind) = grant.may_publish(&topic).or(grant.may_subscribe(&topic)) {
                prop_assert_eq!(
                    topics::parse(&topic),
                    Some((grant.project_id.clone(), grant.device_id.clone(), kind))
                );
            }
        }
    }
}
