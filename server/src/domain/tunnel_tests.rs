use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    open_ms: 20_000,
    idle_ms: 600_000,
    duration_ms: 7_200_000,
    away_ms: 900_000,
    alone_ms: 60_000,
};

fn at(session: &Session, event: Event, now_ms: i64) -> (Session, Vec<Effect>) {
    let step = step(session, event, now_ms, &LIMITS).expect("not over");
    (step.next, step.effects)
}

fn open() -> Session {
    at(&Session::new(Ends::Here, 0, &LIMITS), Event::Opened, 0).0
}

fn ended(reason: CloseCode) -> Event {
    Event::Ended { reason, message: String::new() }
}

fn close(reason: CloseCode) -> Event {
    Event::Close { reason, message: String::new() }
}

#[test]
fn each_event_leads_where_the_diagram_says() {
    use Effect::Tell;
    use TunnelStatus::{Closed, Failed, Open, Opening, Stalled};
    let opening = Session::new(Ends::Here, 0, &LIMITS);
    let stalled = at(&open(), Event::Lost, 1).0;
    for (from, event, now_ms, status, effects) in [
        (&opening, Event::Opened, 5, Open, vec![]),
        (&opening, Event::Heard, 5, Opening, vec![]),
        (&opening, Event::Lost, 5, Opening, vec![]),
        (&opening, ended(CloseCode::LaunchFailed), 5, Failed, vec![]),
        (&opening, close(CloseCode::ClosedByUser), 5, Failed, vec![Tell]),
        (&opening, Event::Time, 20_000, Failed, vec![Tell]),
        (&open(), Event::Opened, 5, Open, vec![]),
        (&open(), Event::Lost, 5, Stalled, vec![]),
        (&open(), ended(CloseCode::Finished), 5, Closed, vec![]),
        (&open(), close(CloseCode::Killed), 5, Closed, vec![Tell]),
        (&open(), close(CloseCode::RecordingFailed), 5, Closed, vec![Tell]),
        (&stalled, Event::Heard, 5, Open, vec![]),
        (&stalled, Event::Lost, 5, Stalled, vec![]),
        (&stalled, Event::Opened, 5, Stalled, vec![]),
        (&stalled, close(CloseCode::DiskFull), 5, Closed, vec![Tell]),
    ] {
        let said = format!("{:?} {event:?}", from.phase);
        let (next, did) = at(from, event, now_ms);
        assert_eq!((next.status(), did), (status, effects), "{said}");
    }
}

#[test]
fn an_open_is_asked_for_again_until_it_is_answered_or_has_waited_for_long() {
    let mut session = Session::new(Ends::Here, 0, &LIMITS);
    let mut asked = Vec::new();
    while let Some(due_ms) = session.due_ms(&LIMITS) {
        let (next, effects) = at(&session, Event::Time, due_ms);
        asked.extend(effects.contains(&Effect::Ask).then_some(due_ms));
        session = next;
    }
    assert_eq!(asked, [0, 1_000, 3_000, 7_000, 12_000, 17_000]);
    assert_eq!(
        session.end().map(|end| (end.was_open, end.reason)),
        Some((false, CloseCode::DeviceLost))
    );
}

#[test]
fn an_idle_session_is_warned_a_minute_before_it_ends() {
    let session = open();
    assert_eq!(session.due_ms(&LIMITS), Some(540_000));
    let (warned, effects) = at(&session, Event::Time, 540_000);
    assert_eq!(effects, [Effect::Warn { seconds: 60 }]);
    assert_eq!(warned.due_ms(&LIMITS), Some(600_000));
    let (over, effects) = at(&warned, Event::Time, 600_000);
    assert_eq!(over.end().map(|end| end.reason), Some(CloseCode::IdleTimeout));
    assert_eq!(effects, [Effect::Tell]);
    // A key in the last minute begins it anew, warning and all.
    let (awake, _) = at(&warned, Event::Typed, 599_000);
    assert_eq!(awake.due_ms(&LIMITS), Some(599_000 + 540_000));
}

#[test]
fn output_counts_as_activity_only_while_somebody_is_attached() {
    let (alone, _) = at(&open(), Event::Shown, 500_000);
    assert_eq!(alone.due_ms(&LIMITS), Some(540_000));
    let (attached, _) = at(&open(), Event::Attached, 0);
    let (seen, _) = at(&attached, Event::Shown, 500_000);
    assert_eq!(seen.due_ms(&LIMITS), Some(500_000 + 540_000));
    let (left, _) = at(&seen, Event::Detached, 510_000);
    let (unseen, _) = at(&left, Event::Shown, 900_000);
    assert_eq!(unseen.due_ms(&LIMITS), Some(500_000 + 540_000));
}

