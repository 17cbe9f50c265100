//! Terminals on devices, from the key that opens one to its end.

use quarterdeck_console::{
    net::tunnel::{Ended, Piece, Snapshot, State, Status},
    tui::{
        effects::{Effect, NetEvent},
        pane::{layout::PaneId, notices::Allowed},
        term::input::Input,
        tunnels::{Record, TunnelEvent, TunnelNews},
    },
};
use quarterdeck_protocol::{
    api::Role,
    tunnel::{
        mark::{Mark, Size},
        session::{Mode, Watcher},
    },
};

use crate::runner::{Runner, caps};

fn typed(runner: &Runner, pane: u32) -> String {
    let bytes = runner.sessions.typed.get(&PaneId(pane)).cloned().unwrap_or_default();
    String::from_utf8(bytes).expect("text")
}

/// The line under a pane: the one that names the device and begins with a state.
fn status(runner: &Runner, word: &str) -> String {
    let text = runner.text();
    let line = text.lines().rev().find(|line| line.contains(word));
    line.unwrap_or_else(|| panic!("no {word}\n{text}")).to_owned()
}

#[test]
fn a_terminal_is_opened_typed_into_and_ends_with_its_reason() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    runner.type_in("size\r");
    // The whole screen but header, footer and the line under the pane.
    assert!(runner.shows("120x33"), "{}", runner.text());
    assert!(status(&runner, "LIVE").contains("rtt 48ms"), "{}", runner.text());
    assert!(status(&runner, "LIVE").contains("REC"), "{}", runner.text());
    runner.type_in("exit 3\r").wait_for("ended with exit code 3");
    runner.type_in("x");
    assert_eq!(typed(&runner, 0), "size\rexit 3\r", "nothing is typed into what has ended");
    runner.keys("Enter").wait_for("Welcome");
    assert!(!runner.shows("exit code"), "{}", runner.text());
}

#[test]
fn every_row_of_a_device_opens_a_terminal_on_it() {
    for keys in ["2", "2 Enter", "3", "3 Enter", "4 j j j", "1 j j j", "7"] {
        let mut runner = Runner::new(120, 36);
        runner.keys(keys).pass_ms(500).keys("t").wait_for("Welcome");
        assert!(runner.shows("Panes"), "{keys}\n{}", runner.text());
    }
}

#[test]
fn marked_devices_stand_side_by_side_and_the_fourth_is_refused_with_its_reason() {
    let mut runner = Runner::new(160, 40);
    runner.keys("2 Space Space Space Space t C-g 1").wait_for("Welcome");
    let shown = runner.text().matches("Welcome").count();
    assert_eq!(shown, 2, "one was open before\n{}", runner.text());
    assert!(runner.shows("A user may have 3 tunnels open."), "{}", runner.text());
}

#[test]
fn what_follows_the_prefix_key_is_for_the_console() {
    let mut runner = Runner::new(160, 40);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 t").wait_for("Welcome");
    runner.keys("C-g").type_in("|").wait_for("Welcome");
    assert_eq!(runner.app.panes.iter().count(), 2);
    runner.keys("C-g -").pass_ms(100);
    assert_eq!(runner.app.panes.iter().count(), 3);
    assert_eq!(runner.app.panes.focus(), Some(PaneId(2)));
    runner.keys("C-g h");
    assert_eq!(runner.app.panes.focus(), Some(PaneId(0)));
    runner.keys("C-g C-g").type_in("z");
    assert_eq!(typed(&runner, 0), "\x07z", "twice is the key itself");
    runner.keys("C-g z");
    assert_eq!(runner.app.layout.panes.len(), 1, "zoomed");
    runner.keys("C-g z C-g n");
    assert_eq!(runner.app.layout.panes.len(), 3);
    runner.keys("C-g e");
    assert!(runner.shows("e means nothing after C-g"), "{}", runner.text());
    runner.keys("C-g c").wait_for("2 ").pass_ms(100);
    assert!(runner.shows(" +2"), "a tab line\n{}", runner.text());
    runner.keys("C-g 1");
    assert_eq!(runner.app.layout.panes.len(), 3);
    runner.keys("C-g ?").wait_for("In a pane, after the prefix key");
    runner.keys("Esc C-g r").text_in(" here").keys("Enter");
    assert!(runner.shows(" here"), "{}", runner.text());
}

