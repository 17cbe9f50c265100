//! What is offered does something, and covers nothing that matters.

use quarterdeck_console::tui::{
    TuiOptions,
    app::{actions::ACTIONS, dialog::Overlay, palette::Entry},
    effects::ApiRequest,
    theme::Tone,
};
use quarterdeck_protocol::api::Role;

use crate::runner::{Runner, caps};

/// The last row, with the keys.
fn footer(runner: &Runner) -> String {
    runner.text().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn keys_are_offered_on_the_tabs_where_they_mean_something() {
    let mut runner = Runner::new(200, 36);
    let first = runner.fleet.devices.iter().map(|device| device.id.clone()).min();
    for command in &mut runner.fleet.commands {
        if first.as_ref() == Some(&command.device_id) {
            command.status = quarterdeck_protocol::command::CommandStatus::ExecutionStarted;
        }
    }
    runner.keys("2 Enter");
    assert!(!footer(&runner).contains("cancel"), "{}", runner.text());
    runner.keys("C").wait_for("there is no command here");
    runner.keys("Tab Tab");
    assert!(footer(&runner).contains("C cancel"), "{}", runner.text());
}

#[test]
fn the_help_of_a_screen_of_text_has_each_section_once() {
    let mut runner = Runner::new(120, 36);
    runner.keys("H ?").wait_for("Keys of this screen");
    let titles = runner.text().matches("In logs and JSON").count();
    assert_eq!(titles, 1, "{}", runner.text());
}

#[test]
fn what_is_over_is_not_cancelled_and_what_runs_is_not_retried() {
    let mut runner = Runner::new(200, 36);
    runner.keys("3 Enter").wait_for("▸ running");
    assert!(footer(&runner).contains("C cancel"), "{}", runner.text());
    assert!(!footer(&runner).contains("r retry"), "{}", runner.text());
    runner.keys("r").wait_for("it is not over yet");
    runner.keys("Esc / ").text_in("status:failed").keys("Enter").pass_ms(500);
    runner.keys("Enter").wait_for("✗ failed");
    assert!(!footer(&runner).contains("C cancel"), "{}", runner.text());
    assert!(footer(&runner).contains("r retry"), "{}", runner.text());
}

#[test]
fn the_menu_is_of_actions_on_the_row() {
    let mut runner = Runner::new(120, 36);
    runner.keys("3 a").wait_for("New command");
    for other in ["Back; drops marks", "Palette: any screen", "All keys of this screen"] {
        assert!(!runner.shows(other), "{}", runner.text());
    }
}

#[test]
fn each_tab_of_people_offers_its_own_keys() {
    let (options, caps) = caps(false, false, false);
    let mut runner = Runner::unconnected(&options, &caps, 200, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("6");
    assert!(footer(&runner).contains("n new user"), "{}", runner.text());
    runner.keys("Tab Tab Tab");
    assert!(!footer(&runner).contains("new user"), "{}", runner.text());
    assert!(!footer(&runner).contains("r role"), "{}", runner.text());
    assert!(footer(&runner).contains("e enrolment token"), "{}", runner.text());
}

#[test]
fn a_role_is_given_to_the_member_under_the_cursor() {
    let (options, caps) = caps(false, false, false);
    let mut runner = Runner::unconnected(&options, &caps, 120, 36);
    runner.fleet.role = Role::Admin;
    runner.connect();
    runner.keys("6 Tab j j").pass_ms(500);
    let text = runner.text();
    let mut under =
        text.lines().find(|line| line.starts_with('▌')).expect("a row").split_whitespace();
    let name = under.nth(1).expect("a member");
    runner.keys("r").wait_for("Role in prod");
    assert!(runner.shows(&format!("User name *   {name}")), "{name}\n{}", runner.text());
    // The role that they have is chosen already.
    runner.keys("Tab Enter");
    let sent = runner.requests.last();
    let is_kept = matches!(sent, Some(ApiRequest::SetMember { role: Role::Operator, username }) if username == name);
    assert!(is_kept, "{sent:?}");
}

#[test]
fn the_last_card_is_one_key_away() {
    let mut runner = Runner::new(80, 24);
    runner.keys("2 n").wait_for("What shall they do?");
    runner.keys("End Enter").wait_for("── Custom script");
    runner.keys("Esc g Enter").wait_for("── Ping");
}

#[test]
fn toasts_stand_beside_one_another_and_cover_no_step() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n");
    for text in ["copied", "saved"] {
        runner.app.toast(text, Tone::Good);
    }
    runner.pass_ms(10);
    let text = runner.text();
    let row = text.lines().nth(1).unwrap_or_default();
    assert!(row.contains("copied") && row.contains("saved"), "{text}");
    assert!(text.lines().nth(2).unwrap_or_default().contains("1 device"), "{text}");
}

#[test]
fn a_toast_mixes_with_nothing_and_goes_with_its_screen() {
    let mut runner = Runner::new(80, 24);
    runner.fleet.tunnels_max = 16;
    runner.keys("2 t").wait_for("Welcome").keys("C-g e C-g E");
    let foot = footer(&runner);
    assert!(foot.contains("e means nothing after C-g; ? helps"), "{foot}");
    for toast in runner.app.toasts.clone() {
        assert_eq!(toast.of, Some(runner.app.nav.here.clone()));
    }
    let said: Vec<_> = runner.app.toasts.iter().map(|toast| toast.text.clone()).collect();
    let others = said.iter().fold(foot, |rest, toast| rest.replace(toast, ""));
    assert_eq!(others.trim(), "", "nothing but toasts\n{}", runner.text());
    runner.app.tell("web-1: rebooted", Tone::Good);
    runner.keys("C-g d");
    assert!(!runner.shows("means nothing"), "{}", runner.text());
    assert!(runner.shows("web-1: rebooted"), "an answer\n{}", runner.text());
}

#[test]
fn that_a_range_begins_is_said_until_it_is_made() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 V");
    assert!(runner.shows("range begins here"), "{}", runner.text());
    runner.keys("j j V");
    assert!(runner.shows("marked 3") && !runner.shows("range begins"), "{}", runner.text());
}

