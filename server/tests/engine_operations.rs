//! The operations that devices have from workflow files: told, offered, asked for.

mod support;

use quarterdeck_protocol::{
    command::CommandStatus as S, operations::OperationSource, topics::DeviceTopic,
};
use quarterdeck_server::store::{Location, devices::operations};
use serde_json::{Value, json};
use support::{Harness, eventually, request};

on_both_engines! {
    what_a_device_tells_of_its_operations_is_kept_until_it_tells_something_else,
    what_no_device_should_tell_is_left_out,
    a_dangerous_operation_of_a_device_needs_to_be_confirmed,
    a_payload_is_checked_against_the_forms_of_the_chosen_devices,
    an_operation_that_a_device_says_reboots_counts_as_a_reboot_of_that_device,
    what_never_reached_its_device_rebooted_nothing,
}

async fn announce(h: &Harness, device: &str, names: &[&str], cards: Value) {
    let status = json!({
        "schema_version": "1.0", "online": true, "boot_id": "b1", "capabilities": names,
        "operations": cards, "at": h.clock.wall(),
    });
    assert!(h.say(device, DeviceTopic::Status, &status, None).await, "acknowledged");
}

fn flash() -> Value {
    json!({
        "name": "flash", "title": "Flash", "icon": "x", "estimated_duration_s": 300,
        "dangerous": true, "reboots": true,
        "form_schema": {
            "type": "object", "required": ["url"], "additionalProperties": false,
            "properties": { "url": { "type": "string" } },
        },
    })
}

async fn known(h: &Harness) -> Vec<quarterdeck_protocol::operations::Operation> {
    let mut tx = h.store.read().await.expect("a reader");
    operations::list(&mut tx, &h.project, None).await.expect("a list").into_values().collect()
}

async fn what_a_device_tells_of_its_operations_is_kept_until_it_tells_something_else(
    location: Location,
) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    for device in ["pi-1", "pi-2"] {
        h.connect(device, "b1").await;
    }
    announce(&h, "pi-1", &["ping", "flash"], json!([flash()])).await;
    announce(&h, "pi-2", &["flash"], json!([])).await;
    let all = known(&h).await;
    let names: Vec<_> = all.iter().map(|op| (op.name.as_str(), op.device_count)).collect();
    assert_eq!(names, [("flash", 2), ("ping", 1)]);
    assert_eq!((all[0].title.as_str(), all[0].estimated_duration_s), ("Flash", 300));
    assert!(all[0].dangerous && all[0].reboots && all[0].source == OperationSource::Device);

    // The same names, told of otherwise.
    announce(&h, "pi-1", &["ping", "flash"], json!([{ "name": "flash", "title": "Burn" }])).await;
    let all = known(&h).await;
    assert_eq!((all[0].title.as_str(), all[0].dangerous), ("Burn", false));
    announce(&h, "pi-1", &["ping"], json!([])).await;
    announce(&h, "pi-2", &[], json!([])).await;
    assert_eq!(known(&h).await.len(), 1);
}

async fn what_no_device_should_tell_is_left_out(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let cards = json!([
        { "name": "flash", "dangerous": "yes" }, { "name": "unheard_of" }, 7,
        { "name": "good", "title": "Good" },
    ]);
    announce(&h, "pi-1", &["flash", "good", "", &"x".repeat(129)], cards).await;
    let all = known(&h).await;
    let told: Vec<_> = all.iter().map(|op| (op.name.as_str(), op.title.as_str())).collect();
    assert_eq!(told, [("flash", "flash"), ("good", "Good")]);
    assert_eq!(h.device("pi-1").await.capabilities, ["flash", "good"]);
}

async fn a_dangerous_operation_of_a_device_needs_to_be_confirmed(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    for device in ["pi-1", "pi-2"] {
        h.connect(device, "b1").await;
    }
    announce(&h, "pi-1", &["flash"], json!([flash()])).await;
    announce(&h, "pi-2", &["flash"], json!([{ "name": "flash" }])).await;
    let asked = |devices: &[&str], confirm| {
        let mut request = request(devices, "flash", json!({ "url": "u" }));
        request.confirm = confirm;
        request
    };
    let refused = h.engine.submit(&h.actor, &h.project, asked(&["pi-2", "pi-1"], false)).await;
    assert_eq!(refused.expect_err("one of them is in danger").code(), "confirmation_required");
    for request in [asked(&["pi-2", "pi-1"], true), asked(&["pi-2"], false)] {
        h.engine.submit(&h.actor, &h.project, request).await.expect("confirmed, or harmless");
    }
}

async fn a_payload_is_checked_against_the_forms_of_the_chosen_devices(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    for device in ["pi-1", "pi-2"] {
        h.connect(device, "b1").await;
    }
    announce(&h, "pi-1", &["flash"], json!([flash()])).await;
    announce(&h, "pi-2", &["flash"], json!([{ "name": "flash" }])).await;
    for (payload, field) in [
        (json!({}), "payload.url"),
        (json!({ "url": 1 }), "payload.url"),
        (json!({ "url": "u", "ulr": "u" }), "payload.ulr"),
        (json!(["u"]), "payload"),
    ] {
        let asked = request(&["pi-1"], "flash", payload);
        let refused = h.engine.submit(&h.actor, &h.project, asked).await.expect_err(field);
        assert_eq!(refused.field(), Some(field), "{refused}");
    }
    h.submit(&["pi-2"], "flash", json!({ "free": ["form"] })).await;
}

async fn an_operation_that_a_device_says_reboots_counts_as_a_reboot_of_that_device(
    location: Location,
) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    for device in ["pi-1", "pi-2"] {
        h.connect(device, "b1").await;
    }
    announce(&h, "pi-1", &["flash"], json!([flash()])).await;
    announce(&h, "pi-2", &["flash"], json!([{ "name": "flash" }])).await;
    h.submit(&["pi-1"], "reboot_host", json!({})).await;
    for _ in 0..2 {
        h.submit(&["pi-1", "pi-2"], "flash", json!({ "url": "u" })).await;
    }
    let fourth = h.submit(&["pi-1", "pi-2"], "flash", json!({ "url": "u" })).await;
    assert_eq!(fourth[0].status, S::BlockedSafety);
    assert!(fourth[0].blocked_until.is_some());
    assert_eq!(fourth[1].status, S::Queued);
    let message = fourth[0].error_message.as_deref().unwrap_or_default();
    assert!(message.starts_with("too many reboots"), "{message}");
    let reboot = h.submit(&["pi-1"], "reboot_host", json!({})).await;
    assert_eq!(reboot[0].status, S::BlockedSafety, "they are counted together");
}

async fn what_never_reached_its_device_rebooted_nothing(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-3"]).await;
    let connection = h.connect("pi-3", "b1").await;
    announce(&h, "pi-3", &["flash"], json!([flash()])).await;
    h.disconnect("pi-3", connection).await;
    eventually("it is gone", || async {
        let status = h.device("pi-3").await.status;
        (status == quarterdeck_protocol::device::DeviceStatus::Offline).then_some(())
    })
    .await;
    for _ in 0..5 {
        let id = h.submit(&["pi-3"], "flash", json!({ "url": "u" })).await[0].id;
        assert_eq!(h.command(id).await.status, S::Queued);
        h.engine.cancel(&h.actor, &h.project, id).await.expect("nobody has it yet");
    }
}