#[test]
fn synchronised_input_goes_to_all_and_says_so_in_each() {
    let mut runner = Runner::new(160, 40);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 Space Space t").wait_for("Welcome").keys("C-g s");
    assert_eq!(runner.text().matches("INTO ALL PANES").count(), 2, "{}", runner.text());
    runner.type_in("uptime\r");
    assert_eq!((typed(&runner, 0), typed(&runner, 1)), ("uptime\r".into(), "uptime\r".into()));
    runner.keys("C-g s").type_in("a");
    assert_eq!((typed(&runner, 0).len(), typed(&runner, 1).len()), (7, 8));
}

#[test]
fn one_pane_has_nothing_to_be_synchronised_with() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").keys("C-g s");
    assert!(runner.shows("there is one pane in this tab"), "{}", runner.text());
    assert!(!runner.shows("goes to all"), "{}", runner.text());
    runner.fleet.tunnels_max = 16;
    runner.keys("C-g").type_in("|").wait_for("Welcome").type_in("x");
    assert_eq!((typed(&runner, 0), typed(&runner, 1)), (String::new(), "x".into()));
}

#[test]
fn on_a_small_terminal_too_marked_devices_stand_side_by_side() {
    let mut runner = Runner::new(80, 24);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 Space Space t").wait_for("Welcome");
    let heights: Vec<_> = runner.app.layout.panes.iter().map(|(_, area)| area.height).collect();
    assert_eq!(heights, [21, 21], "{}", runner.text());
}

#[test]
fn panes_live_on_behind_other_screens_and_quitting_asks() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").keys("C-g d");
    assert!(runner.shows("Devices"), "{}", runner.text());
    runner.says(0, "meanwhile\x07");
    runner.keys("q").wait_for("Leave now?");
    assert!(runner.shows("programs run on"), "{}", runner.text());
    runner.keys("Enter 8").wait_for("meanwhile");
    runner.keys("C-g :").text_in("quit").keys("Enter").wait_for("Leave now?");
    runner.keys("Tab Enter");
    assert!(matches!(runner.effects.last(), Some(Effect::Quit)));
}

#[test]
fn a_lost_pane_dims_sends_nothing_and_comes_back_by_itself() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").type_in("ls");
    runner.fares(0, State::Lost, |status| status.age_ms = 12_000);
    assert!(status(&runner, "LOST").contains("LOST 12s"), "{}", runner.text());
    assert!(status(&runner, "LOST").contains("keys are not sent"), "{}", runner.text());
    let first = &runner.buffer[(0, 1)];
    assert!(first.modifier.contains(ratatui::style::Modifier::DIM), "the last screen is dimmed");
    runner.type_in("rm");
    assert_eq!(typed(&runner, 0), "ls");
    // By choice they wait.
    runner.keys("C-g q").type_in("x\r");
    assert!(status(&runner, "LOST").contains("2 B queued"), "{}", runner.text());
    assert_eq!(typed(&runner, 0), "ls");
    runner.fares(0, State::Live, |_| {});
    assert_eq!(typed(&runner, 0), "lsx\r");
    assert!(status(&runner, "LIVE").contains("LIVE"), "{}", runner.text());
}

#[test]
fn keys_that_were_lost_on_the_way_are_told() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    runner.fares(0, State::Lost, |_| {});
    runner.fares(0, State::Live, |status| status.has_lost_keys = true);
    assert!(runner.shows("may not have arrived"), "{}", runner.text());
}

