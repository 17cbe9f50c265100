//! What is shown, and what keys act on, is what the server says now, or says that it is not.

use quarterdeck_console::tui::store::WindowKey;
use quarterdeck_protocol::{command::CommandStatus, device::DeviceStatus, live::ServerMessage};

use crate::runner::Runner;

/// The device that the screen shows.
fn shown_device(runner: &Runner) -> usize {
    let title = runner.app.title();
    let at = runner.fleet.devices.iter().position(|device| title.contains(device.id.as_str()));
    at.unwrap_or_else(|| panic!("no device in {title:?}"))
}

#[test]
fn the_device_screen_follows_its_device() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 Enter").wait_for("Enrolled");
    let at = shown_device(&runner);
    let device = &mut runner.fleet.devices[at];
    device.status = DeviceStatus::Offline;
    device.unheard_since = None;
    device.tags.insert("rack".to_owned(), "r99".to_owned());
    runner.tell_changes();
    assert!(runner.shows("○ offline"), "{}", runner.text());
    assert!(runner.shows("r99"), "{}", runner.text());
}

#[test]
fn a_new_command_for_a_commands_device_knows_the_device() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 Enter n").keys("Enter C-n").wait_for("Blast radius");
    assert!(!runner.shows("not known here"), "{}", runner.text());
}

#[test]
fn until_a_new_filter_is_answered_no_key_acts_on_the_rows_before() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(300);
    runner.silent = true;
    runner.keys("/").text_in("status:failed").keys("Enter");
    assert!(runner.shows("/status:failed") && runner.shows("loading"), "{}", runner.text());
    assert!(!runner.shows("of 1 204"), "{}", runner.text());
    for key in ["C", "r", "Space", "*", "y"] {
        runner.keys(key);
        assert!(runner.app.overlay.is_none(), "{key}\n{}", runner.text());
    }
    assert!(runner.app.list(WindowKey::Commands).marks.is_empty());
    assert_eq!(runner.requests.len(), 1, "only the settings were asked for");
}

#[test]
fn a_filter_that_is_typed_without_a_connection_leaves_no_rows_of_the_one_before() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(300);
    runner.silent = true;
    runner.lost("gone");
    runner.keys("/").text_in("status:failed").keys("Enter");
    assert!(!runner.shows("1 of 1 204"), "{}", runner.text());
    runner.connect().pass_ms(300);
    let failed = runner.fleet.commands.iter().filter(|c| c.status == CommandStatus::Failed).count();
    assert!(runner.shows(&format!("1 of {failed}")), "{}", runner.text());
}

#[test]
fn a_filter_that_the_server_refuses_leaves_no_count_of_rows() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(300);
    let shown = runner.app.store.window(WindowKey::Commands);
    let id = shown.subscription.as_ref().expect("it is shown").id;
    runner.live(ServerMessage::Error {
        id: Some(id),
        code: "invalid".to_owned(),
        detail: "from: expected a time".to_owned(),
    });
    assert!(runner.shows("expected a time"), "{}", runner.text());
    assert!(!runner.shows("1 of 1 204"), "{}", runner.text());
    runner.keys("C");
    assert!(runner.app.overlay.is_none(), "{}", runner.text());
}

#[test]
fn a_frozen_screen_that_is_filtered_anew_goes_on() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 p").wait_for("FROZEN");
    runner.keys("/").text_in("status:failed").keys("Enter").pass_ms(300);
    assert!(!runner.shows("FROZEN") && !runner.shows("loading"), "{}", runner.text());
}
