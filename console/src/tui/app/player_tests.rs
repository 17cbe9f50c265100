use super::*;

fn event(time_ms: u64, kind: RecordingEventKind, data: &str) -> RecordingEvent {
    RecordingEvent { time_ms, kind, data: data.to_owned() }
}

fn player() -> Player {
    let output = RecordingEventKind::Output;
    let mut player = Player::new("r".to_owned(), RequestId(1));
    player.events = vec![
        event(0, RecordingEventKind::Resize, "20x4"),
        event(0, output, "one\r\n"),
        event(1_000, output, "two\r\n"),
        event(1_000, output, "also\r\n"),
        event(5_000, output, "th\x1b[31mree"),
    ];
    player.loading = Loading::Whole;
    player
}

fn shown(player: &mut Player) -> String {
    player.pane.refresh(0);
    let size = player.pane.display().size();
    let text: String = (0..size.rows)
        .flat_map(|row| (0..size.cols).map(move |col| (row, col)))
        .filter_map(|(row, col)| player.pane.display().look(row, col))
        .map(|look| look.text)
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

#[test]
fn it_plays_as_fast_as_it_was_and_as_fast_as_one_wants() {
    let mut player = player();
    player.on_time(at(0));
    assert_eq!(shown(&mut player), "one");
    player.on_time(at(999));
    assert_eq!(shown(&mut player), "one");
    player.on_time(at(1_000));
    assert_eq!(shown(&mut player), "one two also");
    player.speed = 4;
    player.on_time(at(2_000));
    assert_eq!(player.position_ms(), 5_000);
    assert!(!player.is_playing, "it stops at its end");
    assert_eq!(shown(&mut player), "one two also three");
}

#[test]
fn it_wakes_for_the_next_event() {
    let mut player = player();
    player.on_time(at(0));
    assert_eq!(player.due(), Some(at(1_000)));
    player.speed = 4;
    player.on_time(at(0));
    assert_eq!(player.due(), Some(at(250)));
    player.is_playing = false;
    player.on_time(at(0));
    assert_eq!(player.due(), None);
}

#[test]
fn it_steps_event_by_event_there_and_back() {
    let mut player = player();
    player.is_playing = false;
    for text in ["", "one", "one two"] {
        player.seek_event(player.next);
        assert_eq!(shown(&mut player), text);
    }
    player.seek_event(player.next.saturating_sub(2));
    assert_eq!((shown(&mut player).as_str(), player.next), ("one", 2));
}

#[test]
fn a_place_before_is_reached_from_the_beginning() {
    let mut player = player();
    player.is_playing = false;
    player.seek(u64::MAX);
    player.on_time(at(0));
    assert_eq!(shown(&mut player), "one two also three");
    player.seek(500);
    player.on_time(at(0));
    assert_eq!(shown(&mut player), "one");
}

#[test]
fn a_long_way_is_gone_in_turns() {
    let mut player = player();
    let line = "x".repeat(1_000);
    let output = RecordingEventKind::Output;
    player.events = (0..1_000).map(|n| event(n, output, &line)).collect();
    player.is_playing = false;
    player.seek(u64::MAX);
    player.on_time(at(0));
    assert!(player.is_behind());
    assert_eq!(player.due(), Some(at(BEHIND_MS)));
    let turns = (0..100).take_while(|_| {
        player.on_time(at(0));
        player.is_behind()
    });
    assert!((2..10).contains(&turns.count()));
}

#[test]
fn it_waits_for_what_is_not_loaded_yet() {
    let mut player = player();
    player.loading = Loading::Asked(RequestId(2));
    player.on_time(at(0));
    player.on_time(at(60_000));
    assert!(player.is_playing);
    assert_eq!(player.position_ms(), 5_000);
}

#[test]
fn a_text_is_found_through_its_colours() {
    let player = player();
    assert_eq!(find(&player.events, "three"), [4]);
    assert_eq!(find(&player.events, "o"), [1, 2, 3]);
    assert_eq!(find(&player.events, "One"), [0_usize; 0]);
    // What runs over into the next event is found there.
    assert_eq!(find(&player.events, "etwo"), [2]);
    assert_eq!(find(&player.events, ""), [0_usize; 0]);
}

#[test]
fn what_is_no_text_is_not_searched() {
    let mut plain = Plain::default();
    let text: String = "a\x1b]0;title\x07b\x1b(0c\x1b[1;31md\x1bPq\x1b\\e\r\nf\x1b7g"
        .chars()
        .filter(|c| plain.is_text(*c))
        .collect();
    assert_eq!(text, "abcdefg");
}

#[test]
fn times_are_typed_as_people_say_them() {
    for (text, ms) in [
        ("90", Some(90_000)),
        ("2:30", Some(150_000)),
        ("1:02:03", Some(3_723_000)),
        ("50%", Some(5_000)),
        ("100 %", Some(10_001)),
        ("2:99", None),
        ("101%", None),
        ("soon", None),
        ("99999999999999999999", None),
        ("18446744073709551615:00", None),
    ] {
        assert_eq!(time(text, 10_001), ms, "{text}");
    }
}