#[test]
fn a_session_that_idles_is_warned_of() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    runner.fares(0, State::Live, |status| status.idle_warning_s = Some(60));
    runner.pass_ms(5_000);
    assert!(status(&runner, "LIVE").contains("idle: ends in 55s"), "{}", runner.text());
    // What withdraws it is said by the stream, once a key was sent.
    runner.fares(0, State::Live, |_| {});
    assert!(!runner.shows("idle:"), "{}", runner.text());
}

#[test]
fn who_owns_a_terminal_sees_that_somebody_else_may_type() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    assert!(!runner.shows("co-pilot") && !runner.shows("watch"), "{}", runner.text());
    let also = |status: &mut Status, mode| {
        let watcher = Watcher { mode, ..status.watchers[0].clone() };
        status.watchers.push(watcher);
    };
    runner.fares(0, State::Live, |status| also(status, Mode::Copilot));
    assert!(status(&runner, "LIVE").contains("  1 co-pilot  "), "{}", runner.text());
    assert!(!runner.shows("watch"), "{}", runner.text());
    runner.fares(0, State::Live, |status| also(status, Mode::Watch));
    assert!(status(&runner, "LIVE").contains("  1 watches  "), "{}", runner.text());
    assert!(!runner.shows("co-pilot"), "{}", runner.text());
    // Who watches sees who may type.
    runner.keys("C-g d 7 j w").wait_for("WATCHING");
    assert!(status(&runner, "WATCHING").contains("  owner  "), "{}", runner.text());
}

#[test]
fn what_a_device_wishes_of_the_operators_terminal_is_a_marker() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    let before = runner.app.title();
    runner.type_in("wish\r");
    let line = status(&runner, "LIVE");
    assert!(line.contains("refused: clipboard, title, notification"), "{line}");
    assert_eq!(runner.app.title(), before);
    let clipboard = |effect: &Effect| matches!(effect, Effect::CopyToClipboard(_));
    assert!(!runner.effects.iter().any(clipboard));
}

#[test]
fn questions_of_programs_are_answered_by_the_owner_alone() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").type_in("ask\r");
    let sent = typed(&runner, 0);
    assert!(sent.starts_with("ask\r\x1b[") && sent.ends_with('R'), "{sent:?}");
    // The same output, watched.
    let mut runner = Runner::new(120, 36);
    runner.keys("7 j w").wait_for("WATCHING");
    runner.says(0, "\x1b[6n\x1b[c");
    assert_eq!(typed(&runner, 0), "");
    runner.type_in("x");
    assert!(runner.shows("you watch, so nothing is sent"), "{}", runner.text());
    assert_eq!(typed(&runner, 0), "");
}

#[test]
fn several_lines_are_asked_about_before_they_are_pasted() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    runner.input(Input::Paste("uptime".into()));
    assert_eq!(typed(&runner, 0), "uptime");
    runner.input(Input::Paste("a\nb\n".into())).wait_for("Paste 2 lines?");
    runner.keys("Enter");
    assert_eq!(typed(&runner, 0), "uptime", "Cancel is preselected");
    runner.input(Input::Paste("a\nb\n".into())).keys("Tab Enter");
    assert_eq!(typed(&runner, 0), "uptimea\rb\r");
    runner.input(Input::Paste("x".repeat(2_000_000)));
    assert!(runner.shows("too much to paste"), "{}", runner.text());
}