#[test]
fn a_toast_that_is_wider_than_the_screen_goes_on_in_the_next_row() {
    let mut runner = Runner::new(40, 12);
    let text = "pi-1: keys typed before it was lost may not have arrived";
    runner.app.toast(text, Tone::Warn);
    runner.pass_ms(10);
    assert!(runner.shows("have arrived"), "{}", runner.text());
    runner.app.toast("x ".repeat(400), Tone::Bad);
    runner.pass_ms(10);
    assert!(runner.shows("Open alerts"), "it leaves room for what is shown\n{}", runner.text());
}

#[test]
fn the_end_of_a_long_device_name_stays_in_every_table() {
    let mut runner = Runner::new(80, 24);
    let name = "a-very-long-name-of-a-device-in-a-rack-that-nobody-can-tell-from-0417";
    for device in &mut runner.fleet.devices {
        device.id = name[..64].parse().expect("an id");
    }
    runner.keys("2").pass_ms(500);
    let end = &name[54..64];
    assert!(runner.shows(end), "{}", runner.text());
}

#[test]
fn a_reboot_of_a_locked_device_says_so_before_it_is_sent() {
    let mut runner = Runner::new(120, 40);
    // The fleet says that this one has used up its reboots.
    let device = runner.fleet.devices[0].id.to_string();
    runner.keys("2 /").text_in(&device).keys("Enter").pass_ms(500);
    runner.keys("n").go_to_operation("reboot_host");
    runner.wait_for("Reboot host").keys("Enter C-n").wait_for("1 device has no reboot left");
}

#[test]
fn a_form_with_an_editor_is_drawn_however_small_the_screen_is() {
    for width in 1..24 {
        let mut runner = Runner::new(width, 11);
        runner.keys("2 T");
        assert!(runner.app.overlay.is_some(), "{width}");
    }
}

