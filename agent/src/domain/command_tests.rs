//! Tables and properties of the command machine.

use proptest::prelude::*;

use super::*;

const PLAN: Plan = Plan { timeout_ms: 60_000, ending_ms: 15_000 };

fn at(ms: i64) -> Moment {
    Moment::from_millis(ms)
}

fn init() -> State {
    State::Init { expires_at: at(10_000) }
}

fn running(state: &str, goes_down: bool) -> State {
    let (boot_id, state) = ("b1".to_owned(), state.to_owned());
    State::Running(Running { boot_id, timeout_at: at(60_000), state, goes_down })
}

fn ending(why: Why) -> State {
    State::Ending { state: "work".to_owned(), why, give_up_at: at(75_000) }
}

fn start() -> Event {
    Event::Start { boot_id: "b1".to_owned() }
}

fn ok() -> Event {
    Event::Ended(Ok(Outcome::default()))
}

fn broken() -> Event {
    let failure = Failure::new(error_code::SCRIPT_FAILED, "exit status 1");
    Event::Ended(Err((failure, Outcome::default())))
}

fn entered(state: &str) -> Event {
    Event::StateEntered { state: state.to_owned(), progress: Some(50) }
}

fn restarted(boot: &str) -> Event {
    Event::AgentStarted { boot_id: boot.to_owned() }
}

