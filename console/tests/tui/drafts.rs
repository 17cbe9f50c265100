//! What the wizard did not send: who is left out, what the server refuses, what was left half written.

use quarterdeck_console::tui::{effects::Effect, store::WindowKey};
use quarterdeck_protocol::device::DeviceStatus;

use crate::runner::Runner;

/// The names of the first devices of the table.
fn first(runner: &Runner, n: usize) -> Vec<String> {
    let window = runner.app.store.window(WindowKey::Devices);
    window.rows().iter().take(n).map(|row| row.key.clone()).collect()
}

fn retire(runner: &mut Runner, name: &str) {
    let device = runner.fleet.devices.iter_mut().find(|device| device.id.as_str() == name);
    device.expect("it is there").status = DeviceStatus::Retired;
}

/// Two devices are marked, and a reboot of them waits in its grace.
fn a_reboot_in_its_grace() -> (Runner, Vec<String>) {
    let mut runner = Runner::new(120, 36);
    runner.keys("2");
    let names = first(&runner, 2);
    runner.keys("Space Space n").go_to_operation("reboot_host");
    runner.keys("Enter C-n").wait_for("Blast radius").keys("Enter").text_in("reboot_host");
    runner.keys("Tab Enter").wait_for("leaves in 10s");
    (runner, names)
}

#[test]
fn marking_all_leaves_out_retired_devices_and_says_so() {
    for devices in [240, 12] {
        let mut runner = Runner::new(120, 36);
        runner.fleet.devices.truncate(devices);
        runner.keys("2");
        let name = first(&runner, 1).remove(0);
        retire(&mut runner, &name);
        runner.tell_changes();
        let text = format!("marked {}; 1 retired device is left out", devices - 1);
        runner.keys("*").wait_for(&text);
        assert!(!runner.app.list(WindowKey::Devices).marks.contains_key(&name));
        runner.keys("*");
        assert!(runner.app.list(WindowKey::Devices).marks.is_empty(), "again unmarks them");
    }
}

#[test]
fn a_retired_device_among_the_targets_is_left_out_and_named() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2");
    let name = first(&runner, 1).remove(0);
    retire(&mut runner, &name);
    runner.tell_changes();
    let left_out = format!("1 retired device is left out: {name}");
    runner.keys("Space Space Space n Enter C-n").wait_for("Blast radius");
    assert!(runner.shows(&left_out) && runner.shows("2 devices"), "{}", runner.text());
    assert!(!runner.shows("not online"), "{}", runner.text());
    runner.keys("Enter").wait_for("2 commands queued");
    // It alone is nobody to send to.
    runner.keys("2 U g n").wait_for("For which devices?");
    assert!(runner.shows(&left_out), "{}", runner.text());
    runner.keys("Space").wait_for("takes no commands");
}

#[test]
fn a_batch_that_is_refused_after_its_grace_stays_to_be_sent_again() {
    let (mut runner, names) = a_reboot_in_its_grace();
    let before = runner.fleet.commands.len();
    runner.keys("3");
    retire(&mut runner, &names[1]);
    runner.pass_ms(30_000);
    let said = format!("{}: the device is retired", names[1]);
    assert!(runner.shows("not sent") && runner.shows(&said), "{}", runner.text());
    assert_eq!(runner.fleet.commands.len(), before);
    // Also while another command is being written.
    runner.keys("n").wait_for("go on: reboot_host on").keys("Enter").wait_for("Blast radius");
    assert!(runner.shows(&format!("{} is left out", names[1])), "{}", runner.text());
    runner.keys("Enter").text_in("reboot_host").keys("Tab Enter").pass_ms(10_500);
    assert_eq!(runner.fleet.commands.len(), before + 1);
    assert!(!runner.shows("not sent"), "{}", runner.text());
}

#[test]
fn a_batch_that_is_refused_while_its_review_is_shown_says_why_there() {
    let (mut runner, names) = a_reboot_in_its_grace();
    retire(&mut runner, &names[0]);
    runner.pass_ms(30_000);
    assert!(runner.shows("Blast radius"), "{}", runner.text());
    assert!(runner.shows(&format!("{}: the device is retired", names[0])), "{}", runner.text());
    assert!(runner.shows("Send to 1 device"), "{}", runner.text());
}