#[test]
fn the_scrollback_is_searched_and_copied() {
    let mut runner = Runner::new(100, 30);
    runner.keys("2 t").wait_for("Welcome").type_in("seq 12000\r");
    for _ in 0..20 {
        runner.pass_ms(250);
    }
    assert!(runner.shows("line 12000 of the flood"), "{}", runner.text());
    runner.keys("C-g /").text_in("line 7777 of").keys("Enter");
    assert!(runner.shows("line 7777 of the flood"), "{}", runner.text());
    assert!(status(&runner, "LIVE").contains("rows back"), "{}", runner.text());
    // What comes meanwhile does not move it.
    runner.says(0, "more\r\nand more\r\n");
    assert!(runner.shows("line 7777 of the flood"), "{}", runner.text());
    runner.keys("V y");
    let copied = |effect: &Effect| match effect {
        Effect::CopyToClipboard(text) => Some(text.clone()),
        _ => None,
    };
    let text = runner.effects.iter().find_map(copied).expect("copied");
    assert_eq!(text, "line 7777 of the flood");
    assert!(runner.shows("and more"), "back at the end\n{}", runner.text());
    runner.keys("C-g ]");
    assert!(typed(&runner, 0).ends_with("line 7777 of the flood"));
    // The wheel goes back as well, and forth until it is over.
    runner.input(Input::Wheel { x: 5, y: 5, lines: -3 });
    assert!(status(&runner, "LIVE").contains("3 rows back"), "{}", runner.text());
    runner.input(Input::Wheel { x: 5, y: 5, lines: 9 });
    assert!(!runner.app.panes.is_scrolling());
}

#[test]
fn output_that_was_left_out_has_a_line_in_the_scrollback() {
    let mut runner = Runner::new(100, 30);
    runner.keys("2 t").wait_for("Welcome").type_in("seq 100\r");
    for _ in 0..4 {
        runner.pass_ms(250);
    }
    let size = Size::new(98, 26).expect("a size");
    let brings = |runner: &mut Runner, offset, painted_from, dropped_bytes| {
        let screen = "after\r\n".repeat(30).into();
        let snapshot = Snapshot { offset, size, screen, painted_from, dropped_bytes };
        runner.brings(0, Piece::Snapshot(snapshot));
        assert!(!runner.shows("of output left out"), "{}", runner.text());
        runner.keys("C-g /").text_in("left out").keys("Enter");
    };
    // All of it is there: a mark is none of the bytes, nor is what the pane was shown before.
    runner.brings(0, Piece::Mark { offset: 9_999, mark: Mark::Resize(size) });
    brings(&mut runner, 10_300, 10_000, 0);
    assert!(!runner.shows("of output left out"), "{}", runner.text());
    runner.keys("Esc");
    for (offset, dropped_bytes, line) in [
        (3_110_300, 0, "--- 3.1 MB of output left out ---"),
        (99_110_300, 64_000_000, "--- 96 MB of output left out; the session's first 64 MB"),
    ] {
        brings(&mut runner, offset, offset - 300, dropped_bytes);
        assert!(runner.shows(line), "{}", runner.text());
        runner.keys("Esc");
    }
}

#[test]
fn the_local_escape_ends_and_detaches() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").type_in("\r~d").wait_for("detached");
    let open = runner.fleet.tunnels.iter().filter(|t| !t.status.is_over()).count();
    assert_eq!(open, 3, "its program runs on");
    assert!(status(&runner, "DETACHED").contains("DETACHED  "), "{}", runner.text());
    assert!(runner.shows("C-g x closes this pane, not the program"), "{}", runner.text());
    assert!(!runner.shows("ENDED"), "{}", runner.text());
    // Enter goes back to the same one.
    runner.keys("Enter").wait_for("Welcome").type_in("\r~.").wait_for("it was closed");
    let open = runner.fleet.tunnels.iter().filter(|t| !t.status.is_over()).count();
    assert_eq!(open, 2);
    assert_eq!((typed(&runner, 0), typed(&runner, 1)), ("\r".to_owned(), "\r".to_owned()));
}

#[test]
fn a_terminal_that_another_console_took_runs_on_and_is_taken_back() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    let news = TunnelNews::Ended(Ended::TakenOver);
    runner.mailbox().put(NetEvent::Tunnel(TunnelEvent { pane: PaneId(0), news }));
    runner.wait_for("Enter takes it back");
    assert!(status(&runner, "TAKEN OVER").contains("TAKEN OVER  "), "{}", runner.text());
    assert!(runner.shows("another console took it over; its program runs on"));
    let open = runner.fleet.tunnels.iter().filter(|t| !t.status.is_over()).count();
    runner.keys("Enter").wait_for("Welcome");
    assert!(!runner.shows("TAKEN OVER"), "{}", runner.text());
    assert_eq!(runner.fleet.tunnels.iter().filter(|t| !t.status.is_over()).count(), open);
}