/// What a table row expects.
#[derive(Debug, PartialEq)]
enum Expect {
    Follows,
    /// Says that it has started, in this state.
    Starts(&'static str),
    Enters(&'static str),
    Stays,
    Ends(Why),
    Succeeds,
    Fails(&'static str),
    Refuses(Refused),
}

fn outcome(given: &State, event: Event, now: i64) -> Expect {
    let step = match step(PLAN, given, event, at(now)) {
        Err(refused) => return Expect::Refuses(refused),
        Ok(step) => step,
    };
    let known = |state: &str| ["work", "restarting"].into_iter().find(|s| *s == state);
    match (&step.next, step.effects.as_slice()) {
        (State::Running(_), [Effect::Follow]) => Expect::Follows,
        (State::Running(running), [Effect::Reply(Reply::Started { state })]) => {
            assert_eq!(*state, running.state);
            Expect::Starts(known(state).expect("a state of the table"))
        }
        (State::Running(running), [Effect::Reply(Reply::Entered { state, progress })]) => {
            assert_eq!((state, *progress), (&running.state, Some(50)));
            Expect::Enters(known(state).expect("a state of the table"))
        }
        (State::Running(_) | State::Init { .. }, []) => Expect::Stays,
        (State::Ending { why, .. }, [Effect::End(ended)]) => {
            assert_eq!(why, ended);
            Expect::Ends(*why)
        }
        (State::Successful(_), [Effect::Reply(Reply::Completed(_))]) => Expect::Succeeds,
        (State::Failed(failure, _), [Effect::Reply(Reply::Failed(told, _))]) => {
            assert_eq!(failure, told);
            let codes = ["expired", "cancelled", "timeout", "script_failed", "disk_full"];
            Expect::Fails(codes.into_iter().find(|c| *c == failure.code).expect("a known code"))
        }
        other => panic!("unexpected step {other:?}"),
    }
}

#[test]
fn each_event_leads_where_the_diagram_says() {
    let work = || running("work", false);
    let down = || running("restarting", true);
    for (state, event, now, expected) in [
        (init(), start(), 0, Expect::Follows),
        (init(), start(), 10_000, Expect::Fails("expired")),
        (init(), Event::Due, 10_000, Expect::Fails("expired")),
        (init(), Event::Due, 9_999, Expect::Refuses(Refused::NotDue)),
        (init(), Event::Cancel, 0, Expect::Fails("cancelled")),
        (init(), restarted("b2"), 0, Expect::Stays),
        (init(), ok(), 0, Expect::Refuses(Refused::OutOfPlace)),
        (init(), broken(), 0, Expect::Fails("script_failed")),
        (running("init", false), entered("work"), 5, Expect::Starts("work")),
        (running("init", false), ok(), 5, Expect::Succeeds),
        (work(), entered("work"), 5, Expect::Stays),
        (work(), entered("restarting"), 5, Expect::Enters("restarting")),
        (work(), ok(), 5, Expect::Succeeds),
        (work(), broken(), 5, Expect::Fails("script_failed")),
        (work(), Event::Cancel, 5, Expect::Ends(Why::Cancelled)),
        (work(), Event::Due, 59_999, Expect::Refuses(Refused::NotDue)),
        (work(), Event::Due, 60_000, Expect::Ends(Why::Timeout)),
        (work(), restarted("b1"), 5, Expect::Follows),
        (work(), start(), 5, Expect::Refuses(Refused::OutOfPlace)),
        (down(), Event::Cancel, 5, Expect::Refuses(Refused::TooLate)),
        (down(), Event::Due, 900_000, Expect::Refuses(Refused::NotDue)),
        (down(), entered("restarting"), 5, Expect::Stays),
        (down(), entered("work"), 5, Expect::Enters("work")),
        (down(), restarted("b2"), 5, Expect::Follows),
        (down(), broken(), 5, Expect::Fails("script_failed")),
        (ending(Why::Timeout), ok(), 70_000, Expect::Fails("timeout")),
        (ending(Why::Timeout), broken(), 70_000, Expect::Fails("timeout")),
        (ending(Why::Cancelled), broken(), 70_000, Expect::Fails("cancelled")),
        (ending(Why::Cancelled), Event::Cancel, 70_000, Expect::Refuses(Refused::Ending)),
        (ending(Why::Cancelled), Event::GoesDown, 70_000, Expect::Refuses(Refused::OutOfPlace)),
        (ending(Why::Cancelled), Event::Due, 74_999, Expect::Refuses(Refused::NotDue)),
        (ending(Why::Cancelled), Event::Due, 75_000, Expect::Fails("cancelled")),
        (State::Successful(Outcome::default()), ok(), 0, Expect::Refuses(Refused::Ended)),
    ] {
        assert_eq!(outcome(&state, event.clone(), now), expected, "{state:?} {event:?} at {now}");
    }
}

#[test]
fn what_goes_down_is_due_no_more_until_it_is_in_another_state() {
    let state = running("restarting", false);
    let down = step(PLAN, &state, Event::GoesDown, at(5)).expect("it does").next;
    assert_eq!((down.name(), down.due_at()), ("restarting", None));
    let again = step(PLAN, &down, entered("restarting"), at(5)).expect("it stays").next;
    assert_eq!(again, down, "the agent came back in the same boot");
    let back = step(PLAN, &again, entered("verify"), at(5)).expect("it goes on").next;
    assert_eq!(back.due_at(), Some(at(60_000)));
}

#[test]
fn in_another_boot_the_time_out_begins_anew() {
    let due = |boot: &str| {
        let next = step(PLAN, &running("work", false), restarted(boot), at(7)).expect("goes on");
        next.next.due_at()
    };
    assert_eq!((due("b1"), due("b2")), (Some(at(60_000)), Some(at(60_007))));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(start()),
        Just(entered("work")),
        Just(entered("restarting")),
        Just(Event::GoesDown),
        Just(ok()),
        Just(broken()),
        Just(Event::Cancel),
        Just(Event::Due),
        (1..3_u32).prop_map(|boot| restarted(&format!("b{boot}"))),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_starts_once_and_one_end_is_told(
        events in prop::collection::vec((any_event(), 0..40_000_i64), 0..40),
    ) {
        let (mut state, mut now) = (init(), at(0));
        let (mut started, mut ends) = (0, 0);
        for (event, passed) in events {
            now = now.plus_millis(passed);
            let Ok(taken) = step(PLAN, &state, event, now) else { continue };
            prop_assert!(!state.is_final(), "a final state was left");
            for effect in &taken.effects {
                match effect {
                    Effect::Reply(Reply::Started { .. }) => started += 1,
                    Effect::Reply(Reply::Completed(_) | Reply::Failed(..)) => ends += 1,
                    Effect::Reply(Reply::Entered { .. }) => prop_assert_eq!(started, 1),
                    Effect::Follow | Effect::End(_) => {}
                }
            }
            state = taken.next;
            prop_assert_eq!(ends, usize::from(state.is_final()));
        }
        prop_assert!(started <= 1);
    }

    #[test]
    fn a_command_always_ends_if_nothing_but_time_passes_and_what_went_down_came_back(
        events in prop::collection::vec(any_event(), 0..20),
    ) {
        let (mut state, mut now) = (init(), at(0));
        for event in events {
            if let Ok(taken) = step(PLAN, &state, event, now) {
                state = taken.next;
            }
        }
        if matches!(&state, State::Running(Running { goes_down: true, .. })) {
            state = step(PLAN, &state, broken(), now).expect("its step knows a ceiling").next;
        }
        // A place is free at last.
        if let Ok(taken) = step(PLAN, &state, start(), now) {
            state = taken.next;
        }
        for _ in 0..10 {
            let Some(due) = state.due_at() else { break };
            now = now.max(due);
            state = step(PLAN, &state, Event::Due, now).expect("it is due").next;
        }
        prop_assert!(state.is_final(), "{state:?}");
    }
}
