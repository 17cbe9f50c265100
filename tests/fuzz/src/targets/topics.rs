//! Topics, client ids and user names; and that no device reaches beyond its own.

use quarterdeck_protocol::topics::{self, Channel, DeviceTopic};
use quarterdeck_server::mqtt::acl::Grant;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some((project, device, kind)) = topics::parse(text) {
        assert_eq!(topics::topic(kind, &project, &device), text);
    }
    if let Some((project, device, channel)) = topics::parse_client_id(text) {
        assert_eq!(topics::client_id(&project, &device, channel), text);
    }
    if let Some((project, device)) = topics::parse_username(text) {
        assert_eq!(format!("{project}/{device}"), text);
    }
    for (client_id, channel) in [("p:d", Channel::Main), ("p:d:tunnel", Channel::Tunnel)] {
        let grant = Grant::claimed(Some("p/d"), client_id).expect("a device of project p");
        let publishes = grant.may_publish(text);
        let subscribes = grant.may_subscribe(text);
        for kind in [publishes, subscribes].into_iter().flatten() {
            assert_eq!(topics::topic(kind, &grant.project_id, &grant.device_id), text);
        }
        assert!(publishes.is_none_or(DeviceTopic::device_may_publish));
        assert!(subscribes.is_none_or(DeviceTopic::device_may_subscribe));
        if let Ok(claimed) = Grant::claimed(Some("p/d"), text) {
            assert_eq!(
                topics::client_id(&claimed.project_id, &claimed.device_id, claimed.channel),
                text
            );
            assert_eq!(claimed.channel == channel, text == client_id);
        }
    }
}
