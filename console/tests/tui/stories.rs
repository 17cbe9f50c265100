//! What operators do, from the first key to the last.

use quarterdeck_console::tui::{
    app::keymap::Keymap, effects::Effect, term::input::Input, theme::Tone,
};
use quarterdeck_protocol::{api::Role, command::CommandStatus, device::DeviceStatus::Online};

use crate::runner::{Runner, caps, start};

#[test]
fn a_command_is_sent_to_marked_devices_and_seen_to_its_end() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 Space Space Space n").wait_for("What shall they do?");
    runner.go_to_operation("restart_service").keys("Enter");
    runner.wait_for("Restart service").text_in("mqtt-bridge").keys("C-n");
    runner.wait_for("Blast radius");
    assert!(runner.shows("3 devices"), "{}", runner.text());
    assert!(runner.shows("quarterdeck run restart_service"), "{}", runner.text());
    runner.keys("Enter").wait_for("3 commands queued");
    assert!(runner.shows("1 of 3"), "{}", runner.text());
    runner.keys("Enter").wait_for("restart_service on");
    runner.wait_for("completed");
}

#[test]
fn an_operation_is_found_by_typing_a_part_of_it() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").wait_for("1 of ");
    assert!(runner.shows("/ filter"), "{}", runner.text());
    // What is typed is no key: `q` would quit, `j` would move.
    runner.keys("/").text_in("reb").wait_for("1 of 1");
    assert!(runner.shows("Reboot host") && !runner.shows("Disk usage"), "{}", runner.text());
    runner.keys("Esc").wait_for("Disk usage");
    runner.keys("/").text_in("jq").wait_for("No operation matches");
    runner.keys("Enter Enter").wait_for("no operation matches: Esc drops the filter");
    runner.keys("Esc").wait_for("Disk usage");
    runner.keys("/").text_in("disk !logs").keys("Enter").wait_for("/disk !logs   1 of 1");
    runner.keys("Enter").wait_for("3 Configure");
    assert!(runner.shows("Disk usage"), "{}", runner.text());
    // In a form `/` is a character, in the review it is nothing.
    assert!(!runner.shows("/ filter"), "{}", runner.text());
    runner.keys("C-n").wait_for("Blast radius").keys("/").wait_for("nothing to filter");
}

#[test]
fn a_card_is_chosen_by_a_click_and_taken_by_another() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").wait_for("1 of ");
    // The second card of the first row.
    runner.input(Input::Click { x: 45, y: 7 });
    assert!(runner.shows("2 of "), "{}", runner.text());
    runner.input(Input::Click { x: 45, y: 7 });
    runner.wait_for("3 Configure");
    assert!(runner.shows("System info"), "{}", runner.text());
}

#[test]
fn a_field_that_the_server_refuses_says_so_beside_it() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").go_to_operation("restart_service").keys("Enter");
    runner.text_in("forbidden").keys("C-n").wait_for("Blast radius").keys("Enter");
    runner.wait_for("is not allowed");
    assert!(runner.shows("3 Configure"), "{}", runner.text());
}

#[test]
fn a_payload_that_is_wrong_is_not_sent() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").go_to_operation("restart_service").keys("Enter C-n");
    assert!(runner.shows("is needed"), "{}", runner.text());
    runner.text_in("--now").keys("C-n");
    assert!(runner.shows("expected a unit's name"), "{}", runner.text());
}

#[test]
fn a_dangerous_batch_is_typed_waits_ten_seconds_and_can_be_called_back() {
    let mut runner = Runner::new(120, 36);
    let before = runner.fleet.commands.len();
    runner.keys("2 n");
    runner.go_to_operation("reboot_host");
    runner.wait_for("Reboot host").keys("Enter C-n").wait_for("Blast radius").keys("Enter");
    assert!(runner.shows("Type reboot_host"), "{}", runner.text());
    // Cancel is preselected, and the button is dead until the name is there.
    runner.text_in("reboot").keys("Tab Enter");
    assert!(runner.shows("Type reboot_host"), "{}", runner.text());
    runner.keys("Tab").text_in("_host").keys("Tab Enter").wait_for("leaves in 10s");
    runner.pass_ms(9_000);
    assert_eq!(runner.fleet.commands.len(), before, "nothing leaves in its grace");
    runner.keys("u").wait_for("called back");
    runner.pass_ms(5_000);
    assert_eq!(runner.fleet.commands.len(), before);
    // Once more, and this time it leaves.
    runner.keys("Enter").text_in("reboot_host").keys("Tab Enter").pass_ms(10_500);
    assert_eq!(runner.fleet.commands.len(), before + 1);
}

