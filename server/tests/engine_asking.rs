//! An end that a broker lost: the device is asked for it.

mod support;

use quarterdeck_protocol::{command::CommandStatus as S, ids::CommandId, topics::DeviceTopic};
use quarterdeck_server::{mqtt::link::Inbound, store::Location};
use serde_json::{Value, json};
use support::{Harness, eventually};

on_both_engines! {
    where_a_broker_may_have_lost_the_end_the_device_is_asked_for_it,
}

async fn where_a_broker_may_have_lost_the_end_the_device_is_asked_for_it(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let connection = h.connect("pi-1", "b1").await;
    let ids: Vec<CommandId> = {
        let mut ids = Vec::new();
        for said in ["accepted", "execution_started", "completed"] {
            let id = h.submit(&["pi-1"], "run_script", json!({"script": "id"})).await[0].id;
            h.respond("pi-1", id, said, json!({})).await;
            ids.push(id);
        }
        ids
    };
    let asked = || {
        let sent = h.link.commands_to("pi-1");
        sent.into_iter().filter(|sent| sent["known"] == true).collect::<Vec<_>>()
    };
    // The embedded broker loses nothing: who comes back to it is not asked.
    h.disconnect("pi-1", connection).await;
    let connection = h.connect("pi-1", "b1").await;
    let marker = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    eventually("the marker is sent", || async {
        h.link
            .commands_to("pi-1")
            .iter()
            .any(|sent| sent["command_id"] == json!(marker))
            .then_some(())
    })
    .await;
    assert_eq!(asked(), Vec::<Value>::new());
    h.respond("pi-1", marker, "completed", json!({})).await;

    // The way to an external one is back.
    h.event(Inbound::LinkUp).await;
    let first = eventually("both are asked for", || async {
        let asked = asked();
        (asked.len() == 2).then_some(asked)
    })
    .await;
    let id_of = |sent: &Value| sent["command_id"].clone();
    assert_eq!(first.iter().map(id_of).collect::<Vec<_>>(), [json!(ids[0]), json!(ids[1])]);
    assert_eq!(first[0]["payload"], json!({"script": "id"}));

    // The device is back at an external broker, which tells nothing of connections.
    h.disconnect("pi-1", connection).await;
    h.connect("pi-1", "b1").await;
    let online = json!({"schema_version": "1.0", "online": true, "boot_id": "b1"});
    assert!(h.say("pi-1", DeviceTopic::Status, &online, None).await);
    eventually("both are asked for again", || async { (asked().len() == 4).then_some(()) }).await;

    for id in &ids[..2] {
        assert_eq!(h.command(*id).await.attempt, 1);
        h.respond("pi-1", *id, "completed", json!({"exit_code": 0})).await;
        assert_eq!(h.command(*id).await.status, S::Completed);
    }
}