#[test]
fn what_the_server_takes_of_another_wizard_does_not_close_this_one() {
    let (mut runner, _) = a_reboot_in_its_grace();
    runner.keys("2 U n").wait_for("What shall they do?").pass_ms(12_000);
    assert!(runner.shows("What shall they do?"), "{}", runner.text());
}

#[test]
fn a_grace_that_ends_without_a_connection_gives_its_wizard_back() {
    let (mut runner, _) = a_reboot_in_its_grace();
    runner.keys("3");
    runner.silent = true;
    runner.lost("gone");
    runner.pass_ms(11_000);
    runner.keys("n").wait_for("go on: reboot_host on 2 devices");
}

#[test]
fn a_script_that_is_left_is_a_draft_which_n_brings_back() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n G Enter").wait_for("3 Configure");
    runner
        .text_in("echo precious")
        .keys("Esc Esc Esc Esc")
        .wait_for("kept as a draft: run_script on");
    runner.keys("3 n").wait_for("go on: run_script").keys("Enter").wait_for("echo precious");
    // Left by the button of the review, too.
    runner.keys("C-n").wait_for("Blast radius").keys("Tab Enter").wait_for("kept as a draft");
    runner.keys("3 n D");
    assert!(runner.app.drafts.is_empty() && runner.app.overlay.is_none());
    runner.keys("n").wait_for("For which devices?").keys("Esc");
    assert!(runner.app.drafts.is_empty(), "where nothing was written nothing is kept");
}

#[test]
fn another_operation_does_not_throw_a_script_away() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n G Enter").text_in("echo precious");
    runner.keys("Esc g Enter").wait_for("kept as a draft: run_script on");
}

#[test]
fn no_step_of_the_wizard_quits_with_a_script_in_it() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n G Enter").text_in("echo precious");
    for step in ["", "C-n", "Esc Esc"] {
        runner.keys(step).keys("C-c").wait_for("Leave now?");
        assert!(runner.shows("not sent, and lost: run_script on"), "{}", runner.text());
        assert!(!runner.effects.iter().any(|effect| matches!(effect, Effect::Quit)));
        runner.keys("Esc");
        assert!(!runner.shows("nothing was sent"), "nothing was to be sent");
    }
}

#[test]
fn in_a_form_help_lists_only_keys_that_are_not_typed() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n G Enter F1").wait_for("Keys of this");
    assert!(runner.shows("C-n") && runner.shows("F1"), "{}", runner.text());
    let typed = [" q ", " q C-c", " Y ", " u ", " p "];
    for key in typed {
        let is_key = runner.text().lines().any(|line| line.contains(&format!("{key} ")));
        assert!(!is_key, "{key}\n{}", runner.text());
    }
}

#[test]
fn what_was_chosen_without_a_word_typed_is_a_draft_too() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 n").wait_for("For which devices?").keys("Space Space Enter");
    runner.go_to_operation("reboot_host").keys("Enter C-n").wait_for("Blast radius");
    runner.keys("3").wait_for("kept as a draft: reboot_host on 2 devices");
    runner.keys("n").wait_for("go on: reboot_host on 2 devices").keys("Enter");
    runner.wait_for("Blast radius");
    assert!(runner.shows("2 devices"), "{}", runner.text());
}

#[test]
fn devices_that_were_picked_by_hand_are_a_draft_too() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 n").wait_for("For which devices?").keys("Space Space 3");
    runner.wait_for("kept as a draft: a command on 2 devices");
    runner.keys("n").wait_for("go on: a command on 2 devices").keys("Enter");
    runner.wait_for("the 2 devices marked").keys("Enter").wait_for("What shall they do?");
    assert!(runner.shows("2 devices"), "{}", runner.text());
}

#[test]
fn a_wizard_that_was_only_looked_at_is_no_draft() {
    let mut runner = Runner::new(120, 36);
    for keys in ["3 n Esc", "2 n 3", "2 Enter n 3"] {
        runner.keys(keys);
        assert!(runner.app.drafts.is_empty(), "{keys}\n{}", runner.text());
    }
}