#[test]
fn enter_on_a_question_cancels() {
    let mut runner = Runner::new(100, 30);
    runner.keys("3 C").wait_for("Cancel 1 command?").keys("Enter");
    assert!(runner.shows("nothing was sent"), "{}", runner.text());
}

#[test]
fn an_action_without_an_answer_shows_as_pending_never_as_done() {
    let mut runner = Runner::new(120, 30);
    runner.keys("3 G").pass_ms(500).keys("g").pass_ms(500);
    runner.silent = true;
    runner.keys("C Tab Enter");
    assert!(runner.shows("1 pending"), "{}", runner.text());
    assert!(runner.shows("◌cancel"), "{}", runner.text());
    assert!(!runner.shows("⊘"), "{}", runner.text());
}

fn a_reboot_in_its_grace(cols: u16, rows: u16) -> Runner {
    let mut runner = Runner::new(cols, rows);
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("2 R");
    let name = runner.fleet.devices.iter().map(|d| d.id.to_string()).min().expect("some");
    runner.text_in(&name).keys("Tab Enter").wait_for("leaves in");
    runner
}

#[test]
fn a_long_message_leaves_in_sight_what_can_be_called_back() {
    let mut runner = a_reboot_in_its_grace(40, 12);
    runner.app.tell("the server said much ".repeat(20), Tone::Warn);
    runner.pass_ms(250);
    assert!(runner.shows("the server said much"), "{}", runner.text());
    assert!(runner.shows("leaves in"), "{}", runner.text());
}

#[test]
fn a_grace_that_ends_without_a_connection_sends_nothing_and_says_so() {
    let mut runner = a_reboot_in_its_grace(120, 36);
    runner.silent = true;
    runner.lost("gone");
    runner.pass_ms(11_000);
    assert!(runner.shows("not sent, there is no connection"), "{}", runner.text());
}

#[test]
fn a_grace_that_was_slept_through_sends_nothing() {
    let mut runner = a_reboot_in_its_grace(120, 36);
    // The lid was closed: nobody has said yet that the connection is gone.
    let before = runner.fleet.commands.len();
    runner.silent = true;
    runner.app.now = runner.app.now.plus_millis(3_600_000);
    runner.pass_ms(1);
    assert!(runner.shows("not sent, there is no connection"), "{}", runner.text());
    assert_eq!(runner.fleet.commands.len(), before);
}

#[test]
fn the_palette_finds_screens_by_name_and_quit_leaves() {
    let mut runner = Runner::new(100, 30);
    for (name, seen) in [
        ("devices", "› Devices"),
        ("commands", "› Commands"),
        ("alerts", "› Alerts"),
        ("audit", "› Audit"),
        ("users", "› Users"),
        ("overview", "› Overview"),
    ] {
        runner.keys(":").text_in(name).keys("Enter");
        assert!(runner.shows(seen), "{name}\n{}", runner.text());
    }
    runner.keys(":").text_in("quit").keys("Enter");
    assert!(matches!(runner.effects.last(), Some(Effect::Quit)));
}

#[test]
fn the_palette_does_an_action_by_its_title() {
    let mut runner = Runner::new(100, 30);
    runner.keys("2 :").text_in("edit tags").keys("Enter");
    assert!(runner.shows("Tags of"), "{}", runner.text());
}

#[test]
fn a_filter_finds_and_escape_drops_it() {
    let mut runner = Runner::new(100, 30);
    runner.keys("3 /").text_in("status:failed").keys("Enter").pass_ms(300);
    assert!(runner.shows("/status:failed"), "{}", runner.text());
    let failed = runner.fleet.commands.iter().filter(|c| c.status == CommandStatus::Failed).count();
    assert!(runner.shows(&format!("1 of {failed}")), "{}", runner.text());
    runner.keys("Esc").pass_ms(300);
    assert!(runner.shows("1 of 1 204"), "{}", runner.text());
}

#[test]
fn the_cursor_stays_on_its_row_while_rows_come_in_above() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 j j j j j").pass_ms(300);
    let list = quarterdeck_console::tui::store::WindowKey::Commands;
    let key = runner.app.list(list).key.clone();
    for _ in 0..3 {
        runner.fleet.new_command();
        runner.tell_changes();
    }
    assert_eq!(runner.app.list(list).key, key);
    assert_eq!(runner.app.list(list).cursor, 8);
}

#[test]
fn a_million_rows_are_asked_for_a_window_at_a_time() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.rows = Some(1_000_000);
    runner.keys("3").wait_for("of 1 000 000");
    runner.keys("G").wait_for("1 000 000 of 1 000 000");
    runner.keys("PageUp PageUp").pass_ms(300);
    assert!(!runner.text().contains("   ·\n"), "{}", runner.text());
    let window = runner.app.store.window(quarterdeck_console::tui::store::WindowKey::Commands);
    assert!(window.rows().len() <= 500);
}

