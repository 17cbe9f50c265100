//! The wizard at each size: what is filled in is seen, what is dangerous is read before it is sent.

use quarterdeck_protocol::device::DeviceStatus;

use crate::runner::Runner;

const SIZES: [(u16, u16); 4] = [(40, 12), (80, 24), (120, 36), (200, 50)];

fn last_row(runner: &Runner) -> String {
    runner.text().lines().last().unwrap_or_default().to_owned()
}

/// The form of a custom script for the first device.
fn at_a_script((width, height): (u16, u16)) -> Runner {
    let mut runner = Runner::new(width, height);
    runner.keys("2 n G Enter").wait_for("Configure");
    runner
}

/// The review of a reboot of a device that is offline.
fn at_a_risky_review((width, height): (u16, u16)) -> Runner {
    let mut runner = Runner::new(width, height);
    for device in &mut runner.fleet.devices {
        device.status = DeviceStatus::Offline;
    }
    runner.keys("2").pass_ms(500);
    runner.keys("n").go_to_operation("reboot_host").keys("Enter C-n");
    runner
}

#[test]
fn what_is_typed_into_a_script_is_seen_at_each_size() {
    for size in SIZES {
        let mut runner = at_a_script(size);
        runner.text_in("echo one").keys("Enter").text_in("echo two");
        assert!(runner.shows("echo one") && runner.shows("echo two"), "{}", runner.text());
        assert!(runner.shows("Script"), "the field has its name\n{}", runner.text());
        let cursor = runner.drawn.cursor.expect("a cursor");
        let text = runner.text();
        let row: Vec<char> =
            text.lines().nth(usize::from(cursor.y)).expect("a row").chars().collect();
        let before: String = row[..usize::from(cursor.x).min(row.len())].iter().collect();
        assert!(before.ends_with("echo two"), "the cursor is behind it: {before:?}\n{text}");
        for line in 3..20 {
            runner.keys("Enter").text_in(&format!("echo {line}"));
        }
        assert!(runner.shows("echo 19"), "the cursor's line is in sight\n{}", runner.text());
    }
}

#[test]
fn below_an_editor_the_next_field_is_seen_whole() {
    let mut runner = at_a_script((40, 12));
    runner.text_in("echo one").keys("Tab");
    let rows: Vec<String> = runner.text().lines().map(str::to_owned).collect();
    let rule = rows.iter().position(|row| row.contains("── Custom")).expect("the form's title");
    assert!(rows[rule + 1].contains('▌'), "from the field with the keys on\n{}", runner.text());
}

#[test]
fn a_form_that_is_longer_than_the_screen_says_that_more_is_below() {
    let mut runner = at_a_script((80, 24));
    assert!(runner.shows("▾"), "{}", runner.text());
    for _ in 0..20 {
        runner.keys("S-Tab");
        if runner.shows("▴") {
            break;
        }
    }
    assert!(runner.shows("▴"), "at its end it says that more is above\n{}", runner.text());
    runner.keys("Esc Esc").resize(200, 50);
    runner.keys("Enter").keys("Enter");
    assert!(!runner.shows("▾"), "all of it is seen\n{}", runner.text());
}

#[test]
fn in_an_editor_enter_is_a_new_line_and_says_so() {
    let mut runner = at_a_script((120, 36));
    assert!(last_row(&runner).contains("C-n continue"), "{}", runner.text());
    assert!(!last_row(&runner).contains("Enter"), "{}", runner.text());
    assert!(runner.shows("Enter a new line"), "{}", runner.text());
    assert!(!runner.shows("Enter on the last"), "{}", runner.text());
    runner.keys("F1");
    let row = runner.text().lines().find(|line| line.contains("Continue")).map(str::to_owned);
    let row = row.expect("help says how to go on");
    assert!(row.contains("C-n") && !row.contains("Enter"), "{row}");
    // On the last field Enter goes on.
    runner.keys("Esc S-Tab");
    assert!(last_row(&runner).contains("Enter continue"), "{}", runner.text());
    runner.keys("Esc g Enter S-Tab");
    assert!(last_row(&runner).contains("Enter continue"), "{}", runner.text());
}

#[test]
fn the_review_keeps_the_lines_of_a_script() {
    let mut runner = at_a_script((120, 36));
    runner.text_in("set -e").keys("Enter").text_in("  echo two").keys("C-n");
    runner.wait_for("Blast radius");
    assert!(!runner.shows("^J"), "{}", runner.text());
    let text = runner.text();
    let at = |what: &str| text.lines().position(|line| line.contains(what));
    let (first, second) = (at("1  set -e"), at("2    echo two"));
    assert!(first.is_some() && second == first.map(|at| at + 1), "{text}");
    runner.keys("Esc S-Tab Tab");
    for line in 3..40 {
        runner.keys("Enter").text_in(&format!("echo {line}"));
    }
    runner.keys("C-n").wait_for("Blast radius");
    assert!(runner.shows("and 31 more lines"), "{}", runner.text());
    assert!(!runner.shows("9  echo 9"), "{}", runner.text());
}

#[test]
fn what_is_dangerous_is_shown_before_anything_is_sent_at_each_size() {
    for size in SIZES {
        let mut runner = at_a_risky_review(size);
        let warnings = ["not online", "takes the host down", "typed confirmation"];
        let text = runner.text();
        let first = text.lines().position(|line| line.contains("not online"));
        let delivery = text.lines().position(|line| line.contains("Delivery"));
        assert!(first.is_some(), "{text}");
        assert!(delivery.is_none() || first < delivery, "warnings stand first\n{text}");
        let mut seen: Vec<&str> = Vec::new();
        // Enter reads on until all of it was seen, and only then goes on to send.
        for _ in 0..20 {
            // A warning may be broken over rows.
            let text = runner.text().split_whitespace().collect::<Vec<_>>().join(" ");
            seen.extend(warnings.iter().filter(|warning| text.contains(**warning)));
            if runner.app.overlay.is_some() {
                break;
            }
            runner.keys("Enter");
        }
        assert!(runner.app.overlay.is_some(), "{}", runner.text());
        for warning in warnings {
            assert!(seen.contains(&warning), "{warning} at {size:?}\n{}", runner.text());
        }
    }
}

#[test]
fn a_review_with_nothing_to_warn_of_is_sent_by_one_enter() {
    for size in SIZES {
        let mut runner = Runner::new(size.0, size.1);
        let before = runner.fleet.commands.len();
        for device in &mut runner.fleet.devices {
            device.status = DeviceStatus::Online;
            device.tags.remove("environment");
        }
        runner.keys("2").pass_ms(500);
        runner.keys("n Enter C-n Enter").pass_ms(500);
        assert_eq!(runner.fleet.commands.len(), before + 1, "{}", runner.text());
    }
}

#[test]
fn a_command_to_an_offline_device_at_the_smallest_size_is_not_sent_unread() {
    let mut runner = Runner::new(40, 12);
    let before = runner.fleet.commands.len();
    for device in &mut runner.fleet.devices {
        device.status = DeviceStatus::Offline;
    }
    runner.keys("2").pass_ms(500);
    runner.keys("n Enter C-n");
    assert!(runner.shows("not online"), "{}", runner.text());
    assert_eq!(runner.fleet.commands.len(), before);
}