#[test]
fn tab_is_offered_where_it_leads_somewhere() {
    let mut runner = Runner::new(200, 36);
    for (keys, leads) in [
        ("1", false),
        ("2", false),
        ("3", true),
        ("4", false),
        ("5", false),
        ("8", false),
        ("H", false),
    ] {
        runner.keys(keys).pass_ms(500);
        assert_eq!(footer(&runner).contains("Tab focus"), leads, "{keys}\n{}", runner.text());
    }
    runner.keys("2 Enter").pass_ms(500);
    assert!(footer(&runner).contains("Tab focus"), "{}", runner.text());
}

#[test]
fn an_empty_table_offers_nothing_to_do_with_rows() {
    let mut runner = Runner::new(200, 36);
    runner.fleet.tunnels.clear();
    runner.keys("7").wait_for("no tunnels");
    for hint in ["Enter open", "w watch", "K end", "Space mark", "t terminal", "a actions"] {
        assert!(!footer(&runner).contains(hint), "{hint}: {}", runner.text());
    }
    runner.keys("Enter").wait_for("there is no row here");
    runner.keys("8").wait_for("No terminal is open");
    for hint in ["/ search", "y copy", "a actions"] {
        assert!(!footer(&runner).contains(hint), "{hint}: {}", runner.text());
    }
}

#[test]
fn what_is_not_loaded_is_not_said_to_be_none() {
    let mut runner = Runner::new(120, 36);
    runner.silent = true;
    runner.keys("7").pass_ms(500);
    assert!(runner.shows("loading ..."), "{}", runner.text());
    assert!(!runner.shows("no tunnels"), "{}", runner.text());
    runner.keys("Enter").wait_for("the rows are still loading");
}

#[test]
fn an_audit_entry_without_a_screen_says_so() {
    let mut runner = Runner::new(120, 36);
    for entry in &mut runner.fleet.audit {
        "session:1".clone_into(&mut entry.object);
    }
    runner.keys("5").pass_ms(500);
    assert!(!runner.shows("Enter goes to it"), "{}", runner.text());
    runner.keys("Enter").wait_for("what this entry is about has no screen");
}

#[test]
fn where_one_types_no_letter_is_offered_as_a_key() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 n").go_to_operation("restart_service").keys("Enter").wait_for("3 Configure");
    assert!(!footer(&runner).contains(": palette"), "{}", runner.text());
    assert!(footer(&runner).contains("F1 keys"), "{}", runner.text());
    runner.keys("F1").wait_for("Keys of this screen");
}

#[test]
fn help_lists_no_key_that_means_something_else_here() {
    let mut runner = Runner::new(200, 50);
    runner.keys("9 Enter ?").wait_for("Keys of this screen");
    assert!(runner.shows("Play, or pause"), "{}", runner.text());
    for other in ["Fold all", "Copy the path", "Pane or tab before"] {
        assert!(!runner.shows(other), "{other}\n{}", runner.text());
    }
    runner.keys("Esc 3 j j j j j j j j j j Enter Tab ?").wait_for("Fold all");
}

#[test]
fn enter_is_offered_where_something_opens() {
    let mut runner = Runner::new(200, 36);
    runner.keys("9 Enter").pass_ms(500);
    assert!(!footer(&runner).contains("Enter open"), "{}", runner.text());
    // A command that runs has not answered yet.
    runner.keys("3 Enter Tab Tab").wait_for("No response yet");
    assert!(!footer(&runner).contains("Enter open"), "{}", runner.text());
    assert!(!runner.shows("▌ No response"), "{}", runner.text());
}

#[test]
fn a_text_that_goes_on_says_so() {
    let mut runner = Runner::new(80, 24);
    runner.keys("2 Enter").wait_for("Enrolled");
    assert!(runner.text().lines().any(|line| line.ends_with('▾')), "{}", runner.text());
    runner.keys("G").pass_ms(100);
    assert!(runner.text().lines().any(|line| line.ends_with('▴')), "{}", runner.text());
    assert!(!runner.text().lines().any(|line| line.ends_with('▾')), "{}", runner.text());
}