#[test]
fn read_only_offers_nothing_that_changes() {
    let (mut options, caps) = caps(false, false, false);
    options.read_only = true;
    let mut runner = Runner::with(&options, &caps, 120, 36);
    runner.keys("2 n");
    assert!(runner.shows("read-only"), "{}", runner.text());
    assert!(!runner.shows("What shall they do?") && !runner.shows("n new command"));
}

#[test]
fn a_viewer_is_told_which_role_it_takes() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.role = Role::Viewer;
    runner.connect();
    runner.keys("3 C");
    assert!(runner.shows("needs the role operator"), "{}", runner.text());
}

#[test]
fn an_enrolment_token_is_shown_once_and_copied() {
    let mut runner = Runner::new(100, 30);
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("2 e").wait_for("New enrolment token");
    runner.keys("Enter Enter Tab Enter").wait_for("qde_").keys("y");
    assert!(
        runner
            .effects
            .iter()
            .any(|e| matches!(e, Effect::CopyToClipboard(t) if t.starts_with("qde_")))
    );
    runner.keys("Esc");
    assert!(!runner.shows("qde_"));
}

#[test]
fn a_user_that_exists_is_refused_beside_the_name() {
    let mut runner = Runner::new(100, 30);
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("6 n").text_in("ops-1").keys("Tab").text_in("secret").keys("Tab Enter");
    runner.wait_for("That name is taken");
    assert!(!runner.shows("secret"), "{}", runner.text());
    runner.keys("Up Up C-u").text_in("ops-9").keys("Tab Tab Enter").wait_for("saved");
    runner.keys("1 6").wait_for("ops-9");
}

#[test]
fn alerts_are_acknowledged_silenced_and_lead_to_their_cause() {
    let mut runner = Runner::new(120, 36);
    runner.keys("! A").pass_ms(500);
    runner.tell_changes();
    assert!(runner.shows("ack ops-1"), "{}", runner.text());
    runner.keys("s Right Enter").pass_ms(500);
    runner.tell_changes();
    assert!(runner.shows("silenced 7h"), "{}", runner.text());
    runner.keys("j j j Enter");
    assert!(runner.shows("› Devices ›"), "{}", runner.text());
}

#[test]
fn history_goes_back_and_forward() {
    let mut runner = Runner::new(100, 30);
    runner.keys("2 Enter [").wait_for("› Devices").keys("]").wait_for("Facts");
}

#[test]
fn frozen_screens_stay_until_they_are_let_go() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 p");
    assert!(runner.shows("FROZEN"), "{}", runner.text());
    let before = runner.fleet.commands.len();
    runner.fleet.new_command();
    runner.tell_changes();
    assert!(runner.shows("of 1 204"), "{before}\n{}", runner.text());
    runner.keys("p").wait_for("of 1 205");
}

#[test]
fn what_is_frozen_goes_on_when_another_screen_is_shown() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 p");
    assert!(runner.shows("FROZEN"), "{}", runner.text());
    runner.keys("j Enter").wait_for("Timeline");
    assert!(!runner.shows("FROZEN") && !runner.shows("loading"), "{}", runner.text());
    runner.keys("p Tab");
    assert!(!runner.shows("FROZEN") && !runner.shows("loading"), "{}", runner.text());
}

#[test]
fn logs_are_searched_with_n_and_capital_n() {
    let mut runner = Runner::new(100, 20);
    runner.keys("3 j Enter Tab Tab Tab").pass_ms(300);
    runner.keys("g /").text_in("verify").keys("Enter");
    let first = runner.app.viewer.found.expect("it is there");
    runner.keys("n");
    assert!(runner.app.viewer.found > Some(first), "{}", runner.text());
    runner.keys("N");
    assert_eq!(runner.app.viewer.found, Some(first));
    runner.keys("Esc n");
    assert!(runner.shows("What shall they do?"), "n means new again\n{}", runner.text());
}

/// On the response of a command that has one, which is `{"ok": …, "filesystems": [{…}, {…}], …}`.
fn at_a_response(runner: &mut Runner) {
    let done = runner.fleet.commands.iter().find(|c| c.result.is_some()).expect("there is one");
    let id = done.id.to_string();
    runner.keys("'").text_in(&id).keys("Enter Tab Tab").wait_for("filesystems");
}