#[test]
fn what_a_former_session_says_late_is_not_taken_for_the_one_that_was_opened_since() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").type_in("\r~d").wait_for("detached");
    runner.keys("Enter").wait_for("Welcome");
    let late = TunnelEvent { pane: PaneId(0), news: TunnelNews::Ended(Ended::Detached) };
    runner.mailbox().put(NetEvent::Tunnel(late));
    runner.type_in("id");
    assert!(!runner.shows("DETACHED"), "{}", runner.text());
    assert_eq!(typed(&runner, 1), "id", "it has the place, and the keyboard");
}

#[test]
fn closing_a_pane_asks_first_and_the_last_one_leaves_the_screen() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome").keys("C-g x").wait_for("Close the terminal on");
    runner.keys("Enter");
    assert_eq!(runner.app.panes.open_count(), 1, "Cancel is preselected");
    runner.keys("C-g x Tab Enter");
    assert!(runner.app.panes.is_empty());
    assert!(runner.shows("Devices"), "{}", runner.text());
    runner.keys("8").wait_for("No terminal is open");
}

#[test]
fn a_pane_is_resized_on_the_device_and_its_picture_follows() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 t").wait_for("Welcome").resize(100, 30);
    let (pane, size) = *runner.sessions.resized.last().expect("asked for");
    assert_eq!((pane, size.cols.get(), size.rows.get()), (PaneId(0), 100, 27));
    let model = runner.app.panes.get(PaneId(0)).expect("open").pane.screen().size();
    assert_eq!((model.cols, model.rows), (100, 27));
    // Who watches resizes nothing.
    let asked = runner.sessions.resized.len();
    runner.keys("C-g d 7 j j w").wait_for("WATCHING");
    runner.sessions.resized.truncate(asked);
    runner.resize(80, 24);
    assert!(runner.sessions.resized.iter().all(|(pane, _)| *pane == PaneId(0)));
}

#[test]
fn viewers_and_read_only_consoles_only_watch() {
    let (mut options, caps) = caps(false, false, false);
    options.read_only = true;
    let mut runner = Runner::with(&options, &caps, 120, 36);
    runner.keys("2 t");
    assert!(runner.shows("read-only"), "{}", runner.text());
    runner.keys("7 Enter").wait_for("WATCHING");
    let (options, caps) = self::caps(false, false, false);
    let mut runner = Runner::unconnected(&options, &caps, 120, 36);
    runner.fleet.role = Role::Viewer;
    runner.connect();
    runner.keys("2 t");
    assert!(runner.shows("needs the role operator"), "{}", runner.text());
    runner.keys("7 c");
    assert!(runner.shows("needs the role operator"), "{}", runner.text());
    runner.keys("w").wait_for("WATCHING");
}

#[test]
fn a_pane_says_for_itself_how_true_it_is() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 t").wait_for("Welcome");
    runner.silent = true;
    runner.lost("connection refused");
    assert!(runner.shows("Welcome"), "{}", runner.text());
    let first = &runner.buffer[(0, 1)];
    assert!(!first.modifier.contains(ratatui::style::Modifier::DIM), "its own stream is live");
}

#[test]
fn a_small_screen_shows_one_pane_at_a_time() {
    let mut runner = Runner::new(160, 40);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 Space Space t").wait_for("Welcome").resize(40, 12);
    assert_eq!(runner.app.layout.panes.len(), 1);
    assert!(runner.shows("2/2"), "{}", runner.text());
    runner.keys("C-g o");
    assert!(runner.shows("1/2"), "{}", runner.text());
}

