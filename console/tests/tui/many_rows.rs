//! Whole listings, not only what is loaded: marks, ranges, bulk actions, exports.

use quarterdeck_console::tui::{
    effects::{ApiRequest, Effect, ExportStep},
    store::{Row, WindowKey},
};
use quarterdeck_protocol::command::CommandStatus;
use quarterdeck_tests::fake::FakeFleet;

use crate::runner::Runner;

/// The file that was exported, and what is said of it in the end.
fn exported(runner: &Runner) -> (String, String, String) {
    let (mut name, mut text, mut end) = (String::new(), String::new(), String::new());
    for effect in &runner.effects {
        match effect {
            Effect::Export(ExportStep::Begin { name: begun }) => name.clone_from(begun),
            Effect::Export(ExportStep::Rows(rows)) => text.push_str(rows),
            Effect::Export(ExportStep::End { what }) => end.clone_from(what),
            _ => {}
        }
    }
    (name, text, end)
}

#[test]
fn all_that_match_are_marked_and_the_wizard_counts_them() {
    let mut runner = Runner::new(120, 24);
    let all = runner.fleet.devices.len();
    assert!(runner.app.store.window(WindowKey::Devices).rows().len() < all);
    runner.keys("2 *").wait_for(&format!("marked {all}"));
    assert!(runner.shows(&format!("{all} marked")), "{}", runner.text());
    let gone =
        runner.fleet.devices.iter().filter(|d| d.tags["environment"] == "production").count();
    let marks = &runner.app.list(WindowKey::Devices).marks;
    assert_eq!(marks.values().filter(|mark| mark.production).count(), gone);
    runner.keys("n Enter C-n").wait_for("Blast radius");
    assert!(runner.shows(&format!("{all} devices")), "{}", runner.text());
    // Again on all: none.
    runner.keys("1 2 *");
    assert!(runner.app.list(WindowKey::Devices).marks.is_empty(), "{}", runner.text());
}

#[test]
fn only_what_the_filter_lets_through_is_marked() {
    let mut runner = Runner::new(120, 24);
    runner.keys("3 /").text_in("status:failed").keys("Enter").pass_ms(300).keys("*").pass_ms(300);
    let failed = runner.fleet.commands.iter().filter(|c| c.status == CommandStatus::Failed).count();
    assert_eq!(runner.app.list(WindowKey::Commands).marks.len(), failed);
}

#[test]
fn a_range_reaches_rows_that_were_never_loaded() {
    let mut runner = Runner::new(120, 24);
    runner.keys("3 j V G k V").wait_for("marked 1 202");
    let marks = &runner.app.list(WindowKey::Commands).marks;
    let first = runner.fleet.commands.iter().max_by_key(|c| c.created_at).expect("some");
    assert!(!marks.contains_key(&first.id.to_string()));
}

#[test]
fn many_are_cancelled_after_their_number_is_typed() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 *").wait_for("marked 1 204").keys("C").wait_for("have ended: left alone");
    let rows = runner.app.store.window(WindowKey::Commands).rows();
    let has_ended = |row: &&Row| row.command().is_some_and(|row| row.status.is_terminal());
    let left = 1_204 - rows.iter().filter(has_ended).count();
    runner.text_in(&left.to_string()).keys("Tab Enter").wait_for("leaves in 10s").pass_ms(10_500);
    assert!(runner.shows("had ended before"), "{}", runner.text());
    let open = runner.fleet.commands.iter().filter(|c| !c.status.is_terminal());
    assert!(open.into_iter().all(|c| c.cancel_requested_at.is_some()));
}

#[test]
fn many_are_retried_one_by_one_and_summed_up() {
    let mut runner = Runner::new(120, 36);
    let before = runner.fleet.commands.len();
    runner.keys("3 /").text_in("type:disk_usage").keys("Enter").pass_ms(300).keys("*").pass_ms(300);
    let n = runner.app.list(WindowKey::Commands).marks.len();
    assert!(n > 20, "{n}");
    runner.keys("r").text_in(&n.to_string()).keys("Tab Enter").pass_ms(10_500);
    assert!(runner.shows("queued, ") && runner.shows("refused: "), "{}", runner.text());
    let queued = runner.fleet.commands.len() - before;
    assert!(runner.shows(&format!("retry: {queued} queued")), "{}", runner.text());
}

