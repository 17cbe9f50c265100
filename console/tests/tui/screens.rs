//! Each screen at each size, in Unicode, in ASCII and without colour.

use quarterdeck_console::tui::{Wall, app::App};
use quarterdeck_protocol::api::Role;
use ratatui::style::Color;

use crate::runner::{Runner, caps};

const SIZES: [(u16, u16); 4] = [(40, 12), (80, 24), (120, 36), (200, 50)];

/// How each screen is reached.
const SCREENS: [(&str, &str); 21] = [
    ("overview", ""),
    ("devices", "2"),
    ("devices_marked", "2 Space j Space"),
    ("device", "2 Enter"),
    ("device_health", "2 Enter Tab"),
    ("device_commands", "2 Enter Tab Tab"),
    ("commands", "3"),
    ("command", "3 j Enter"),
    ("command_payload", "3 j j j j j j j j j j Enter Tab"),
    ("command_logs", "3 j Enter Tab Tab Tab"),
    ("command_timeline", "3 j Enter S-Tab"),
    ("alerts", "4"),
    ("audit", "5"),
    ("users", "6"),
    ("tokens", "6 S-Tab"),
    ("wizard_targets", "3 n"),
    ("wizard_operation", "2 Space j Space n"),
    ("wizard_configure", "2 n Right Right Right Right Right Enter"),
    ("palette", "3 :"),
    ("menu", "3 a"),
    ("help", "3 ?"),
];

fn at(screen: &str, keys: &str, size: (u16, u16), ascii: bool, no_color: bool) -> Runner {
    let (options, caps) = caps(ascii, no_color, false);
    let mut runner = Runner::unconnected(&options, &caps, size.0, size.1);
    if matches!(screen, "users" | "tokens") {
        runner.fleet.role = Role::Admin;
    }
    runner.connect();
    runner.keys(keys).pass_ms(500);
    runner
}

#[test]
fn each_screen_looks_as_agreed_at_each_size() {
    for (screen, keys) in SCREENS {
        for size in SIZES {
            let runner = at(screen, keys, size, false, false);
            insta::assert_snapshot!(format!("{screen}_{}x{}", size.0, size.1), runner.text());
        }
    }
}

#[test]
fn each_screen_has_an_ascii_look_with_nothing_else_in_it() {
    for (screen, keys) in SCREENS {
        for size in SIZES {
            let runner = at(screen, keys, size, true, false);
            let text = runner.text();
            assert!(text.is_ascii(), "{screen} at {size:?}\n{text}");
            if size == (80, 24) {
                insta::assert_snapshot!(format!("{screen}_ascii"), text);
            }
        }
    }
}

#[test]
fn without_colour_no_cell_has_one_and_the_cursor_is_still_seen() {
    for (screen, keys) in SCREENS {
        let runner = at(screen, keys, (80, 24), false, true);
        for cell in &runner.buffer.content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{screen}");
        }
        let reversed = |cell: &ratatui::buffer::Cell| {
            cell.modifier.contains(ratatui::style::Modifier::REVERSED)
        };
        assert!(
            runner.buffer.content.iter().any(reversed) || runner.app.overlay.is_none(),
            "{screen}"
        );
    }
}

#[test]
fn the_wall_shows_the_fleet_and_how_old_it_is() {
    let (mut options, caps) = caps(false, false, false);
    options.wall = Some(Wall { rotate: std::time::Duration::from_secs(15) });
    let mut runner = Runner::with(&options, &caps, 120, 36);
    runner.pass_ms(500);
    insta::assert_snapshot!("wall_120x36", runner.text());
    runner.pass_ms(15_000);
    assert!(runner.shows("2/4 commands"), "{}", runner.text());
    runner.keys("q Esc");
    assert!(runner.shows("WALL"), "a wall is not left by a key\n{}", runner.text());
    runner.silent = true;
    runner.pass_ms(9_000);
    assert!(runner.shows("STALE"), "{}", runner.text());
    insta::assert_snapshot!("wall_stale_120x36", runner.text());
}

#[test]
fn a_lost_connection_dims_the_screen_and_says_since_when() {
    use quarterdeck_console::tui::effects::NetEvent;
    let mut runner = Runner::new(100, 24);
    runner.keys("2").pass_ms(500);
    runner.silent = true;
    runner.event(NetEvent::Lost { why: "connection refused".to_owned() });
    runner.pass_ms(7_000);
    assert!(runner.shows("LOST 7s"), "{}", runner.text());
    assert!(runner.shows("as of 06:14:52 UTC"), "{}", runner.text());
    assert!(runner.shows("connection refused"), "{}", runner.text());
    let row = &runner.buffer[(6, 6)];
    assert_eq!(row.fg, Color::Indexed(240), "rows are dimmed");
    insta::assert_snapshot!("lost_100x24", runner.text());
    runner.connect().pass_ms(500);
    assert!(runner.shows("● LIVE"), "{}", runner.text());
}

#[test]
fn themes_differ_and_each_keeps_status_words() {
    for theme in ["default", "high-contrast", "colour-blind"] {
        let (mut options, _) = caps(false, false, false);
        options.theme = Some(theme.to_owned());
        let caps = quarterdeck_console::tui::term::caps::Caps::detect(&options, |name| {
            (name == "TERM").then(|| "xterm-256color".to_owned())
        });
        let mut runner = Runner::with(&options, &caps, 100, 24);
        runner.keys("3").pass_ms(500);
        assert!(runner.shows("✓ completed") && runner.shows("✗ failed"), "{theme}");
    }
}

#[test]
fn what_a_device_wrote_is_shown_and_never_acts() {
    let mut runner = Runner::new(200, 36);
    runner.keys("2");
    for device in &mut runner.fleet.devices {
        device.tags.insert("site".into(), "\u{1b}[31mred\u{202e}".into());
        device.kind = "a\u{200b}b\tc".into();
    }
    let now = runner.app.now;
    runner.fleet.live(now);
    runner.tell_changes();
    let text = runner.text();
    assert!(text.contains("^[[31mred"), "{text}");
    assert!(text.contains("a<U+200B>b^Ic"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn a_refused_window_says_why() {
    let mut runner = Runner::new(100, 24);
    runner.keys("5");
    let id = window_id(&runner.app, quarterdeck_console::tui::store::WindowKey::Audit);
    runner.event(quarterdeck_console::tui::effects::NetEvent::Live(
        quarterdeck_protocol::live::ServerMessage::Error {
            id: Some(id),
            code: "forbidden".to_owned(),
            detail: "the audit log needs the role admin".to_owned(),
        },
    ));
    assert!(runner.shows("needs the role admin"), "{}", runner.text());
}

fn window_id(app: &App, key: quarterdeck_console::tui::store::WindowKey) -> u32 {
    app.store.window(key).subscription.as_ref().expect("subscribed").id
}
