//! Reboots and restarts: back with a new boot id, and not too often.

use anyhow::Result;
use quarterdeck_protocol::{api::ProjectSettings, command::CommandStatus};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    api::submission,
    wait::wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};

/// A device whose owner's command lines only note that they ran.
async fn harmless(fleet: &Fleet, id: &str) -> Result<Device> {
    let notes = fleet.file(&format!("{id}-notes"));
    let line = |what: &str| {
        let script = format!("echo {what} $0 >> {}", notes.display());
        serde_json::to_string(&["sh", "-c", &script])
    };
    let with_word = |what: &str, word: &str| {
        let script = format!("echo {what} $0 >> {}", notes.display());
        serde_json::to_string(&["sh", "-c", &script, word])
    };
    let config = format!(
        "[exec]\nreboot = {}\nshutdown = {}\nrestart_service = {}\nrestart_app = {}\n",
        line("reboot")?,
        line("shutdown")?,
        with_word("service", "{service}")?,
        with_word("app", "{app}")?,
    );
    fleet.device_with(id, DeviceOptions { config, ..DeviceOptions::default() }).await
}

fn notes(fleet: &Fleet, id: &str) -> String {
    std::fs::read_to_string(fleet.file(&format!("{id}-notes"))).unwrap_or_default()
}

#[tokio::test]
async fn a_reboot_is_completed_when_the_device_is_back_with_a_new_boot_id() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = harmless(&fleet, "pi-1").await?;
    let id = fleet.api().send("pi-1", "reboot_host", json!({})).await?;
    wait_until("the reboot", || notes(&fleet, "pi-1").contains("reboot")).await?;
    fleet.api().wait_status(id, CommandStatus::AwaitingReconnect).await?;
    // A reconnect in the same boot proves nothing.
    device.kill_9();
    fleet.offline("pi-1").await?;
    device.start_again()?;
    fleet.online("pi-1").await?;
    let status = fleet.api().command(id).await?.status;
    assert!(!status.is_terminal() || status != CommandStatus::Completed, "{status}");

    device.power_cut();
    device.set_boot_id("boot-2")?;
    device.start_again()?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(notes(&fleet, "pi-1").matches("reboot").count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_reboot_that_never_comes_back_times_out() -> Result<()> {
    let fleet = Fleet::start().await?;
    let settings = ProjectSettings { reboot_ceiling_s: 10, ..ProjectSettings::default() };
    let answer = fleet.api().request(Method::PUT, "@/settings", &json!(settings)).await?;
    answer.read::<Value>()?;
    let mut device = harmless(&fleet, "pi-1").await?;
    let id = fleet.api().send("pi-1", "reboot_host", json!({})).await?;
    wait_until("the reboot", || notes(&fleet, "pi-1").contains("reboot")).await?;
    fleet.api().wait_status(id, CommandStatus::AwaitingReconnect).await?;
    device.power_cut();
    fleet.api().wait_status(id, CommandStatus::TimedOut).await?;
    Ok(())
}

#[tokio::test]
async fn the_fourth_reboot_in_fifteen_minutes_is_blocked_and_says_until_when() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = harmless(&fleet, "pi-1").await?;
    for round in 1..=3 {
        let id = fleet.api().send("pi-1", "reboot_host", json!({})).await?;
        let done = || notes(&fleet, "pi-1").matches("reboot").count() == round;
        wait_until("the reboot", done).await?;
        // It says that it goes down before it does, but that may still be on its way.
        fleet.api().wait_status(id, CommandStatus::AwaitingReconnect).await?;
        device.power_cut();
        device.set_boot_id(&format!("boot-{}", round + 1))?;
        device.start_again()?;
        fleet.api().wait_status(id, CommandStatus::Completed).await?;
    }
    // Whatever the operation: a shutdown takes the host down as well.
    for kind in ["reboot_host", "shutdown_host"] {
        let id = fleet.api().send("pi-1", kind, json!({})).await?;
        let command = fleet.api().wait_status(id, CommandStatus::BlockedSafety).await?;
        let until = command.blocked_until.map(|until| until.millis_since(command.created_at));
        assert!(until.is_some_and(|ms| (0..=15 * 60 * 1000).contains(&ms)), "{until:?}");
        assert_eq!(command.error_code.as_deref(), Some("safety_lockout"));
    }
    assert_eq!(notes(&fleet, "pi-1").matches("reboot").count(), 3);
    assert_eq!(notes(&fleet, "pi-1").matches("shutdown").count(), 0);
    // Another device has a budget of its own, and so has another kind of restart.
    let _other = harmless(&fleet, "pi-2").await?;
    let id = fleet.api().send("pi-2", "reboot_host", json!({})).await?;
    fleet.api().wait_status(id, CommandStatus::AwaitingReconnect).await?;
    let id = fleet.api().send("pi-1", "restart_app", json!({"app": "kiosk"})).await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn app_restarts_have_a_counter_of_their_own() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = harmless(&fleet, "pi-1").await?;
    for _ in 0..3 {
        let id = fleet.api().send("pi-1", "restart_app", json!({"app": "kiosk"})).await?;
        fleet.api().wait_status(id, CommandStatus::Completed).await?;
    }
    let id = fleet.api().send("pi-1", "restart_app", json!({"app": "kiosk"})).await?;
    fleet.api().wait_status(id, CommandStatus::BlockedSafety).await?;
    assert_eq!(notes(&fleet, "pi-1"), "app kiosk\napp kiosk\napp kiosk\n");
    Ok(())
}

#[tokio::test]
async fn a_service_is_restarted_by_the_owners_command_line_and_by_nothing_else() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = harmless(&fleet, "pi-1").await?;
    let id = fleet.api().send("pi-1", "restart_service", json!({"service": "nginx"})).await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(notes(&fleet, "pi-1"), "service nginx\n");
    for bad in ["; reboot", "--now", "a b", "$(x)", "../x", ""] {
        let create = submission(&["pi-1"], "restart_service", json!({ "service": bad }));
        let answer = fleet.api().request(Method::POST, "@/commands", &json!(create)).await?;
        answer.refused(422)?;
    }
    assert_eq!(notes(&fleet, "pi-1"), "service nginx\n");
    Ok(())
}

#[tokio::test]
async fn a_restarted_agent_completes_the_command_that_restarted_it() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().send(device.id(), "restart_agent", json!({})).await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let after = fleet.api().script(device.id(), "echo alive").await?;
    fleet.api().wait_status(after, CommandStatus::Completed).await?;
    Ok(())
}
