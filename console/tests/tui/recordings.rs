//! What was recorded, listed and played.

use quarterdeck_console::tui::effects::ApiRequest;
use quarterdeck_protocol::api::{Recording, RecordingStatus, Role};

use crate::runner::Runner;

#[test]
fn a_recording_plays_pauses_steps_and_changes_its_speed() {
    let mut runner = Runner::new(120, 36);
    runner.keys("9 Enter").wait_for("PLAYING");
    runner.wait_for("systemctl status");
    runner.keys("Space").wait_for("PAUSED");
    let paused = runner.text();
    runner.pass_ms(2_000);
    assert_eq!(paused, runner.text(), "a paused recording stands still");
    runner.keys("+ +").wait_for("x4").keys("- - -").wait_for("x0.5");
    runner.keys(".").wait_for("event");
    assert_ne!(paused, runner.text());
    runner.keys("End").wait_for("logout");
    runner.keys("Home").pass_ms(100);
    assert!(!runner.shows("logout"), "{}", runner.text());
    assert!(runner.shows("0:00 / 0:12"), "{}", runner.text());
}

#[test]
fn a_recording_is_searched_jumped_in_and_saved() {
    let mut runner = Runner::new(120, 36);
    runner.keys("9 Enter").wait_for("PLAYING").keys("Space /").text_in("Active: failed");
    runner.keys("Enter").wait_for("1 place;");
    assert!(runner.shows("Active: failed"), "{}", runner.text());
    assert!(!runner.shows("logout"), "{}", runner.text());
    runner.keys("'").text_in("0:01").keys("Enter").pass_ms(100);
    assert!(runner.shows("0:01 / 0:12"), "{}", runner.text());
    assert!(!runner.shows("mqtt-bridge.service"), "{}", runner.text());
    runner.keys("'").text_in("100%").keys("Enter").wait_for("logout");
    runner.keys("s").wait_for("saved 98 KB");
    assert!(matches!(runner.requests.last(), Some(ApiRequest::SaveRecording { .. })));
    runner.keys("Esc").wait_for("Recordings");
    assert!(runner.app.player.is_none(), "what was left is not held");
}

#[test]
fn a_session_that_is_over_is_played_from_the_tunnels() {
    let mut runner = Runner::new(120, 36);
    let at = runner
        .fleet
        .tunnels
        .iter()
        .position(|t| t.status.is_over() && t.recording_id.is_some())
        .expect("one");
    runner.keys("7");
    for _ in 0..at {
        runner.keys("j");
    }
    runner.keys("Enter").wait_for("PLAYING");
}

#[test]
fn recordings_are_deleted_after_a_question_and_can_be_called_back() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    let is_over = |recording: &&Recording| recording.status != RecordingStatus::Recording;
    let first = runner.fleet.recordings.iter().find(is_over).expect("one").clone();
    let at = runner.fleet.recordings.iter().position(|r| r.id == first.id).expect("it is there");
    let before = runner.fleet.recordings.len();
    runner.keys("9");
    for _ in 0..at {
        runner.keys("j");
    }
    runner.keys("D").wait_for(&format!("What {} saw on {}", first.user, first.device_id));
    runner.keys("Esc").pass_ms(100);
    assert_eq!(runner.fleet.recordings.len(), before, "not without a yes");
    runner.keys("D").wait_for("gone for good").keys("Tab Enter").pass_ms(100);
    runner.keys("u").wait_for("called back").pass_ms(20_000);
    assert_eq!(runner.fleet.recordings.len(), before);
    runner.keys("D").wait_for("gone for good").keys("Tab Enter").pass_ms(20_000);
    assert!(!runner.fleet.recordings.iter().any(|r| r.id == first.id));
    let calls = runner.requests.iter().filter(|r| matches!(r, ApiRequest::DeleteRecording { .. }));
    assert_eq!(calls.count(), 1);
}

#[test]
fn of_marked_recordings_those_that_go_on_stay() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    let is_open = |recording: &Recording| recording.status == RecordingStatus::Recording;
    let going_on = runner.fleet.recordings.iter().filter(|r| is_open(r)).count();
    assert_eq!(going_on, 1);
    runner.keys("9");
    for _ in 0..runner.fleet.recordings.len() {
        runner.keys("Space");
    }
    runner.keys("D").wait_for("One more is still recorded: it stays.");
    runner.keys("Tab Enter").pass_ms(20_000);
    assert!(runner.fleet.recordings.iter().all(is_open), "{:?}", runner.fleet.recordings);
    assert_eq!(runner.fleet.recordings.len(), 1);
}

#[test]
fn a_recording_that_goes_on_is_not_deleted() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    let is_open = |recording: &Recording| recording.status == RecordingStatus::Recording;
    let at = runner.fleet.recordings.iter().position(is_open).expect("one");
    runner.keys("9");
    for _ in 0..at {
        runner.keys("j");
    }
    runner.keys("D").wait_for("its session goes on: end that first");
}
