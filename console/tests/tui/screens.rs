//! Each screen at each size, in Unicode, in ASCII and without colour.

use quarterdeck_console::{
    net::tunnel::State,
    tui::{Wall, app::App, theme::ThemeName},
};
use quarterdeck_protocol::{api::Role, device::DeviceStatus};
use ratatui::style::Color;

use crate::runner::{Runner, caps, looks};

/// How each screen is reached.
const SCREENS: [(&str, &str); 27] = [
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
    ("tunnels", "7"),
    ("recordings", "9"),
    ("recording", "9 Enter Space End"),
    ("pane", "2 t"),
    ("panes", "2 Space Space t C-g"),
    ("pane_lost", "2 t"),
];

fn at(screen: &str, keys: &str, size: (u16, u16), ascii: bool, no_color: bool) -> Runner {
    let (options, caps) = caps(ascii, no_color, false);
    let mut runner = Runner::unconnected(&options, &caps, size.0, size.1);
    if matches!(screen, "users" | "tokens") {
        runner.fleet.role = Role::Admin;
    }
    runner.connect();
    if screen == "panes" {
        runner.fleet.tunnels_max = 9;
    }
    runner.keys(keys).pass_ms(500);
    if matches!(screen, "pane" | "pane_lost") {
        runner.type_in("wish\r");
    }
    if screen == "pane_lost" {
        runner.fares(0, State::Lost, |status| status.age_ms = 12_000);
    }
    runner
}

/// Each screen at a size: in Unicode, in ASCII, and what is left of its looks without colour.
fn as_agreed(size: (u16, u16)) {
    let name = |screen: &str, of: &str| format!("{screen}{of}_{}x{}", size.0, size.1);
    for (screen, keys) in SCREENS {
        let text = at(screen, keys, size, false, false).text();
        insta::assert_snapshot!(name(screen, ""), text);

        let plain = at(screen, keys, size, false, true);
        let colours = plain.buffer.content.iter().map(|cell| (cell.fg, cell.bg));
        let none = (Color::Reset, Color::Reset);
        assert_eq!(colours.filter(|colours| *colours != none).count(), 0, "{screen}");
        let left = format!("{}{}", other_rows(&text, &plain.text()), looks(&plain.buffer));
        insta::assert_snapshot!(name(screen, "_no_colour"), left);

        let text = at(screen, keys, size, true, false).text();
        assert!(text.is_ascii(), "{screen} at {size:?}\n{text}");
        insta::assert_snapshot!(name(screen, "_ascii"), text);
    }
}

/// The rows that say something else without colour.
fn other_rows(coloured: &str, plain: &str) -> String {
    assert_eq!(coloured.lines().count(), plain.lines().count());
    let rows = coloured.lines().zip(plain.lines()).enumerate();
    let other = rows
        .filter(|(_, (a, b))| a != b)
        .map(|(y, (_, row))| [&y.to_string(), ": ", row, "\n"].concat());
    other.collect()
}

#[test]
fn each_screen_looks_as_agreed_at_40x12() {
    as_agreed((40, 12));
}

#[test]
fn each_screen_looks_as_agreed_at_80x24() {
    as_agreed((80, 24));
}

#[test]
fn each_screen_looks_as_agreed_at_120x36() {
    as_agreed((120, 36));
}

#[test]
fn each_screen_looks_as_agreed_at_200x50() {
    as_agreed((200, 50));
}

#[test]
fn each_screen_has_its_colours() {
    for (screen, keys) in SCREENS {
        let runner = at(screen, keys, (80, 24), false, false);
        insta::assert_snapshot!(format!("{screen}_colours"), looks(&runner.buffer));
    }
}

#[test]
fn the_wall_shows_the_fleet_and_how_old_it_is() {
    let (mut options, caps) = caps(false, false, false);
    options.wall = Some(Wall { rotate: std::time::Duration::from_secs(15) });
    let mut runner = Runner::with(&options, &caps, 120, 36);
    runner.pass_ms(500);
    insta::assert_snapshot!("wall_120x36", runner.text());
    let ages = |runner: &Runner, word: &str| runner.text().matches(word).count();
    // Four numbers, commands, sites, alerts.
    assert_eq!(ages(&runner, "0s"), 7, "each panel says how old it is\n{}", runner.text());
    runner.pass_ms(15_000);
    assert!(runner.shows("2/4 commands"), "{}", runner.text());
    runner.keys("q Esc");
    assert!(runner.shows("WALL"), "a wall is not left by a key\n{}", runner.text());
    runner.silent = true;
    runner.pass_ms(9_000);
    assert!(runner.shows("STALE"), "{}", runner.text());
    insta::assert_snapshot!("wall_stale_120x36", runner.text());
    runner.keys("Left");
    assert_eq!(ages(&runner, "STALE"), 8, "the header and each panel\n{}", runner.text());
}

#[test]
fn a_small_wall_shows_less_and_cuts_nothing() {
    for (wide, high) in [(40, 12), (80, 24)] {
        let (mut options, caps) = caps(false, false, false);
        options.wall = Some(Wall { rotate: std::time::Duration::from_secs(15) });
        let mut runner = Runner::with(&options, &caps, wide, high);
        runner.pass_ms(500);
        let text = runner.text();
        insta::assert_snapshot!(format!("wall_{wide}x{high}"), text);
        let head = text.lines().next().expect("a header");
        assert!(head.contains("1/4 fleet ") && head.contains(" 06:14:52 UTC "), "{head}");
        assert!(!text.contains('▌'), "nobody moves on a wall\n{text}");
        runner.silent = true;
        runner.pass_ms(9_000);
        let stale = runner.text().matches("STALE").count();
        let panels = if wide == 40 { 2 } else { 7 };
        assert_eq!(stale, panels + 1, "the header and each panel\n{}", runner.text());
    }
}

#[test]
fn a_small_overview_says_that_every_site_is_complete() {
    let mut runner = Runner::new(80, 24);
    for device in &mut runner.fleet.devices {
        device.status = DeviceStatus::Online;
        device.unheard_since = None;
    }
    runner.tell_changes().pass_ms(500).pass_ms(1_500);
    let text = runner.text();
    let line = text.lines().find(|line| line.contains("Offline at")).expect("the line");
    assert!(line.contains("every site is complete"), "{text}");
}

#[test]
fn a_lost_connection_dims_the_screen_and_says_since_when() {
    let mut runner = Runner::new(100, 24);
    runner.keys("2").pass_ms(500);
    runner.silent = true;
    runner.lost("connection refused");
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
    for theme in [ThemeName::Default, ThemeName::HighContrast, ThemeName::ColourBlind] {
        let (mut options, _) = caps(false, false, false);
        options.theme = theme;
        let caps = quarterdeck_console::tui::term::caps::Caps::detect(&options, |name| {
            (name == "TERM").then(|| "xterm-256color".to_owned())
        });
        let mut runner = Runner::with(&options, &caps, 100, 24);
        runner.keys("3").pass_ms(500);
        assert!(runner.shows("✓ completed") && runner.shows("✗ failed"), "{theme:?}");
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