#[test]
fn nothing_keeps_it_open_for_longer_than_it_may_be() {
    let mut session = at(&open(), Event::Attached, 0).0;
    let mut now_ms = 0;
    while session.end().is_none() {
        now_ms += 60_000;
        session = at(&session, Event::Typed, now_ms).0;
        session = at(&session, Event::Time, now_ms).0;
    }
    assert_eq!(
        (now_ms, session.end().map(|end| end.reason)),
        (7_200_000, Some(CloseCode::DurationLimit))
    );
}

#[test]
fn a_device_that_stays_away_is_given_up() {
    let (stalled, _) = at(&open(), Event::Lost, 1_000);
    let (kept, _) = at(&stalled, Event::Typed, 500_000);
    assert_eq!(kept.due_ms(&LIMITS), Some(901_000));
    let (over, effects) = at(&kept, Event::Time, 901_000);
    assert_eq!(over.end().map(|end| end.reason), Some(CloseCode::DeviceLost));
    assert_eq!(effects, [Effect::Tell]);
}

#[test]
fn streams_that_end_in_a_console_are_over_when_it_does_not_come_back() {
    let exec = at(&Session::new(Ends::InConsole, 0, &LIMITS), Event::Opened, 0).0;
    let attached = at(&exec, Event::Attached, 10).0;
    assert_eq!(attached.due_ms(&LIMITS), Some(540_010));
    let gone = at(&attached, Event::Detached, 100_000).0;
    assert_eq!(gone.due_ms(&LIMITS), Some(160_000));
    // It came back in time, and a second socket of its own took the first one's place.
    let back = at(&gone, Event::Attached, 159_999).0;
    let twice = at(&at(&back, Event::Attached, 160_000).0, Event::Detached, 160_001).0;
    assert_eq!(at(&twice, Event::Time, 300_000).0.end(), None);
    let (over, effects) = at(&gone, Event::Time, 160_000);
    assert_eq!(over.end().map(|end| end.reason), Some(CloseCode::ConsoleLost));
    assert_eq!(effects, [Effect::Tell]);
    // One that nobody ever came to, and one after a restart of the server.
    for (session, due_ms) in
        [(exec, 60_000), (Session::resumed(Ends::InConsole, true, 7_200_000, 5_000), 65_000)]
    {
        assert_eq!(session.due_ms(&LIMITS), Some(due_ms));
        let over = at(&session, Event::Time, due_ms).0;
        assert_eq!(over.end().map(|end| end.reason), Some(CloseCode::ConsoleLost));
    }
    // A terminal is nobody's in particular.
    let terminal = at(&at(&open(), Event::Attached, 0).0, Event::Detached, 0).0;
    assert_eq!(at(&terminal, Event::Time, 500_000).0.end(), None);
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let opening = Session::resumed(Ends::Here, false, 1_000_000, 5_000);
    assert_eq!(at(&opening, Event::Time, 5_000).1, [Effect::Ask]);
    let open = Session::resumed(Ends::Here, true, 1_000_000, 5_000);
    assert_eq!(open.status(), TunnelStatus::Stalled);
    assert_eq!(at(&open, Event::Heard, 6_000).0.status(), TunnelStatus::Open);
    assert_eq!(open.ends_ms(), 1_000_000);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Opened),
        Just(Event::Lost),
        Just(Event::Heard),
        Just(Event::Attached),
        Just(Event::Detached),
        Just(Event::Typed),
        Just(Event::Shown),
        Just(Event::Time),
        Just(ended(CloseCode::Finished)),
        Just(close(CloseCode::Killed)),
    ]
}

proptest! {
    /// Whatever happens: it is over in time, its due is never in the past for
    /// long, and what is over stays as it is.
    #[test]
    fn it_always_ends_and_stays_so(
        ends in prop_oneof![Just(Ends::Here), Just(Ends::InConsole)],
        events in prop::collection::vec((any_event(), 0_i64..400_000), 0..60),
    ) {
        let mut session = Session::new(ends, 0, &LIMITS);
        let mut now_ms = 0;
        for (event, gap_ms) in events {
            now_ms += gap_ms;
            match step(&session, event, now_ms, &LIMITS) {
                Ok(step) => session = step.next,
                Err(Over) => prop_assert!(session.end().is_some()),
            }
        }
        let mut steps = 0;
        while let Some(due_ms) = session.due_ms(&LIMITS) {
            now_ms = now_ms.max(due_ms);
            session = at(&session, Event::Time, now_ms).0;
            steps += 1;
            prop_assert!(steps < 20, "it does not end: {session:?}");
        }
        prop_assert!(now_ms <= 400_000 * 60 + LIMITS.duration_ms);
        prop_assert_eq!(step(&session, Event::Opened, now_ms, &LIMITS), Err(Over));
    }
}
