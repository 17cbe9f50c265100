//! The machine against a device and a server that are played by hand.

use proptest::prelude::*;
use quarterdeck_protocol::{
    time::Timestamp,
    tunnel::{Content, Item, frame::Epoch},
};

use super::*;

const HANDLE: u32 = 7;

fn at(us: u64) -> Tick {
    Tick::from_us(us)
}

fn size(cols: u16) -> Size {
    Size::new(cols, 24).expect("a size")
}

fn attached(mode: Mode, input: Option<(u32, u16)>, goes_on: bool) -> ServerMessage {
    ServerMessage::Attached {
        version: VERSION,
        mode,
        handle: HANDLE,
        input_stream: input.map(|(stream, _)| stream),
        input_life: input.map(|(_, life)| life),
        continues_input: goes_on,
        continues_output: goes_on,
        flight_messages: 16,
        flight_bytes: 256 * 1024,
        is_recorded: false,
        at: Timestamp::from_millis(0),
    }
}

fn terminal() -> Machine {
    let mut machine = Machine::new(TunnelKind::Terminal, Some(size(80)), at(0));
    machine.on_socket(at(0));
    machine.on_text(attached(Mode::Owner, Some((1, 1)), false), at(0)).expect("valid");
    machine
}

/// Another connection, on which the server lets the console go on.
fn reattach(machine: &mut Machine, input: (u32, u16), goes_on: bool, now: Tick) {
    machine.on_socket(now);
    machine.on_text(attached(Mode::Owner, Some(input), goes_on), now).expect("valid");
}

fn type_keys(machine: &mut Machine, keys: &[u8]) {
    let key = machine.keys().expect("may write");
    let mut bytes = Bytes::copy_from_slice(keys);
    machine.endpoint().expect("attached").write(key, &mut bytes).expect("open");
    assert!(bytes.is_empty(), "there is room");
}

fn messages(machine: &mut Machine, now: Tick) -> Vec<Outgoing> {
    std::iter::from_fn(|| machine.poll_message(now)).collect()
}

fn output(offset: u64, text: &[u8]) -> Bytes {
    let frame = Frame {
        key: StreamKey { tunnel: HANDLE, stream: OUTPUT_STREAM },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: false,
        wants_reply: false,
        has_taken_end: false,
        offset,
        ack: 0,
        credit: 0,
        body: Body::Data(Bytes::copy_from_slice(text)),
    };
    frame.to_bytes()
}