#[test]
fn what_is_said_again_stands_there_once() {
    let (options, caps) = caps(false, false, false);
    let options = TuiOptions { read_only: true, ..options };
    let mut runner = Runner::with(&options, &caps, 200, 36);
    runner.keys("2 n t n").wait_for("read-only: start without");
    let times = runner.text().matches("read-only: start without").count();
    assert_eq!(times, 1, "{}", runner.text());
    // Nor is offered what only says so.
    runner.keys("6").pass_ms(500);
    assert!(!footer(&runner).contains("Enter open"), "{}", runner.text());
}

#[test]
fn hints_are_shortened_not_cut() {
    let mut runner = Runner::new(40, 12);
    runner.keys("3 n").wait_for("Space marks, A all, / filters.");
    runner.keys("Enter").wait_for("2 of 4 Operation").keys("Enter").wait_for("3 of 4");
    assert!(runner.shows("Tab next   C-n goes on   Esc back"), "{}", runner.text());
    runner.keys("F1").wait_for("j k scroll   other keys close");
}

#[test]
fn a_hint_is_shown_only_where_its_key_acts_on_the_row() {
    let mut runner = Runner::new(200, 36);
    runner.keys("3 /").text_in("status:failed").keys("Enter").pass_ms(500);
    assert!(!footer(&runner).contains("C cancel"), "{}", runner.text());
    assert!(footer(&runner).contains("r retry"), "{}", runner.text());
    // Of several the server says which can.
    runner.keys("Space");
    assert!(footer(&runner).contains("C cancel"), "{}", runner.text());
    runner.keys("7 /").text_in("status:closed").keys("Enter").pass_ms(500);
    assert!(runner.shows("1 of"), "{}", runner.text());
    for gone in ["w watch", "c join", "K end"] {
        assert!(!footer(&runner).contains(gone), "{gone}\n{}", runner.text());
    }
}

#[test]
fn a_long_device_name_keeps_its_state_and_the_room_that_there_is() {
    let whole = "● rack-edge-gateway-00417.fra1";
    for (width, whole) in [(80, "● …"), (120, whole), (200, whole)] {
        let mut runner = Runner::new(width, 36);
        let name = "rack-edge-gateway-00417.fra1";
        runner.fleet.devices[0].id = name.parse().expect("an id");
        runner.fleet.devices[0].status = quarterdeck_protocol::device::DeviceStatus::Online;
        for command in &mut runner.fleet.commands {
            command.device_id = name.parse().expect("an id");
        }
        runner.keys("3").pass_ms(500);
        assert!(runner.shows(whole), "{}", runner.text());
    }
}

#[test]
fn the_palette_has_every_action_by_its_title() {
    let mut runner = Runner::new(120, 36);
    for screen in ["2", "8", "H"] {
        runner.keys(screen).keys(":");
        let Some(Overlay::Palette(palette)) = &runner.app.overlay else { panic!("a palette") };
        for spec in ACTIONS {
            let is_titled = |entry: &Entry| entry.title.eq_ignore_ascii_case(spec.title);
            assert!(palette.entries.iter().any(is_titled), "{} on {screen}", spec.title);
        }
        runner.keys("Esc");
    }
}

#[test]
fn the_palette_goes_where_an_action_can_be_done() {
    let mut runner = Runner::new(120, 36);
    // It needs a row: that which is under the cursor there was not meant.
    runner.keys("2 :").text_in("play its recording");
    assert!(runner.shows("on Tunnels"), "{}", runner.text());
    runner.keys("Enter");
    assert!(runner.shows("› Tunnels"), "{}", runner.text());
    assert!(runner.shows("on Tunnels, choose a session, then r"), "{}", runner.text());
    // It needs none.
    runner.keys("4 :").text_in("new command").keys("Enter").wait_for("For which devices?");
    runner.keys("Esc 2 :").text_in("fold all").keys("Enter");
    assert!(runner.shows("needs a text"), "{}", runner.text());
    // What this login may never do says so, and goes nowhere.
    runner.keys(":").text_in("create a project").keys("Enter");
    assert!(runner.shows("needs a server admin") && runner.shows("› Devices"), "{}", runner.text());
}

