//! What is shown carries its own time, and what is offered says what it means.

use quarterdeck_console::tui::{app::Link, store::WindowKey, theme::Tone};
use quarterdeck_protocol::api::Role;
use ratatui::style::Color;

use crate::runner::{Runner, caps};

/// The ink of the first row of a table.
fn ink(runner: &Runner) -> Color {
    runner.buffer[(6, 6)].fg
}

#[test]
fn a_screen_that_was_left_before_the_loss_says_how_old_its_rows_are() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2").pass_ms(500).keys("3").pass_ms(9_000);
    runner.silent = true;
    runner.lost("gone");
    assert!(runner.shows("as of 06:15:01 UTC"), "{}", runner.text());
    runner.keys("2");
    assert!(runner.shows("as of 06:14:52 UTC"), "{}", runner.text());
    runner.keys("3");
    assert!(runner.shows("as of 06:15:01 UTC"), "{}", runner.text());
}

#[test]
fn a_screen_that_is_come_back_to_says_how_old_it_is_until_the_server_answers() {
    for (there, away) in [("2", "3"), ("2 Enter", "3"), ("3 Enter", "2"), ("4", "3")] {
        let mut runner = Runner::new(120, 36);
        runner.keys(there).pass_ms(500).keys(away).pass_ms(9_000);
        runner.silent = true;
        runner.keys("[");
        // An answer within a few frames must not make the screen flicker.
        assert_ne!(ink(&runner), Color::Indexed(240), "{there}\n{}", runner.text());
        runner.pass_ms(250);
        assert!(runner.shows("LIVE"), "{there}\n{}", runner.text());
        let told = runner.shows("as of 06:14:52 UTC") && runner.shows("loading");
        assert!(told, "{there}\n{}", runner.text());
        assert_eq!(ink(&runner), Color::Indexed(240), "{there}\n{}", runner.text());
        runner.silent = false;
        runner.keys("] [").pass_ms(500);
        assert!(!runner.shows("as of"), "{there}\n{}", runner.text());
        assert_ne!(ink(&runner), Color::Indexed(240), "{there}\n{}", runner.text());
    }
}

#[test]
fn the_review_of_a_new_command_does_not_call_what_it_knew_now() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n Enter C-n").wait_for("Blast radius");
    assert!(runner.shows("Reached now"), "{}", runner.text());
    runner.silent = true;
    runner.lost("gone").pass_ms(7_000);
    assert!(matches!(runner.app.link, Link::Lost { .. }));
    assert!(!runner.shows("Reached now"), "{}", runner.text());
    let text = runner.text();
    let row = text.lines().position(|line| line.contains("online, as of 06:14:5"));
    let row = row.unwrap_or_else(|| panic!("no age\n{text}"));
    let good = runner.app.theme.style(Tone::Good).fg;
    let is_good = |x: u16| Some(runner.buffer[(x, row as u16)].fg) == good;
    assert!(!(0..120).any(is_good), "{text}");
}

#[test]
fn a_filtered_overview_does_not_say_that_all_is_quiet() {
    let (options, caps) = caps(false, false, false);
    let mut runner = Runner::unconnected(&options, &caps, 120, 36);
    runner.fleet.alerts.clear();
    runner.connect();
    runner.keys("/").text_in("no-such-alert").keys("Enter").pass_ms(300);
    assert!(runner.shows("No alert matches the filter."), "{}", runner.text());
    assert!(!runner.shows("All is quiet"), "{}", runner.text());
}

#[test]
fn the_overview_takes_no_status_since_it_shows_the_open_alerts() {
    let mut runner = Runner::new(120, 36);
    runner.keys("/").text_in("status:failed").keys("Enter").pass_ms(300);
    assert!(runner.shows("status: only open alerts stand here"), "{}", runner.text());
    assert!(runner.app.overlay.is_some(), "it is typed on");
    assert!(runner.app.list(WindowKey::OpenAlerts).filter.is_empty());
}

#[test]
fn help_says_that_read_only_keeps_an_admin_from_acting() {
    let (mut options, caps) = caps(false, false, false);
    options.read_only = true;
    let mut runner = Runner::unconnected(&options, &caps, 120, 50);
    runner.fleet.role = Role::Admin;
    runner.connect().keys("3 ?");
    assert!(runner.shows("(read-only)"), "{}", runner.text());
    assert!(!runner.shows("not with your role"), "{}", runner.text());
}

#[test]
fn the_menu_says_in_words_what_is_not_allowed_and_begins_with_what_is() {
    let (options, caps) = caps(false, false, false);
    let mut runner = Runner::unconnected(&options, &caps, 120, 36);
    runner.fleet.role = Role::Viewer;
    runner.connect().keys("3 a");
    assert!(runner.shows("needs the role operator"), "{}", runner.text());
    let text = runner.text();
    let chosen = text.lines().find(|line| line.contains("│ ▌ ")).expect("a cursor");
    assert!(!chosen.contains("needs the role"), "{text}");
}

#[test]
fn cancelling_many_says_how_many_of_them_wait_run_and_have_ended() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3").pass_ms(300);
    for _ in 0..20 {
        runner.keys("Space j");
    }
    let window = runner.app.store.window(WindowKey::Commands);
    let marks = &runner.app.list(WindowKey::Commands).marks;
    let statuses: Vec<_> =
        marks.keys().filter_map(|key| Some(window.find(key)?.command()?.status)).collect();
    let ended = statuses.iter().filter(|status| status.is_terminal()).count();
    let open = statuses.len() - ended;
    assert!(ended > 0 && open > 1, "of both some");
    runner.keys("C");
    assert!(runner.shows(&format!("Cancel {open} commands?")), "{}", runner.text());
    assert!(runner.shows(&format!("{ended} have ended")), "{}", runner.text());
}

#[test]
fn a_notice_covers_neither_a_pane_nor_the_tabs_of_a_small_screen() {
    let mut runner = Runner::new(40, 12);
    runner.keys("3 Enter").pass_ms(500);
    let tabs = runner.text().lines().nth(1).expect("tabs").to_owned();
    runner.app.toast("copied", Tone::Good);
    runner.settle();
    let text = runner.text();
    assert!(text.contains("copied"), "{text}");
    assert_eq!(text.lines().nth(1), Some(tabs.as_str()), "{text}");

    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").pass_ms(8_000);
    let before: Vec<String> = runner.text().lines().map(str::to_owned).collect();
    runner.app.toast("copied", Tone::Good);
    runner.settle();
    let after: Vec<String> = runner.text().lines().map(str::to_owned).collect();
    assert_eq!(before[1..35], after[1..35]);
    assert!(after[35].contains("copied"), "{after:?}");
}

#[test]
fn a_script_that_tells_no_progress_shows_none() {
    let mut runner = Runner::new(120, 36);
    let running = quarterdeck_protocol::command::CommandStatus::ExecutionStarted;
    for command in &mut runner.fleet.commands {
        if command.status == running {
            command.progress = Some(0);
        }
    }
    runner.keys("3 /").text_in("status:running").keys("Enter").wait_for("running");
    assert!(!runner.shows("0%"), "{}", runner.text());
}
