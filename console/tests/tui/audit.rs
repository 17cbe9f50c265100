//! The audit log: each entry can be read whole, and leads to what it is about.

use serde_json::json;

use crate::runner::Runner;

const LONG: &str = "the-end-of-a-very-long-detail";

/// On the newest entry, which is about `object`.
fn at_an_entry(size: (u16, u16), action: &str, object: &str) -> Runner {
    let mut runner = Runner::new(size.0, size.1);
    let newest = runner.fleet.audit.iter_mut().max_by_key(|entry| entry.seq).expect("some");
    action.clone_into(&mut newest.action);
    object.clone_into(&mut newest.object);
    let words = "some words that take room ".repeat(12);
    newest.detail = json!({ "script": format!("{words}{LONG}"), "count": 1 });
    runner.keys("5").pass_ms(500);
    runner
}

#[test]
fn a_long_entry_is_read_whole_at_each_size() {
    let id = "0198c0de-0000-7000-8000-00000000feed";
    for size in [(40, 12), (80, 24), (120, 36), (200, 50)] {
        let mut runner = at_an_entry(size, "command.create", &format!("batch:{id}"));
        runner.keys("i").wait_for("Entry");
        let mut seen = String::new();
        for _ in 0..60 {
            seen.extend(runner.text().chars().filter(|c| !c.is_whitespace() && *c != '│'));
            runner.keys("j");
        }
        assert!(seen.contains(LONG), "{size:?}\n{}", runner.text());
        assert!(seen.contains("feed"), "{size:?}\n{}", runner.text());
        runner.keys("Esc");
        assert!(runner.app.overlay.is_none());
    }
}

#[test]
fn the_peek_breaks_a_long_detail_instead_of_cutting_it() {
    let runner = at_an_entry((120, 36), "command.create", "batch:0193");
    let text: String = runner.text().split_whitespace().collect();
    assert!(text.contains(LONG), "{}", runner.text());
}

#[test]
fn an_entry_of_a_tunnel_opens_the_tunnels() {
    for action in ["tunnel.open", "tunnel.close"] {
        let id = "0198c0de-0000-7000-8000-00000000feed";
        let mut runner = at_an_entry((120, 36), action, &format!("tunnel:{id}"));
        runner.keys("Enter");
        assert!(runner.shows("› Tunnels"), "{}", runner.text());
    }
}

#[test]
fn enter_is_offered_only_where_it_leads_somewhere() {
    let footer = |runner: &Runner| runner.text().lines().last().unwrap_or_default().to_owned();
    let runner = at_an_entry((120, 36), "user.create", "user:ops-3");
    assert!(!footer(&runner).contains("Enter"), "{}", runner.text());
    assert!(footer(&runner).contains("i entry"), "{}", runner.text());
    let runner = at_an_entry((120, 36), "device.tag", "device:dron-00003.gru1");
    assert!(footer(&runner).contains("Enter open"), "{}", runner.text());
}