#[test]
fn a_wrong_name_keeps_the_question_and_says_so() {
    let mut runner = Runner::new(120, 36);
    let before = runner.fleet.commands.len();
    runner.keys("2 n").go_to_operation("reboot_host").keys("Enter C-n").wait_for("Blast radius");
    runner.keys("Enter").text_in("reboot-host").keys("Enter").wait_for("does not match");
    // What is typed now goes into the field, and to no screen behind.
    runner.keys("2 Enter").wait_for("does not match");
    assert!(runner.shows("Type reboot_host"), "{}", runner.text());
    runner.keys("C-u").text_in("r");
    assert!(!runner.shows("does not match"), "it is typed anew\n{}", runner.text());
    runner.text_in("eboot_hos").keys("Tab Enter").wait_for("does not match");
    runner.text_in("t").keys("Enter").wait_for("leaves in 10s");
    assert_eq!(runner.fleet.commands.len(), before);
    runner.keys("u").wait_for("called back");
    runner.keys("Enter").text_in("x").keys("Esc").wait_for("nothing was sent");
}

#[test]
fn a_table_without_rows_offers_nothing_for_a_row() {
    let offers = |runner: &Runner| {
        let footer = footer(runner);
        ["Enter open", "t terminal", "Space mark"].into_iter().find(|key| footer.contains(key))
    };
    let mut runner = Runner::new(200, 36);
    runner.fleet.alerts.clear();
    runner.tell_changes();
    runner.keys("1").pass_ms(500);
    assert_eq!(offers(&runner), None, "{}", runner.text());
    // Loading.
    runner.silent = true;
    runner.keys("2");
    assert!(runner.shows("loading"), "{}", runner.text());
    assert_eq!(offers(&runner), None, "{}", runner.text());
    // Refused.
    let window = runner.app.store.window(quarterdeck_console::tui::store::WindowKey::Devices);
    let id = window.subscription.as_ref().expect("it is shown").id;
    runner.live(quarterdeck_protocol::live::ServerMessage::Error {
        id: Some(id),
        code: "invalid".to_owned(),
        detail: "no such thing".to_owned(),
    });
    assert!(runner.shows("no such thing"), "{}", runner.text());
    assert_eq!(offers(&runner), None, "{}", runner.text());
}

#[test]
fn a_dialog_offers_its_own_keys_and_none_of_the_screen_behind() {
    for (keys, own) in [
        ("3 :", "Esc"),
        ("3 a", "Enter"),
        ("3 o", "Enter"),
        ("3 S", "Space"),
        ("3 ?", "j k"),
        ("2 T", "Tab"),
        ("3 C", "Tab"),
    ] {
        let mut runner = Runner::new(200, 36);
        runner.keys(keys);
        assert!(runner.app.overlay.is_some(), "{keys}\n{}", runner.text());
        let footer = footer(&runner);
        assert!(footer.contains(own), "{keys}: {footer}");
        for behind in ["new command", "palette", "freeze", "quit", "? keys", "terminal"] {
            assert!(!footer.contains(behind), "{keys}: {footer}");
        }
    }
}

#[test]
fn a_site_is_shown_whole_where_there_is_room_for_it() {
    for (width, height) in [(80, 24), (120, 36)] {
        let mut runner = Runner::new(width, height);
        for device in &mut runner.fleet.devices {
            device.tags.insert("site".to_owned(), "東京タワー前駅".to_owned());
        }
        runner.keys("2").pass_ms(500);
        assert!(runner.shows("東京タワー前駅"), "{}", runner.text());
    }
}

#[test]
fn the_help_of_a_small_screen_uses_the_room_that_it_has() {
    let mut runner = Runner::new(40, 12);
    runner.keys("3 ?").wait_for("Keys of this");
    assert!(runner.shows("Show all commands of i…"), "{}", runner.text());
}

#[test]
fn the_help_of_a_recording_names_the_keys_that_move_in_it() {
    let mut runner = Runner::new(200, 50);
    runner.keys("9 Enter ?").wait_for("Keys of this screen");
    for said in ["5 seconds", "minute", "Jump to a time"] {
        assert!(runner.shows(said), "{said}\n{}", runner.text());
    }
    runner.keys("Esc").keys("Space '").text_in("0:01").keys("Enter").wait_for("0:01 /");
}