fn copied(runner: &Runner) -> &str {
    match runner.effects.last() {
        Some(Effect::CopyToClipboard(text)) => text,
        other => panic!("nothing was copied: {other:?}"),
    }
}

#[test]
fn json_folds_where_the_cursor_is_and_its_values_are_copied() {
    let mut runner = Runner::new(100, 30);
    at_a_response(&mut runner);
    runner.keys("j Enter");
    assert!(runner.shows("filesystems: [ 2 items ],"), "{}", runner.text());
    assert!(!runner.shows("used_percent"), "{}", runner.text());
    runner.keys("y");
    assert!(copied(&runner).starts_with("[\n"), "{}", copied(&runner));
    runner.keys("Space j j j .");
    assert_eq!(copied(&runner), ".filesystems[0].used_percent");
    runner.keys("y");
    assert_eq!(copied(&runner), "61");
    runner.keys("- +").keys("g -");
    assert!(runner.shows("filesystems: [ 2 items ]"), "{}", runner.text());
}

#[test]
fn a_search_in_json_unfolds_what_it_finds() {
    let mut runner = Runner::new(100, 30);
    at_a_response(&mut runner);
    runner.keys("- /").text_in("/var").keys("Enter .");
    assert_eq!(copied(&runner), ".filesystems[1].mount");
    runner.keys("/ C-u").text_in("mount").keys("Enter N .");
    assert_eq!(copied(&runner), ".filesystems[0].mount");
    runner.keys("n .");
    assert_eq!(copied(&runner), ".filesystems[1].mount");
}

#[test]
fn the_cursor_stays_in_sight_in_json_that_is_longer_than_the_screen() {
    let mut runner = Runner::new(60, 12);
    at_a_response(&mut runner);
    for _ in 0..2 {
        runner.keys("G").pass_ms(100);
        assert!(runner.shows("exit code 0"), "{}", runner.text());
        runner.keys("g").pass_ms(100);
        assert!(runner.shows("filesystems"), "{}", runner.text());
    }
}

#[test]
fn a_shift_is_handed_over_in_words_that_can_be_exported() {
    let mut runner = Runner::new(120, 40);
    runner.keys("H").wait_for("Shift handover");
    for said in [
        "Alerts that nobody acknowledged: ",
        "site fra1: 188 devices offline",
        "Commands that went wrong since 2026-11-20 18:14:52 UTC: ",
        "Under way",
        "Reboots left (at most 3 in 15 min per device)",
        "(3 used)",
    ] {
        runner.keys("g");
        for _ in 0..4 {
            if runner.shows(said) {
                break;
            }
            runner.keys("PageDown");
        }
        assert!(runner.shows(said), "{said}\n{}", runner.text());
    }
    runner.keys("x");
    let Some(Effect::WriteFile { name, content }) = runner.effects.last() else {
        panic!("no file")
    };
    assert!(name.starts_with("handover-"), "{name}");
    assert!(content.contains("Reboots left") && content.contains("site fra1"), "{content}");
    runner.keys(": h a n d o v e r Enter");
    assert!(runner.shows("› Shift handover"), "{}", runner.text());
}

#[test]
fn a_handover_without_a_connection_says_as_of_when() {
    let mut runner = Runner::new(120, 40);
    runner.keys("H").wait_for("Shift handover");
    runner.silent = true;
    runner.lost("gone");
    runner.pass_ms(1_000);
    assert!(runner.shows("No connection: this is as of 2026-11-21 06:14"), "{}", runner.text());
}

#[test]
fn a_filter_by_an_unknown_column_is_named_and_stays_to_be_mended() {
    let mut runner = Runner::new(140, 30);
    runner.keys("3 /").text_in("colour:red").keys("Enter");
    assert!(runner.shows("there is no column \"colour\" here"), "{}", runner.text());
    assert!(runner.shows("/colour:red"), "{}", runner.text());
    for _ in 0.."colour:red".len() {
        runner.keys("Backspace");
    }
    runner.text_in("!type:ping ~rscr").keys("Enter");
    let wanted = |kind: &str| kind == "run_script";
    let found = runner.fleet.commands.iter().filter(|c| wanted(&c.kind)).count();
    runner.wait_for(&format!("1 of {found}"));
}

#[test]
fn words_that_were_found_are_shown_in_their_rows() {
    let mut runner = Runner::new(120, 30);
    runner.keys("2 /").text_in("~edg1 !zzz").keys("Enter").pass_ms(300);
    let mark = runner.app.theme.style(quarterdeck_console::tui::theme::Tone::Match);
    let marked: String = runner
        .buffer
        .content
        .iter()
        .filter(|cell| cell.bg == mark.bg.unwrap_or_default() && Some(cell.fg) == mark.fg)
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    assert!(marked.starts_with("edg1edg1"), "{marked}\n{}", runner.text());
}

