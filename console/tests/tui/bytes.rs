//! How many bytes a screen costs (chapter 8: slow links).

use quarterdeck_console::tui::{
    app::msg::Msg,
    term::{frame::Encoder, input::Input},
};

use crate::runner::{Runner, caps};

/// A table of commands at 200×50, its cursor in the middle, with an encoder that has drawn it.
fn commands(low_bandwidth: bool) -> (Runner, Encoder) {
    let (options, caps) = caps(false, false, low_bandwidth);
    let mut runner = Runner::with(&options, &caps, 200, 50);
    runner.fleet.rows = Some(100_000);
    runner.keys("3 j j j j j").pass_ms(1_000);
    let mut encoder = Encoder::new(caps.abilities);
    runner.bytes(&mut encoder);
    (runner, encoder)
}

#[test]
fn scrolling_by_a_row_costs_at_most_400_bytes() {
    for low_bandwidth in [false, true] {
        let (mut runner, mut encoder) = commands(low_bandwidth);
        // The view moves, the cursor's row moves with it.
        runner.keys("j j j j j j j j j j j j");
        runner.bytes(&mut encoder);
        runner.msg(Msg::Input(Input::Wheel { x: 5, y: 10, lines: 1 }));
        runner.settle();
        let scrolled = runner.bytes(&mut encoder);
        println!("scroll a row, low bandwidth {low_bandwidth}: {scrolled} bytes");
        assert!(scrolled <= 400, "{scrolled}");
        // The cursor pushes the view.
        for _ in 0..60 {
            runner.keys("j");
        }
        runner.pass_ms(1_000);
        runner.bytes(&mut encoder);
        runner.keys("j");
        let pushed = runner.bytes(&mut encoder);
        println!("cursor down at the border, low bandwidth {low_bandwidth}: {pushed} bytes");
        assert!(pushed <= 400, "{pushed}");
    }
}

#[test]
fn the_cursor_costs_at_most_100_bytes_a_row_on_a_slow_link() {
    let (mut runner, mut encoder) = commands(true);
    // The peek pane follows after a rest; while the cursor moves it says only whose row it is.
    runner.app.peek.hidden = true;
    runner.settle();
    runner.bytes(&mut encoder);
    runner.keys("j");
    let moved = runner.bytes(&mut encoder);
    println!("cursor down, low bandwidth: {moved} bytes");
    assert!(moved <= 100, "{moved}");

    let (mut runner, mut encoder) = commands(false);
    runner.app.peek.hidden = true;
    runner.settle();
    runner.bytes(&mut encoder);
    runner.keys("j");
    println!("cursor down, coloured row: {} bytes", runner.bytes(&mut encoder));
}

#[test]
fn a_cell_that_changes_costs_a_few_bytes() {
    let (mut runner, mut encoder) = commands(false);
    runner.pass_ms(1_000);
    println!("a second passes: {} bytes", runner.bytes(&mut encoder));
}

#[test]
fn fifty_thousand_changed_rows_a_second_leave_time_for_everything_else() {
    use quarterdeck_console::tui::effects::NetEvent;
    use quarterdeck_protocol::live::{Row, ServerMessage};
    use serde_json::value::RawValue;

    let (mut runner, _) = commands(false);
    let window = runner.app.store.window(quarterdeck_console::tui::store::WindowKey::Commands);
    let id = window.subscription.as_ref().expect("subscribed").id;
    let rows: Vec<(String, Box<RawValue>)> = window
        .rows()
        .iter()
        .map(|row| {
            (row.key.clone(), RawValue::from_string(row.raw().to_owned()).expect("valid JSON"))
        })
        .collect();
    let (sender, receiver) = quarterdeck_console::tui::mailbox::mailbox();
    let at = runner.app.now;
    let begun = cpu_time();
    // A second of it: 250 messages of 200 rows, and 30 frames.
    for n in 0..250 {
        let items = (0..200)
            .map(|at| {
                let (key, data) = &rows[(n * 7 + at) % rows.len()];
                Row { key: key.clone(), data: data.clone() }
            })
            .collect();
        sender.put(NetEvent::Live(ServerMessage::Changes {
            id,
            total: 100_000,
            items,
            order: None,
            at,
        }));
        if n % 8 == 0 {
            runner.msg(Msg::Net(receiver.try_take()));
            runner.settle();
        }
    }
    let took = cpu_time().checked_sub(begun).expect("time goes on");
    println!("50,000 changed rows and 32 frames: {took:?}");
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}

/// What this thread has worked so far: a busy machine does not count.
fn cpu_time() -> std::time::Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("Linux has it").into()
}
