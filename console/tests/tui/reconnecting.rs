//! A connection that is lost: what is said meanwhile, and what a return brings.

use std::time::Duration;

use quarterdeck_console::tui::{Wall, effects::NetEvent};
use quarterdeck_protocol::{api::Role, device::DeviceStatus, live::ServerMessage};

use crate::runner::{Runner, caps};

fn wall() -> Runner {
    let (mut options, caps) = caps(false, false, false);
    options.wall = Some(Wall { rotate: Duration::from_secs(15) });
    let mut runner = Runner::unconnected(&options, &caps, 120, 36);
    runner.fleet.alerts.clear();
    for device in &mut runner.fleet.devices {
        device.status = DeviceStatus::Online;
        device.unheard_since = None;
    }
    runner.connect();
    runner
}

#[test]
fn a_wall_that_hears_nothing_does_not_call_the_fleet_well() {
    for is_cut in [true, false] {
        let mut runner = wall();
        runner.wait_for("All is quiet.");
        assert!(runner.shows("every site is complete"), "{}", runner.text());
        runner.silent = true;
        if is_cut {
            runner.lost("gone");
        } else {
            runner.pass_ms(6_000);
        }
        let word = if is_cut { "LOST" } else { "STALE" };
        assert!(runner.shows(word), "{}", runner.text());
        for claim in ["All is quiet", "every site is complete"] {
            assert!(!runner.shows(claim), "{}", runner.text());
        }
        assert!(runner.shows("What is open now is not known."), "{}", runner.text());
    }
}

#[test]
fn a_silent_server_is_stale_before_its_connection_is_given_up() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2").pass_ms(500);
    runner.silent = true;
    runner.pass_ms(2_500);
    assert!(runner.shows("LIVE 2s"), "two words are late\n{}", runner.text());
    runner.pass_ms(1_000);
    assert!(runner.shows("STALE 3s") && !runner.shows("LIVE"), "{}", runner.text());
    runner.lost("no word from the server for 5 s");
    assert!(runner.shows("LOST 3s"), "{}", runner.text());
}

#[test]
fn a_wall_that_was_signed_out_waits_for_a_login_and_goes_on() {
    let mut runner = wall();
    let why = "the login has ended; sign in with: quarterdeck login".to_owned();
    runner.event(NetEvent::SignedOut { why, waits_for_login: true });
    assert!(runner.shows("SIGNED OUT") && runner.shows("goes on by itself"), "{}", runner.text());
    runner.connect();
    assert!(runner.shows("LIVE"), "{}", runner.text());
}

#[test]
fn a_lost_connection_says_when_it_is_tried_next_and_a_key_tries_now() {
    let mut runner = Runner::new(120, 36);
    runner.silent = true;
    runner.keys("3").lost("connection refused");
    assert!(runner.shows("retry in 4s") && runner.shows("C-r tries now"), "{}", runner.text());
    runner.pass_ms(1_000);
    assert!(runner.shows("retry in 3s"), "{}", runner.text());
    runner.pass_ms(3_000);
    assert!(runner.shows("trying now"), "{}", runner.text());
    runner.lost("connection refused");
    runner.silent = false;
    runner.keys("C-r").wait_for("connected again");
    runner.keys("C-r").wait_for("the connection is not lost");
}

#[test]
fn a_wall_is_tried_again_by_a_key() {
    let mut runner = wall();
    runner.silent = true;
    runner.lost("connection refused");
    assert!(runner.shows("r tries now"), "{}", runner.text());
    runner.silent = false;
    runner.keys("r").wait_for("LIVE");
}

#[test]
fn a_filter_without_a_connection_says_that_there_is_none() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(300);
    runner.silent = true;
    runner.lost("gone").keys("/").text_in("status:failed").keys("Enter");
    assert!(runner.shows("There is no connection."), "{}", runner.text());
    assert!(!runner.shows("loading"), "{}", runner.text());
}

#[test]
fn another_role_is_told_when_the_connection_stands_again() {
    let mut runner = Runner::new(120, 36);
    runner.lost("your role changed");
    runner.fleet.role = Role::Viewer;
    runner.connect();
    assert!(runner.shows("you are viewer now, no longer operator"), "{}", runner.text());
    runner.lost("gone").connect();
    assert!(runner.shows("connected again"), "{}", runner.text());
}

/// Lets a connection to a project of that name stand.
fn project(runner: &mut Runner, name: &str) {
    let mut hello = runner.fleet.hello();
    if let ServerMessage::Hello { project, .. } = &mut hello {
        *project = name.parse().expect("a name");
    }
    runner.live(hello);
}

#[test]
fn drafts_wait_in_their_project_while_another_is_open() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n G Enter").text_in("echo precious").keys("Esc Esc Esc Esc");
    project(&mut runner, "lab");
    assert!(runner.app.drafts.is_empty(), "it is for devices of another project");
    runner.keys("q").wait_for("(project prod)").keys("Esc");
    project(&mut runner, "prod");
    runner.keys("3 n").wait_for("go on: run_script").keys("Enter").wait_for("echo precious");
    // Also what is open when the project changes.
    project(&mut runner, "lab");
    assert!(!runner.shows("echo precious"), "{}", runner.text());
    project(&mut runner, "prod");
    runner.keys("3 n").wait_for("go on: run_script");
}

#[test]
fn no_project_is_opened_while_a_batch_waits_for_devices_of_this_one() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").go_to_operation("reboot_host");
    runner.keys("Enter C-n").wait_for("Blast radius").keys("Enter");
    runner.text_in("reboot_host").keys("Tab Enter").wait_for("leaves in");
    runner.keys("6 Tab Tab").pass_ms(300).keys("O");
    assert!(runner.shows("call it back with u"), "{}", runner.text());
    assert!(!runner.shows("opening"), "{}", runner.text());
}
