//! Wrong, huge, malformed, foreign and late input over MQTT.

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{
    command::CommandStatus, ids::CommandId, limits::MQTT_MESSAGE_MAX_BYTES,
};
use quarterdeck_tests::{
    Fleet,
    mqtt::{Client, Login, Qos},
    simulator::connection::{Topics, command_id, now_text, response},
};
use serde_json::json;

/// A hand-driven device that has got one command.
async fn with_command(fleet: &Fleet, id: &str) -> Result<(Client, Topics, CommandId)> {
    let login = fleet.enroll(id).await?;
    let topics = Topics::of(&login)?;
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    ensure!(device.subscribe(&topics.commands, Qos::ExactlyOnce).await?, "not granted");
    let sent = fleet.api().send(id, "ping", json!({})).await?;
    let message = device.next().await?;
    let got = command_id(&message.payload).context("a command without id")?;
    ensure!(got == sent.to_string(), "{got} is not {sent}");
    Ok((device, topics, sent))
}

#[tokio::test]
async fn a_device_gets_in_only_as_itself() -> Result<()> {
    let fleet = Fleet::start().await?;
    let port = fleet.mqtt_port()?;
    let one = fleet.enroll("pi-1").await?;
    let two = fleet.enroll("pi-2").await?;
    Client::connect(port, &one).await.context("itself")?;

    let secret = one.password.clone().context("no secret")?;
    for (what, login) in [
        ("nobody", Login::new("default:pi-1")),
        ("a wrong secret", Login::new("default:pi-1").with_password("default/pi-1", "guess")),
        ("another's client id", Login { client_id: two.client_id.clone(), ..one.clone() }),
        ("any client id", Login { client_id: "x".into(), ..one.clone() }),
        ("another's name", Login::new("default:pi-2").with_password("default/pi-2", &secret)),
        ("another project", Login::new("other:pi-1").with_password("other/pi-1", &secret)),
        ("an unknown device", Login::new("default:pi-9").with_password("default/pi-9", &secret)),
        (
            "a will on a foreign topic",
            one.clone().with_will("roboticks/default/devices/pi-2/status", b"{}"),
        ),
        (
            "a will on a topic to it",
            one.clone().with_will("roboticks/default/devices/pi-1/commands", b"{}"),
        ),
    ] {
        ensure!(Client::connect(port, &login).await.is_err(), "{what} was let in");
    }
    Client::connect(port, &two).await.context("the other, undisturbed")?;
    Ok(())
}

#[tokio::test]
async fn a_device_hears_and_says_nothing_but_its_own() -> Result<()> {
    let fleet = Fleet::start().await?;
    let port = fleet.mqtt_port()?;
    let mine = fleet.enroll("pi-1").await?;
    fleet.enroll("pi-2").await?;
    for filter in [
        "roboticks/default/devices/pi-2/commands",
        "roboticks/default/devices/+/commands",
        "roboticks/#",
        "#",
        "$SYS/#",
        "$share/x/roboticks/default/devices/pi-1/commands",
        "roboticks/default/devices/pi-1/commands/response",
        "roboticks/default/devices/pi-1/status",
    ] {
        let mut device = Client::connect(port, &mine).await?;
        // Refused in the answer or by the end of the connection.
        let granted = device.subscribe(filter, Qos::AtLeastOnce).await;
        ensure!(!granted.is_ok_and(|granted| granted), "{filter} was granted");
    }
    let status = json!({"schema_version": "1.0", "online": true, "facts": {"forged": true}});
    for topic in [
        "roboticks/default/devices/pi-2/status",
        "roboticks/default/devices/pi-1/commands",
        "roboticks/default/devices/pi-2/commands",
        "roboticks/default/devices/pi-1/commands/cancel",
        "roboticks/default/devices/pi-1",
        "anything",
    ] {
        let mut device = Client::connect(port, &mine).await?;
        let _ = device.publish(topic, status.to_string().as_bytes(), Qos::AtLeastOnce).await;
    }
    let other = fleet.api().device("pi-2").await?;
    assert!(!other.facts.contains_key("forged"), "{:?}", other.facts);
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() -> Result<()> {
    let fleet = Fleet::start().await?;
    let login = fleet.enroll("pi-1").await?;
    let topics = Topics::of(&login)?;
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    let huge = vec![b' '; MQTT_MESSAGE_MAX_BYTES + 8 * 1024];
    assert!(device.publish(&topics.status, &huge, Qos::AtLeastOnce).await.is_err());
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    device.ping().await
}

#[tokio::test]
async fn malformed_messages_change_nothing_and_the_device_stays() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (mut device, topics, id) = with_command(&fleet, "pi-1").await?;
    let valid = response("accepted", &id.to_string(), &now_text(), "");
    for bad in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
        valid.replace("\"1.0\"", "\"9.9\""),
        valid.replace("\"accepted\"", "\"exploded\""),
        valid.replace(&id.to_string(), "not-an-id"),
        valid.replace(&id.to_string(), &quarterdeck_tests::clock::new_uuid().to_string()),
        format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000)),
        valid.replace('}', ",\"progress\":900}"),
    ] {
        // Answered or thrown out; but never believed, and never the end of the server.
        if device.publish(&topics.response, bad.as_bytes(), Qos::AtLeastOnce).await.is_err() {
            device =
                Client::connect(fleet.mqtt_port()?, &fleet_login(&fleet, "pi-1").await?).await?;
        }
    }
    device.publish(&topics.response, &[0xff, 0xfe, 0], Qos::AtLeastOnce).await?;
    for _ in 0..2 {
        device.publish_retained(&topics.status, b"{not json").await?;
    }
    let command = fleet.api().command(id).await?;
    assert!(
        matches!(command.status, CommandStatus::Published | CommandStatus::Queued),
        "{command:?}"
    );
    for status in ["accepted", "execution_started", "completed"] {
        let payload = response(status, &id.to_string(), &now_text(), "");
        device.publish(&topics.response, payload.as_bytes(), Qos::ExactlyOnce).await?;
    }
    assert_eq!(fleet.api().command(id).await?.status, CommandStatus::Completed);
    Ok(())
}