#[test]
fn a_size_is_said_once_things_rest_and_again_after_a_new_connection() {
    let mut machine = terminal();
    let resizes = |machine: &mut Machine, now| {
        let said = messages(machine, now).into_iter().filter_map(|message| match message {
            Outgoing::Text(ClientMessage::Resize { size }) => Some(size.cols.get()),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(resizes(&mut machine, at(0)), [80]);
    machine.resize(size(90), at(10));
    machine.resize(size(100), at(20));
    assert_eq!(resizes(&mut machine, at(20)), [0; 0]);
    let rest = RESIZE_DEBOUNCE_MS * 1_000;
    assert_eq!(resizes(&mut machine, at(20 + rest)), [100]);
    machine.on_lost("cut".to_owned(), at(100_000));
    assert_eq!(messages(&mut machine, at(100_000)), []);
    reattach(&mut machine, (1, 1), true, at(100_000));
    assert_eq!(resizes(&mut machine, at(100_000)), [100]);
}

#[test]
fn a_watcher_neither_types_nor_resizes() {
    let mut machine = Machine::new(TunnelKind::Terminal, Some(size(80)), at(0));
    machine.on_socket(at(0));
    machine.on_text(attached(Mode::Watch, None, false), at(0)).expect("valid");
    assert_eq!(machine.keys(), None);
    let said = messages(&mut machine, at(0));
    let is_harmless = |message: &Outgoing| match message {
        Outgoing::Text(ClientMessage::Ping { .. }) => true,
        Outgoing::Frame(frame) => matches!(frame.body, Body::Ack { .. }),
        Outgoing::Text(_) => false,
    };
    assert!(said.iter().all(is_harmless), "{said:?}");
}

#[test]
fn the_state_follows_what_is_heard() {
    let mut machine = Machine::new(TunnelKind::Terminal, None, at(0));
    let state = |machine: &Machine, now| {
        let status = machine.status(at(now));
        (status.state, status.age_ms)
    };
    assert_eq!(state(&machine, 5_000), (State::Connecting, 5));
    machine.on_socket(at(10_000));
    assert!(matches!(
        messages(&mut machine, at(10_000))[..],
        [Outgoing::Text(ClientMessage::Ping { .. })]
    ));
    assert_eq!(state(&machine, 10_000), (State::Connecting, 10), "the tunnel is not open yet");
    machine.on_text(attached(Mode::Owner, Some((1, 1)), false), at(10_000)).expect("valid");
    assert_eq!(state(&machine, 12_000), (State::Live, 2));
    let late = 10_000 + STALLED_AFTER_US;
    messages(&mut machine, at(20_000));
    assert!(machine.next_due(at(20_000)) <= Some(at(late)));
    assert_eq!(state(&machine, late), (State::Stalled, 2_500));
    let stats = |link, heard_ms_ago| {
        ServerMessage::Stats(Stats { bytes_up: 1, bytes_down: 2, rtt_us: None, link, heard_ms_ago })
    };
    machine.on_text(stats(LinkState::Lost, 4_000), at(late)).expect("valid");
    assert_eq!(state(&machine, late + 1_000_000), (State::Lost, 5_000));
    machine.on_text(stats(LinkState::Live, 1), at(late)).expect("valid");
    assert_eq!(state(&machine, late), (State::Live, 0));
    machine.on_lost("cut".to_owned(), at(late));
    assert_eq!(state(&machine, late + 3_000_000), (State::Lost, 3_000));
    let status = machine.status(at(late));
    assert_eq!(status.why.as_deref(), Some("cut"));
    assert_eq!((status.bytes_up, status.bytes_down), (1, 2), "what went, went");
}

#[test]
fn who_opened_a_terminal_wants_its_first_byte_and_who_joins_a_picture() {
    let machine = || Machine::new(TunnelKind::Terminal, None, at(0));
    assert_eq!(machine().come_back(), ComeBack::default());
    assert_eq!(machine().wanting_all().come_back(), ComeBack { from: Some(0), input: None });
}

#[test]
fn a_warning_of_an_idle_end_goes_with_what_the_server_counts_until_it_warns_again() {
    let mut machine = terminal();
    messages(&mut machine, at(0));
    let warn = |machine: &mut Machine, now| {
        machine.on_text(ServerMessage::IdleWarning { seconds: 60 }, at(now)).expect("valid");
        assert_eq!(machine.status(at(now)).idle_warning_s, Some(60));
        // The silent hum of the connection is no activity.
        messages(machine, at(now));
        assert_eq!(machine.status(at(now)).idle_warning_s, Some(60));
        machine.take_news(at(now));
    };
    let withdrawn = |machine: &mut Machine, now| {
        machine.take_news(at(now)) && machine.status(at(now)).idle_warning_s.is_none()
    };
    warn(&mut machine, 1_000_000);
    type_keys(&mut machine, b"x");
    assert_eq!(machine.status(at(2_000_000)).idle_warning_s, Some(59), "not sent yet");
    messages(&mut machine, at(2_000_000));
    assert!(withdrawn(&mut machine, 2_000_000), "typed");
    warn(&mut machine, 3_000_000);
    machine.on_frame(output(0, b"$ "), at(3_500_000)).expect("valid");
    assert!(withdrawn(&mut machine, 3_500_000), "shown");
    warn(&mut machine, 4_000_000);
    machine.on_lost("cut".to_owned(), at(4_100_000));
    reattach(&mut machine, (1, 2), true, at(4_200_000));
    assert!(withdrawn(&mut machine, 4_200_000), "attached");
}

#[test]
fn what_comes_back_says_where_it_was() {
    let mut machine = terminal();
    assert_eq!(machine.come_back(), ComeBack { from: Some(0), input: Some((1, 1)) });
    machine.on_frame(output(0, b"hello"), at(0)).expect("valid");
    machine.on_lost("cut".to_owned(), at(0));
    assert_eq!(machine.come_back(), ComeBack { from: Some(5), input: Some((1, 1)) });
    reattach(&mut machine, (1, 1), true, at(0));
    let gap = machine.on_frame(output(6, b"!"), at(0)).expect_err("a byte is missing");
    assert!(gap.to_string().contains("5 to 6"), "{gap}");
    assert!(!machine.status(at(0)).has_lost_keys);
}

#[test]
fn keys_that_nobody_can_vouch_for_are_said_to_be_lost() {
    let mut machine = terminal();
    type_keys(&mut machine, b"rm -r build\r");
    machine.on_lost("cut".to_owned(), at(0));
    reattach(&mut machine, (1, 2), false, at(0));
    assert!(machine.status(at(0)).has_lost_keys);
    assert!(machine.keys().is_some(), "new ones may be typed");
}

#[test]
fn nothing_is_said_of_a_stream_before_it_is_opened() {
    for kind in [TunnelKind::Exec, TunnelKind::Ssh, TunnelKind::PortForward] {
        let mut machine = Machine::new(kind, None, at(0));
        machine.on_socket(at(0));
        machine.on_text(attached(Mode::Owner, Some((0, 1)), false), at(0)).expect("valid");
        let said = messages(&mut machine, at(0));
        assert!(!said.iter().any(|said| matches!(said, Outgoing::Frame(_))), "{kind:?}: {said:?}");
        machine.open(BULK, at(0)).expect("the first");
        let opening = messages(&mut machine, at(0));
        assert!(
            matches!(&opening[..], [Outgoing::Frame(frame)] if frame.is_opening),
            "{opening:?}"
        );
    }
}

#[test]
fn an_exec_that_cannot_go_on_ends_with_a_reason() {
    let mut machine = Machine::new(TunnelKind::Exec, None, at(0));
    machine.on_text(attached(Mode::Owner, Some((0, 1)), false), at(0)).expect("valid");
    machine.open(BULK, at(0)).expect("the first");
    machine.on_lost("cut".to_owned(), at(0));
    reattach(&mut machine, (0, 2), false, at(0));
    let ended = machine.ended().cloned();
    assert!(
        matches!(&ended, Some(Ended::Closed(closed)) if closed.code == CloseCode::CannotResume),
        "{ended:?}"
    );
}

#[test]
fn a_detach_waits_for_the_last_keys_and_a_close_for_nothing() {
    let mut machine = terminal();
    messages(&mut machine, at(0));
    type_keys(&mut machine, b"exit\r");
    machine.leave(Leaving::Detach, at(0));
    let detach = Outgoing::Text(ClientMessage::Detach);
    assert!(!messages(&mut machine, at(0)).contains(&detach));
    assert!(messages(&mut machine, at(LAST_KEYS_US)).contains(&detach), "at the latest");

    let mut machine = terminal();
    type_keys(&mut machine, b"exit\r");
    machine.leave(Leaving::Close, at(0));
    let close = Outgoing::Text(ClientMessage::Close);
    assert_eq!(machine.poll_message(at(0)), Some(close));
}

#[test]
fn output_before_the_end_is_shown_before_the_end_is_told() {
    let mut machine = terminal();
    machine.on_frame(output(0, b"bye"), at(0)).expect("valid");
    let closed = ServerMessage::Closed { reason: CloseCode::Finished, message: String::new() };
    machine.on_text(closed, at(0)).expect("valid");
    assert!(matches!(machine.take_piece(at(0)), Some(Piece::Bytes { .. })));
    assert!(matches!(machine.ended(), Some(Ended::Closed(_))));
    assert_eq!(messages(&mut machine, at(0)), []);
}

#[test]
fn what_a_server_cannot_say_is_refused() {
    let mut machine = terminal();
    assert!(machine.on_frame(Bytes::from_static(b"nonsense"), at(0)).is_err());
    let mut foreign = output(0, b"x").to_vec();
    foreign[5] = 9;
    assert!(machine.on_frame(foreign.into(), at(0)).is_err());
    let snapshot = ServerMessage::Snapshot {
        offset: 0,
        size: size(80),
        screen: "§".to_owned(),
        painted_from: 0,
        dropped_bytes: 0,
    };
    assert!(machine.on_text(snapshot, at(0)).is_err());
    let mut early = Machine::new(TunnelKind::Terminal, None, at(0));
    assert!(early.on_frame(output(0, b"x"), at(0)).is_err());
}

/// A device behind a server that forwards frames, over a connection that is cut.
struct World {
    console: Machine,
    device: Endpoint,
    now: u64,
    is_up: bool,
    got: Vec<u8>,
    /// What the device said on the terminal.
    log: Vec<u8>,
    /// How far the server has sent that.
    sent: u64,
    shown: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let mut device = Endpoint::new(Side::Device, EndpointConfig::default());
        assert!(device.add_tunnel(HANDLE, KEYS));
        device.on_link_up(at(0));
        Self {
            console: terminal(),
            device,
            now: 0,
            is_up: true,
            got: Vec::new(),
            log: Vec::new(),
            sent: 0,
            shown: Vec::new(),
        }
    }

    fn set_up(&mut self, is_up: bool) {
        if is_up == self.is_up {
            return;
        }
        self.is_up = is_up;
        let now = at(self.now);
        if is_up {
            let back = self.console.come_back();
            self.sent = back.from.expect("a terminal");
            reattach(&mut self.console, back.input.expect("may write"), true, now);
        } else {
            self.console.on_lost("cut".to_owned(), now);
        }
    }

    /// Lets everything happen that is due; of the messages that leave, `lost` of the last go nowhere.
    fn turn(&mut self, mut lost: usize) {
        self.now += 7_000;
        let now = at(self.now);
        if self.is_up {
            let mut leaving = messages(&mut self.console, now);
            lost = lost.min(leaving.len());
            leaving.truncate(leaving.len() - lost);
            for message in leaving {
                if let Outgoing::Frame(frame) = message
                    && frame.key.stream != OUTPUT_STREAM
                {
                    self.device.on_frame(frame, now);
                }
            }
            // The server sends again from where the console came back.
            let from = self.sent as usize;
            let to = (from + 1000).min(self.log.len());
            if from < to {
                self.console.on_frame(output(self.sent, &self.log[from..to]), now).expect("next");
                self.sent = to as u64;
            }
        }
        self.device.on_time(now);
        while let Some(frame) = self.device.poll_transmit(now) {
            if self.is_up && lost == 0 {
                self.console.on_frame(frame.to_bytes(), now).expect("valid");
            }
        }
        while let Some((key, changes)) = self.device.poll_change() {
            assert_eq!(changes.closed, None);
            while let Some((item, until)) = self.device.read(key, 1024, now) {
                if let Item::Content(Content::Bytes(bytes)) = item {
                    self.got.extend_from_slice(&bytes);
                }
                self.device.make_safe(key, until, now);
            }
        }
        while let Some(piece) = self.console.take_piece(now) {
            if let Piece::Bytes { bytes, .. } = piece {
                self.shown.extend_from_slice(&bytes);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_cut_loses_or_doubles_a_byte_in_either_direction(
        steps in prop::collection::vec((0_u8..6, 0_usize..400, 0_usize..4), 1..80),
    ) {
        let mut world = World::new();
        let (mut typed, mut next) = (Vec::new(), 0_u8);
        for (kind, length, lost) in steps {
            let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
            match kind {
                0 | 1 => { type_keys(&mut world.console, &bytes); typed.extend_from_slice(&bytes); }
                2 | 3 => world.log.extend_from_slice(&bytes),
                4 => world.set_up(false),
                _ => world.set_up(true),
            }
            // What a connection loses is its last; so a loss is followed by a cut.
            world.turn(lost);
            if lost > 0 {
                world.set_up(false);
            }
        }
        world.set_up(true);
        for _ in 0..2_000 {
            if world.got.len() >= typed.len() && world.shown.len() >= world.log.len() {
                break;
            }
            world.turn(0);
        }
        prop_assert!(world.got == typed, "{} of {} keys arrived", world.got.len(), typed.len());
        prop_assert!(world.shown == world.log);
        prop_assert!(!world.console.status(at(world.now)).has_lost_keys);
    }
}