#[test]
fn the_mouse_goes_to_a_pane_and_to_the_program_that_wants_it() {
    let mut runner = Runner::new(160, 40);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 Space Space t").wait_for("Welcome");
    assert_eq!(runner.app.panes.focus(), Some(PaneId(1)));
    runner.input(Input::Click { x: 3, y: 5 });
    assert_eq!(runner.app.panes.focus(), Some(PaneId(0)));
    runner.says(0, "\x1b[?1000h\x1b[?1006h");
    runner.input(Input::Click { x: 3, y: 5 });
    assert_eq!(typed(&runner, 0), "\x1b[<0;4;5M");
}

#[test]
fn sessions_are_killed_by_their_owner_or_an_admin_and_confirmed() {
    let mut runner = Runner::new(120, 36);
    runner.keys("7 j").pass_ms(300).keys("K");
    assert!(runner.shows("you may end your own"), "{}", runner.text());
    runner.keys("k K").wait_for("End ops-1's terminal").keys("Tab Enter");
    runner.tell_changes().wait_for("closed by user");
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("j K").wait_for("End ann's terminal").keys("Tab Enter").tell_changes();
    runner.wait_for("killed");
}

#[test]
fn tunnels_are_filtered_by_who_what_and_when() {
    let mut runner = Runner::new(120, 36);
    runner.keys("7 /").text_in("user:ann status:closed").keys("Enter").pass_ms(500);
    let expected =
        runner.fleet.tunnels.iter().filter(|t| t.user == "ann" && t.status.is_over()).count();
    assert!(runner.shows(&format!("of {expected}")), "{}", runner.text());
    runner.keys("Esc /").text_in("from:2026-11-21T06:00:00Z").keys("Enter").pass_ms(500);
    assert!(runner.shows("1 of 1"), "{}", runner.text());
}

#[test]
fn open_tunnels_are_handed_over_and_on_the_overview() {
    let mut runner = Runner::new(120, 36);
    runner.pass_ms(500);
    assert!(runner.shows("2 tunnels open"), "{}", runner.text());
    runner.keys("H").wait_for("Open tunnels: 2");
    assert!(runner.shows("terminal on"), "{}", runner.text());
}

#[test]
fn what_a_device_may_do_to_the_terminal_is_done_in_its_name() {
    let (mut options, caps) = caps(false, false, false);
    options.allowed = Allowed { clipboard: true, titles: true, notifications: true };
    let mut runner = Runner::with(&options, &caps, 160, 36);
    runner.keys("2 t").wait_for("Welcome").type_in("wish\r").wait_for("done");
    assert!(status(&runner, "LIVE").contains("\"not mine\""), "{}", runner.text());
    assert!(!runner.shows("refused"), "{}", runner.text());
    assert!(runner.shows("has set your clipboard (6 B)"), "{}", runner.text());
    let copied =
        |effect: &Effect| matches!(effect, Effect::CopyToClipboard(text) if text == "stolen");
    assert_eq!(runner.effects.iter().filter(|effect| copied(effect)).count(), 1);
    let told = |effect: &Effect| matches!(effect, Effect::Notify(text) if text.ends_with(": look"));
    assert_eq!(runner.effects.iter().filter(|effect| told(effect)).count(), 1);
}

#[test]
fn a_terminal_that_is_to_be_recorded_is_and_so_is_the_one_beside_it() {
    for (title, record) in [
        ("open a recorded terminal", Record::Output),
        ("recorded terminal, typed", Record::OutputAndKeys),
    ] {
        let mut runner = Runner::new(120, 36);
        runner.keys("2 :").text_in(title).keys("Enter").wait_for("Welcome");
        runner.keys("C-g %").pass_ms(500);
        let records: Vec<_> =
            runner.app.panes.iter().map(|(_, pane)| pane.session.record()).collect();
        assert_eq!(records, [record; 2], "{}", runner.text());
    }
}
