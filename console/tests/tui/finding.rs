//! What is searched for is found, shown where it stands, and counted.

use quarterdeck_console::tui::store::WindowKey;
use ratatui::style::Style;

use crate::runner::Runner;

/// The cells that differ from what they look like without the search.
fn look_of(runner: &Runner, text: &str) -> Vec<Style> {
    let shown = runner.text();
    let mut looks = Vec::new();
    for (y, row) in shown.lines().enumerate() {
        for (at, _) in row.match_indices(text) {
            let x = unicode_width::UnicodeWidthStr::width(&row[..at]);
            looks.push(runner.buffer[(x as u16, y as u16)].style());
        }
    }
    looks
}

/// The log of a command that writes a lot.
fn at_a_log(runner: &mut Runner) {
    runner.keys("3 j Enter Tab Tab Tab").pass_ms(300);
    runner.keys("g");
}

#[test]
fn a_match_in_a_log_is_set_off_and_the_current_one_from_the_others() {
    let mut runner = Runner::new(100, 20);
    at_a_log(&mut runner);
    runner.keys("/").text_in("verify").keys("Enter");
    let looks = look_of(&runner, "verify: ");
    assert!(looks.len() > 1, "{}", runner.text());
    let current = looks.iter().filter(|look| **look != looks[1]).count();
    assert_eq!(current, 1, "one of them is the current\n{}", runner.text());
    // The rest of the line looks as ever.
    let beside = look_of(&runner, "/var/lib");
    assert!(!looks.contains(&beside[0]), "{}", runner.text());
    let text = runner.text();
    let note = text.lines().find(|line| line.contains("/verify")).expect("what was searched for");
    assert!(note.contains("1 of "), "{note}");
    runner.keys("n n");
    assert!(runner.text().lines().any(|l| l.contains("/verify") && l.contains("3 of ")));
    runner.keys("N");
    assert!(runner.text().lines().any(|l| l.contains("/verify") && l.contains("2 of ")));
}

#[test]
fn each_match_is_brought_into_sight() {
    let mut runner = Runner::new(100, 20);
    at_a_log(&mut runner);
    runner.keys("/").text_in("verify").keys("Enter");
    let plain = look_of(&runner, "verify: ")[1];
    for turn in 0..60 {
        runner.keys("n");
        let shown = look_of(&runner, "verify: ");
        assert!(shown.iter().any(|look| *look != plain), "after {turn}\n{}", runner.text());
    }
}

#[test]
fn the_time_before_a_line_is_no_text_of_the_log() {
    let mut runner = Runner::new(100, 20);
    at_a_log(&mut runner);
    let hour = runner.text().lines().find_map(|line| {
        line.contains(" out  ").then(|| line.trim().chars().take(5).collect::<String>())
    });
    let hour = hour.expect("a line with its time");
    runner.keys("/").text_in(&hour).keys("Enter");
    runner.wait_for("is not in the text");
    runner.keys("Esc /").text_in("out  ").keys("Enter").wait_for("is not in the text");
}

#[test]
fn a_filter_by_a_column_that_cannot_be_filtered_is_refused_and_not_taken_for_a_tag() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2");
    for text in ["open:1", "seen:1m", "!seen:1m", "last_seen_at:1m", "open_commands:1"] {
        runner.keys("/").text_in(text).keys("Enter");
        assert!(runner.shows("no filter"), "{text}\n{}", runner.text());
        assert!(runner.shows("status:"), "it says what can be\n{}", runner.text());
        runner.keys("Esc");
    }
    // What the table shows of a column is what it is filtered by.
    let asked = |runner: &Runner| {
        let window = runner.app.store.window(WindowKey::Devices);
        window.subscription.as_ref().expect("it is shown").filter.clone()
    };
    let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    runner.keys("/").text_in("health:ok").keys("Enter");
    assert_eq!(asked(&runner), one("process_status", "running"));
    runner.keys("Esc /").text_in("id:pi-1").keys("Enter");
    assert_eq!(asked(&runner), one("device", "pi-1"));
    // A tag of such a name is asked for as a tag.
    for text in ["tag:open=1", "rack:r1"] {
        runner.keys("Esc /").text_in(text).keys("Enter");
        let tag = text.trim_start_matches("tag:").replace(':', "=");
        assert_eq!(asked(&runner), one("tag", &tag));
    }
}

#[test]
fn devices_are_sorted_by_their_tags() {
    let mut runner = Runner::new(120, 36);
    runner.keys("2 o");
    assert!(runner.text().lines().any(|line| line.contains("tags")), "{}", runner.text());
    runner.keys("j j j Enter");
    let sort = |runner: &Runner| {
        let window = runner.app.store.window(WindowKey::Devices);
        window.subscription.as_ref().and_then(|asked| asked.sort.clone())
    };
    assert_eq!(sort(&runner).as_deref(), Some("site"));
    runner.keys("o j Enter");
    assert_eq!(sort(&runner).as_deref(), Some("tags"));
}