/// The device was thrown out for what it said: a failure of the test, told apart here.
async fn fleet_login(fleet: &Fleet, id: &str) -> Result<Login> {
    let device = fleet.api().device(id).await?;
    anyhow::bail!("{id} was thrown out for a malformed message; it is {:?} now", device.status)
}

#[tokio::test]
async fn an_answer_counts_once_however_often_it_comes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (mut device, topics, id) = with_command(&fleet, "pi-1").await?;
    let id_text = id.to_string();
    let chunk = r#","stdout":"hello ","stdout_offset":0"#;
    let end = r#","exit_code":0,"stdout":"hello world""#;
    for (status, more) in
        [("accepted", ""), ("execution_started", ""), ("progress", chunk), ("completed", end)]
    {
        let payload = response(status, &id_text, &now_text(), more);
        for qos in [Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            device.publish(&topics.response, payload.as_bytes(), qos).await?;
        }
    }
    let command = fleet.api().command(id).await?;
    assert_eq!(command.status, CommandStatus::Completed);
    assert_eq!(command.stdout.as_deref(), Some("hello world"));
    let events = fleet.api().timeline(id).await?;
    let ends = events.iter().filter(|entry| entry.event == "completed").count();
    assert_eq!(ends, 1, "{events:?}");
    Ok(())
}

#[tokio::test]
async fn what_comes_after_the_end_is_kept_as_evidence_and_changes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (mut device, topics, id) = with_command(&fleet, "pi-1").await?;
    for status in ["accepted", "execution_started", "completed"] {
        let payload = response(status, &id.to_string(), &now_text(), "");
        device.publish(&topics.response, payload.as_bytes(), Qos::ExactlyOnce).await?;
    }
    let before = fleet.api().command(id).await?;
    let late = response("failed", &id.to_string(), &now_text(), r#","error_code":"late-lie""#);
    device.publish(&topics.response, late.as_bytes(), Qos::ExactlyOnce).await?;

    assert_eq!(fleet.api().command(id).await?, before);
    let events = fleet.api().timeline(id).await?;
    let text = serde_json::to_string(&events)?;
    assert!(text.contains("late"), "{text}");
    Ok(())
}

#[tokio::test]
async fn one_device_cannot_answer_for_another() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (_victim, _, id) = with_command(&fleet, "pi-1").await?;
    let login = fleet.enroll("pi-2").await?;
    let topics = Topics::of(&login)?;
    let mut liar = Client::connect(fleet.mqtt_port()?, &login).await?;
    for status in ["accepted", "completed", "failed"] {
        let payload = response(status, &id.to_string(), &now_text(), "");
        let _ = liar.publish(&topics.response, payload.as_bytes(), Qos::AtLeastOnce).await;
    }
    let command = fleet.api().command(id).await?;
    assert!(!command.status.is_terminal() && command.accepted_at.is_none(), "{command:?}");
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_mqtt_and_floods_before_sign_in_do_not_disturb_the_others() -> Result<()>
{
    let fleet = Fleet::start().await?;
    let login = fleet.enroll("pi-1").await?;
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    let publish_before_connect = b"\x30\x03\x00\x01a";
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        publish_before_connect,
        &[0xff; 64],
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\x7f",
    ] {
        let mut stranger = Client::open(fleet.mqtt_port()?).await?;
        let _ = stranger.send_raw(garbage).await;
        stranger.wait_for_end().await?;
    }
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Client::open(fleet.mqtt_port()?).await?);
    }
    device.ping().await?;
    Client::connect(fleet.mqtt_port()?, &fleet.enroll("pi-2").await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_retired_device_is_thrown_out_and_stays_out() -> Result<()> {
    let fleet = Fleet::start().await?;
    let login = fleet.enroll("pi-1").await?;
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    let path = "@/devices/pi-1";
    let retire = fleet.api().request(reqwest::Method::DELETE, path, &serde_json::Value::Null);
    retire.await?.read::<serde_json::Value>()?;
    device.wait_for_end().await?;
    assert!(Client::connect(fleet.mqtt_port()?, &login).await.is_err());
    Ok(())
}
