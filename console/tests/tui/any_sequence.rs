//! Whatever is pressed, however the screen is, whatever the server says: no panic, nothing outside.

use proptest::prelude::*;
use quarterdeck_console::tui::{
    app::msg::Msg,
    effects::NetEvent,
    term::input::{Code, Input, Key},
};
use quarterdeck_protocol::{
    api::Role,
    live::{Row, ServerMessage},
};
use serde_json::value::RawValue;

use crate::runner::{Runner, caps};

#[derive(Debug, Clone)]
enum Step {
    Key(Key),
    Text(String),
    Paste(String),
    Click(u16, u16),
    Wheel(u16, u16, i32),
    Resize(u16, u16),
    Pass(i64),
    Live,
    Lost,
    Hello,
    Garbage(u32, String),
}

fn key() -> impl Strategy<Value = Key> {
    let code = prop_oneof![
        8 => prop::sample::select(vec![
            Code::Enter, Code::Esc, Code::Tab, Code::BackTab, Code::Backspace, Code::Up, Code::Down,
            Code::Left, Code::Right, Code::Home, Code::End, Code::PageUp, Code::PageDown,
            Code::Delete, Code::F(1),
        ]),
        16 => prop::char::range(' ', '~').prop_map(Code::Char),
    ];
    (code, prop::bool::weighted(0.1)).prop_map(|(code, ctrl)| Key {
        code,
        ctrl,
        alt: false,
        shift: false,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => key().prop_map(Step::Key),
        2 => "[a-z0-9:~! ]{1,12}".prop_map(Step::Text),
        1 => any::<String>().prop_map(Step::Paste),
        2 => (0_u16..210, 0_u16..60).prop_map(|(x, y)| Step::Click(x, y)),
        1 => (0_u16..210, 0_u16..60, -5_i32..5).prop_map(|(x, y, n)| Step::Wheel(x, y, n)),
        2 => (1_u16..200, 1_u16..60).prop_map(|(w, h)| Step::Resize(w, h)),
        2 => (1_i64..12_000).prop_map(Step::Pass),
        2 => Just(Step::Live),
        1 => Just(Step::Lost),
        1 => Just(Step::Hello),
        1 => (0_u32..40, "(\\{\\}|\\[1,2\\]|null|\"\u{202e}\")").prop_map(|(id, t)| Step::Garbage(id, t)),
    ]
}

fn take(runner: &mut Runner, step: Step) {
    match step {
        Step::Key(key) => {
            runner.msg(Msg::Input(Input::Key(key)));
            runner.settle();
        }
        Step::Text(text) => {
            runner.text_in(&text);
        }
        Step::Paste(text) => {
            runner.msg(Msg::Input(Input::Paste(text)));
            runner.settle();
        }
        Step::Click(x, y) => {
            runner.msg(Msg::Input(Input::Click { x, y }));
            runner.settle();
        }
        Step::Wheel(x, y, lines) => {
            runner.msg(Msg::Input(Input::Wheel { x, y, lines }));
            runner.settle();
        }
        Step::Resize(width, height) => {
            runner.resize(width, height);
        }
        Step::Pass(ms) => {
            runner.pass_ms(ms);
        }
        Step::Live => {
            let now = runner.app.now;
            runner.fleet.live(now);
            runner.fleet.new_command();
            runner.tell_changes();
        }
        Step::Lost => {
            runner.lost("\u{1b}[2Jgone");
        }
        Step::Hello => {
            runner.connect();
        }
        Step::Garbage(id, text) => {
            let data = RawValue::from_string(text).expect("valid JSON");
            let items = vec![Row { key: "\u{1b}]0;x\u{7}".into(), data }];
            let order = Some(vec!["\u{1b}]0;x\u{7}".to_owned(), "none".to_owned()]);
            let at = runner.app.now;
            runner.event(NetEvent::Live(ServerMessage::Changes { id, total: 1, items, order, at }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_panics_or_draws_what_can_act(
        size in (1_u16..220, 1_u16..60),
        ascii in any::<bool>(),
        role in prop::sample::select(vec![Role::Viewer, Role::Operator, Role::Admin]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (options, caps) = caps(ascii, false, false);
        let mut runner = Runner::unconnected(&options, &caps, size.0, size.1);
        runner.fleet.role = role;
        runner.connect();
        for step in steps {
            take(&mut runner, step);
            let text = runner.text();
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(!ascii || text.is_ascii(), "{}", text);
        }
    }
}

#[test]
fn every_screen_is_drawn_at_every_small_size() {
    let mut runner = Runner::new(60, 20);
    for keys in ["1", "2", "2 Enter", "3", "3 Enter", "4", "5", "6", "3 n", "?", ":"] {
        runner.keys("Esc Esc Esc Esc").keys(keys);
        for width in [1, 2, 3, 5, 8, 13, 21, 34, 60] {
            for height in [1, 2, 3, 4, 6, 9, 14, 20] {
                runner.resize(width, height);
            }
        }
    }
}