#[test]
fn a_view_is_saved_and_taken_again() {
    let mut runner = Runner::new(100, 30);
    runner.keys("3 /").text_in("status:failed").keys("Enter v Enter");
    runner.text_in("broken").keys("Enter").wait_for("saved as broken");
    assert!(
        runner.effects.iter().any(|e| matches!(e, Effect::SaveState(t) if t.contains("broken")))
    );
    runner.keys("Esc").pass_ms(300).keys("v Enter").pass_ms(300);
    assert!(runner.shows("/status:failed"), "{}", runner.text());
}

#[test]
fn columns_and_order_are_chosen() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 o").wait_for("Sort by").keys("j Enter").pass_ms(300);
    assert!(runner.shows("STATUS▴"), "{}", runner.text());
    runner.keys("S").wait_for("Columns").keys("Space Esc");
    assert!(!runner.shows("TYPE"), "{}", runner.text());
}

#[test]
fn quitting_while_something_waits_asks() {
    let mut runner = Runner::new(120, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    let name = runner.fleet.devices.iter().map(|d| d.id.to_string()).min().expect("some");
    runner.keys("2 R").text_in(&name).keys("Tab Enter q").wait_for("Leave now?");
    runner.keys("Esc q Tab Enter");
    assert!(matches!(runner.effects.last(), Some(Effect::Quit)));
}

#[test]
fn a_keymap_file_moves_keys_and_the_footer_says_the_new_ones() {
    let mut runner = Runner::new(120, 36);
    runner.app.keymap = Keymap::parse("[keys]\n\"new\" = [\"F2\"]\n").expect("valid");
    runner.keys("2 n").pass_ms(250);
    assert!(runner.shows("F2 new command"), "{}", runner.text());
    runner.keys("F2").wait_for("What shall they do?");
}

#[test]
fn a_quiet_screen_is_not_drawn_again() {
    let (options, caps) = caps(false, false, false);
    let mut runner = Runner::with(&options, &caps, 120, 36);
    runner.keys("6").pass_ms(1_000);
    let mut encoder = quarterdeck_console::tui::term::frame::Encoder::new(caps.abilities);
    runner.bytes(&mut encoder);
    runner.pass_ms(250);
    assert_eq!(runner.bytes(&mut encoder), 0);
}

#[test]
fn a_command_is_sent_again_with_changes_from_its_own_screen() {
    let mut runner = Runner::new(120, 36);
    let at = runner.fleet.commands.iter().position(|c| c.kind == "restart_service");
    let id = runner.fleet.commands[at.expect("there is one")].id.to_string();
    runner.keys("'").text_in(&id).keys("Enter").wait_for("restart_service on");
    runner.keys("n").go_to_operation("restart_service").keys("Enter");
    assert!(runner.shows("mqtt-bridge"), "{}", runner.text());
}

#[test]
fn a_device_that_is_not_heard_again_is_not_shown_as_there() {
    let mut runner = Runner::new(120, 36);
    for device in runner.fleet.devices.iter_mut().filter(|device| device.status == Online) {
        device.unheard_since = Some(start().plus_seconds(-5));
    }
    runner.connect();
    runner.wait_for("of 240   200 unheard").keys("2").wait_for("online?");
    assert!(!runner.text().lines().any(|line| line.contains("● online ")), "{}", runner.text());
    runner.keys("/").text_in("status:online").keys("Enter Enter").wait_for("Not heard since");
    assert!(runner.shows("5s ago"), "{}", runner.text());
    // What it would be sent to is counted among those not known.
    runner.keys("n").go_to_operation("ping").keys("Enter C-n").wait_for("Blast radius");
    assert!(runner.shows("1 whose state is not known here"), "{}", runner.text());
}

#[test]
fn a_timeline_speaks_in_words_and_enter_opens_the_command_of_its_entry() {
    let mut runner = Runner::new(120, 36);
    let command = runner
        .fleet
        .commands
        .iter()
        .find(|command| command.status == CommandStatus::Failed && command.exit_code.is_some())
        .expect("a failed one");
    let device = command.device_id.to_string();
    let exit = format!("exit {}", command.exit_code.expect("it ended"));
    runner.keys("2 /").text_in(&device).keys("Enter Enter").wait_for("Last seen");
    runner.keys("Tab Tab Tab").wait_for(&exit);
    assert!(!runner.shows("exit_code"), "{}", runner.text());
    runner.keys("Enter").wait_for("Payload");
    assert!(runner.shows("Response") && runner.shows(&device), "{}", runner.text());
}