#[test]
fn what_has_not_left_is_called_back() {
    let mut runner = Runner::new(120, 36);
    runner.keys("4 Space Space Space Space Space");
    runner.silent = true;
    runner.keys("A");
    assert!(runner.shows("acknowledge: 0 of 5"), "{}", runner.text());
    runner.silent = false;
    runner.keys("1 2");
    runner.silent = true;
    runner.keys("*").pass_ms(100);
    assert!(runner.shows("marking devices: 0 of 240   u stops it"), "{}", runner.text());
    runner.keys("u");
    assert!(runner.shows("stopped marking devices"), "{}", runner.text());
    assert!(runner.app.list(WindowKey::Devices).marks.is_empty());
}

#[test]
fn a_dangerous_command_is_retried_only_after_its_name_is_typed() {
    let mut runner = Runner::new(120, 36);
    let at = runner
        .fleet
        .commands
        .iter()
        .position(|c| c.kind == "reboot_host" && c.status.is_terminal());
    let id = runner.fleet.commands[at.expect("there is one")].id;
    let before = runner.fleet.commands.len();
    runner.keys("'").text_in(&id.to_string()).keys("Enter").wait_for("reboot_host on").keys("r");
    assert!(runner.shows("Type reboot_host"), "{}", runner.text());
    runner.keys("Enter").wait_for("nothing was sent");
    runner.keys("r").text_in("reboot_host").keys("Tab Enter").wait_for("leaves in 10s");
    assert_eq!(runner.fleet.commands.len(), before);
    runner.pass_ms(10_500);
    assert_eq!(runner.fleet.commands.len(), before + 1, "{}", runner.text());
    assert_eq!(runner.fleet.commands[0].retry_of, Some(id));
}

#[test]
fn a_harmless_command_is_retried_without_typing() {
    let mut runner = Runner::new(120, 36);
    let at = runner.fleet.commands.iter().position(|c| c.kind == "ping" && c.status.is_terminal());
    let id = runner.fleet.commands[at.expect("there is one")].id;
    runner.keys("'").text_in(&id.to_string()).keys("Enter").wait_for("ping on");
    runner.keys("r Tab Enter").wait_for("retry: queued as");
}

#[test]
fn an_export_has_every_row_in_either_format() {
    let mut runner = Runner::new(120, 24);
    runner.keys("3 x").wait_for("Export all 1 204 commands").keys("Enter").pass_ms(300);
    let (name, text, end) = exported(&runner);
    assert!(name.starts_with("commands-"), "{name}");
    assert_eq!(name.rsplit('.').next(), Some("json"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("one array");
    assert_eq!((rows.len(), end.as_str()), (1_204, "1 204 commands"));
    assert!(rows[0]["payload"].is_object(), "rows are whole: {}", rows[0]);

    runner.effects.clear();
    runner.keys("2 x j Enter").pass_ms(300);
    let (name, text, end) = exported(&runner);
    assert_eq!(name.rsplit('.').next(), Some("csv"));
    assert_eq!((text.lines().count(), end.as_str()), (241, "240 devices"));
    assert!(text.starts_with("id,type,status,tags,"), "{text}");
}

#[test]
fn an_export_of_marked_rows_has_those_alone() {
    let mut runner = Runner::new(120, 24);
    runner.keys("2 Space j j Space x").wait_for("Export the 2 marked").keys("j Enter").pass_ms(300);
    let (_, text, end) = exported(&runner);
    assert_eq!((text.lines().count(), end.as_str()), (3, "2 devices"));
}

#[test]
fn an_export_that_is_stopped_leaves_no_file() {
    let mut runner = Runner::new(120, 24);
    runner.keys("3 x");
    runner.silent = true;
    runner.keys("Enter q").wait_for("not finished: exporting commands");
    runner.keys("Esc u");
    assert!(
        matches!(runner.effects.last(), Some(Effect::Export(ExportStep::Drop))),
        "{:?}",
        runner.effects
    );
}

#[test]
fn a_submission_to_more_than_a_batch_goes_in_batches() {
    let mut runner = Runner::new(120, 36);
    runner.fleet = FakeFleet::new(runner.app.now, 12_340, 1);
    runner.connect();
    runner.keys("1 2 *").wait_for("marked 12 340");
    runner.requests.clear();
    // A ping needs no payload; so many devices need their number.
    runner.keys("n Enter C-n").wait_for("Blast radius");
    runner.keys("Enter").wait_for("on 12 340 devices?");
    runner.text_in("12340").keys("Tab Enter").wait_for("leaves in 10s");
    // A server that knows none of them answers soon.
    runner.fleet = FakeFleet::new(runner.app.now, 0, 1);
    runner.pass_ms(10_500);
    let sizes: Vec<usize> = runner
        .requests
        .iter()
        .filter_map(|call| match call {
            ApiRequest::CreateCommands(create) => Some(create.targets.devices.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [10_000, 2_340]);
    assert!(runner.shows("12 340 refused: "), "{}", runner.text());
}
