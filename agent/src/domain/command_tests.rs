//! Tables and properties of the command machine.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::operation::Operation;

const WAITS: Waits = Waits { announce_ms: 5_000, return_ms: 150_000, ending_ms: 15_000 };

fn plan(operation: &Operation) -> Plan {
    Plan { stages: operation.stages(), timeout_ms: 60_000, waits: WAITS }
}

fn at(ms: i64) -> Moment {
    Moment::from_millis(ms)
}

fn life(boot: &str, run: u128) -> Lifetime {
    Lifetime { boot_id: boot.to_owned(), run_id: Uuid::from_u128(run) }
}

fn init() -> State {
    State::Init { expires_at: at(10_000) }
}

fn working(index: usize, phase: Phase) -> State {
    State::Working { index, since: life("b1", 1), timeout_at: at(60_000), phase }
}

const fn running() -> Phase {
    Phase::Work { return_by: Moment::from_millis(150_000) }
}

const fn waiting(due_ms: i64) -> Phase {
    Phase::Waiting { due_at: Moment::from_millis(due_ms) }
}

fn ending(why: Why) -> State {
    State::Ending { index: 0, why, give_up_at: at(75_000) }
}

fn ok() -> Event {
    Event::WorkDone(Outcome::default())
}

fn broken() -> Event {
    Event::WorkFailed(Failure::new(error_code::SCRIPT_FAILED, "exit status 1"), Outcome::default())
}

fn started(boot: &str, run: u128) -> Event {
    Event::AgentStarted { here: life(boot, run) }
}

/// What a table row expects: a stage entered, a state kept, a final state by code, or a refusal.
#[derive(Debug, PartialEq)]
enum Expect {
    Enters(&'static str),
    Stays,
    Ends(Why),
    Succeeds,
    Fails(&'static str),
    Refuses(Refused),
}

fn outcome(plan: &Plan, given: &State, result: Result<Step, Refused>) -> Expect {
    let step = match result {
        Err(refused) => return Expect::Refuses(refused),
        Ok(step) => step,
    };
    match (&step.next, step.effects.as_slice()) {
        (
            State::Working { .. },
            [Effect::Reply(Reply::Started { state } | Reply::Entered { state, .. }), rest @ ..],
        ) => {
            let index = plan.stages.iter().position(|s| s.name == state.as_ref()).expect("a stage");
            let expected: &[Effect] = &[Effect::RunWork { index }];
            assert_eq!(rest, if plan.stages[index].has_work { expected } else { &[] });
            Expect::Enters(plan.stages[index].name)
        }
        (next @ (State::Working { .. } | State::Init { .. }), []) => {
            assert_eq!(next.name(plan), given.name(plan));
            Expect::Stays
        }
        (State::Ending { why, .. }, [Effect::EndWork]) => Expect::Ends(*why),
        (State::Successful(_), [Effect::Reply(Reply::Completed(_))]) => Expect::Succeeds,
        (State::Failed(failure, _), [Effect::Reply(Reply::Failed(told, _))]) => {
            assert_eq!(failure, told);
            Expect::Fails(failure.code)
        }
        other => panic!("unexpected step {other:?}"),
    }
}

#[test]
fn a_workflow_names_its_states_and_goes_on_with_the_next_run_of_the_agent() {
    let plan = plan(&Operation::Workflow("flash".to_owned(), serde_json::Map::new()));
    let entered = |is_first| Event::StateEntered { state: "install".to_owned(), is_first };
    let given = working(0, running());
    let replies = |event, now| {
        let step = step(&plan, &given, event, at(now)).expect("it goes on");
        (step.next, step.effects)
    };
    let start = step(&plan, &init(), Event::Start { here: life("b1", 1) }, at(0)).expect("starts");
    assert_eq!((start.next, start.effects), (given.clone(), vec![Effect::RunWork { index: 0 }]));

    let started_reply = Reply::Started { state: "install".into() };
    assert_eq!(replies(entered(true), 5), (given.clone(), vec![Effect::Reply(started_reply)]));
    let entered_reply = Reply::Entered { state: "install".into(), progress: None };
    assert_eq!(replies(entered(false), 5), (given.clone(), vec![Effect::Reply(entered_reply)]));
    assert_eq!(replies(Event::Stopping, 5), (given.clone(), vec![]));

    let resumed = |boot: &str, timeout_ms| State::Working {
        index: 0,
        since: life(boot, 2),
        timeout_at: at(timeout_ms),
        phase: running(),
    };
    let again = vec![Effect::RunWork { index: 0 }];
    assert_eq!(replies(started("b1", 2), 5), (resumed("b1", 60_000), again.clone()));
    assert_eq!(replies(started("b2", 2), 7), (resumed("b2", 60_007), again));
    for (event, now, expected) in [
        (ok(), 5, Expect::Succeeds),
        (broken(), 5, Expect::Fails("script_failed")),
        (Event::Cancel, 5, Expect::Ends(Why::Cancelled)),
        (Event::Due, 60_000, Expect::Ends(Why::Timeout)),
        (Event::SaveFailed, 5, Expect::Fails("disk_full")),
    ] {
        assert_eq!(outcome(&plan, &given, step(&plan, &given, event, at(now))), expected);
    }
    let elsewhere =
        step(&Plan { stages: Operation::Ping.stages(), ..plan }, &given, entered(true), at(5));
    assert_eq!(elsewhere, Err(Refused::OutOfPlace));
}

#[test]
fn one_stage_operations_follow_their_table() {
    let plan = plan(&Operation::Ping);
    let start = || Event::Start { here: life("b1", 1) };
    let w = |phase| working(0, phase);
    for (state, event, now, expected) in [
        (init(), start(), 0, Expect::Enters("executing")),
        (init(), start(), 10_000, Expect::Fails("expired")),
        (init(), Event::Due, 10_000, Expect::Fails("expired")),
        (init(), Event::Due, 9_999, Expect::Refuses(Refused::NotDue)),
        (init(), Event::Cancel, 0, Expect::Fails("cancelled")),
        (init(), started("b2", 2), 0, Expect::Stays),
        (init(), Event::Stopping, 0, Expect::Stays),
        (init(), Event::SaveFailed, 0, Expect::Stays),
        (init(), ok(), 0, Expect::Refuses(Refused::OutOfPlace)),
        (w(running()), ok(), 5, Expect::Succeeds),
        (w(running()), broken(), 5, Expect::Fails("script_failed")),
        (w(running()), Event::Cancel, 5, Expect::Ends(Why::Cancelled)),
        (w(running()), Event::Due, 59_999, Expect::Refuses(Refused::NotDue)),
        (w(running()), Event::Due, 60_000, Expect::Ends(Why::Timeout)),
        (w(running()), Event::Stopping, 5, Expect::Ends(Why::AgentStops)),
        (w(running()), started("b1", 2), 5, Expect::Fails("interrupted")),
        (w(running()), started("b2", 2), 5, Expect::Fails("interrupted")),
        (w(running()), Event::SaveFailed, 5, Expect::Fails("disk_full")),
        (w(running()), Event::Acknowledged, 5, Expect::Refuses(Refused::OutOfPlace)),
        (w(running()), start(), 5, Expect::Refuses(Refused::OutOfPlace)),
        (ending(Why::Timeout), ok(), 70_000, Expect::Fails("timeout")),
        (ending(Why::Timeout), broken(), 70_000, Expect::Fails("timeout")),
        (ending(Why::Cancelled), broken(), 70_000, Expect::Fails("cancelled")),
        (ending(Why::AgentStops), broken(), 70_000, Expect::Fails("interrupted")),
        (ending(Why::Cancelled), Event::Cancel, 70_000, Expect::Refuses(Refused::Ending)),
        (ending(Why::Cancelled), Event::Due, 74_999, Expect::Refuses(Refused::NotDue)),
        (ending(Why::Cancelled), Event::Due, 75_000, Expect::Fails("cancelled")),
        (State::Successful(Outcome::default()), ok(), 0, Expect::Refuses(Refused::Ended)),
    ] {
        let result = step(&plan, &state, event.clone(), at(now));
        assert_eq!(outcome(&plan, &state, result), expected, "{state:?} {event:?} at {now}");
    }
}

#[test]
fn operations_of_two_stages_enter_the_second_after_the_first() {
    let operation = Operation::parse("collect_logs", &json!({})).expect("valid");
    let plan = plan(&operation);
    let first = working(0, running());
    assert_eq!(
        outcome(&plan, &first, step(&plan, &first, ok(), at(1))),
        Expect::Enters("uploading")
    );
    let second = working(1, running());
    assert_eq!(outcome(&plan, &second, step(&plan, &second, ok(), at(1))), Expect::Succeeds);
}

#[test]
fn a_reboot_completes_on_another_boot_id_and_waits_on_the_same() {
    let plan = plan(&Operation::RebootHost);
    let (announcing, rebooting) = (working(0, waiting(5_000)), working(1, running()));
    let gone = working(1, waiting(150_000));
    for (state, event, now, expected) in [
        (&announcing, Event::Acknowledged, 1, Expect::Enters("restarting")),
        (&announcing, Event::Due, 5_000, Expect::Enters("restarting")),
        (&announcing, Event::Due, 4_999, Expect::Refuses(Refused::NotDue)),
        (&announcing, Event::Cancel, 1, Expect::Fails("cancelled")),
        (&announcing, started("b2", 2), 1, Expect::Fails("interrupted")),
        (&announcing, Event::Stopping, 1, Expect::Fails("interrupted")),
        (&rebooting, ok(), 1, Expect::Stays),
        (&rebooting, broken(), 1, Expect::Fails("script_failed")),
        (&rebooting, Event::Cancel, 1, Expect::Refuses(Refused::TooLate)),
        (&rebooting, Event::Stopping, 1, Expect::Stays),
        (&rebooting, started("b1", 2), 1, Expect::Stays),
        (&rebooting, started("b2", 2), 1, Expect::Succeeds),
        (&gone, started("b1", 2), 1, Expect::Stays),
        (&gone, started("b2", 2), 1, Expect::Succeeds),
        (&gone, Event::Due, 149_999, Expect::Refuses(Refused::NotDue)),
        (&gone, Event::Due, 150_000, Expect::Fails("interrupted")),
        (&gone, Event::Cancel, 1, Expect::Refuses(Refused::TooLate)),
        (&gone, ok(), 1, Expect::Refuses(Refused::OutOfPlace)),
    ] {
        let result = step(&plan, state, event.clone(), at(now));
        assert_eq!(outcome(&plan, state, result), expected, "{state:?} {event:?} at {now}");
    }
}

#[test]
fn an_agent_restart_completes_on_another_run() {
    let plan = plan(&Operation::RestartAgent);
    let restarting = working(1, waiting(150_000));
    for (event, expected) in [
        (started("b1", 1), Expect::Stays),
        (started("b1", 2), Expect::Succeeds),
        (started("b2", 2), Expect::Succeeds),
    ] {
        let result = step(&plan, &restarting, event, at(1));
        assert_eq!(outcome(&plan, &restarting, result), expected);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..3_u128).prop_map(|run| Event::Start { here: life("b1", run) }),
        Just(Event::Acknowledged),
        Just(ok()),
        Just(broken()),
        Just(Event::Cancel),
        Just(Event::Due),
        (1..3_u32, 1..4_u128).prop_map(|(boot, run)| started(&format!("b{boot}"), run)),
        Just(Event::Stopping),
        Just(Event::SaveFailed),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        Just(Operation::Ping),
        Just(Operation::RebootHost),
        Just(Operation::RestartAgent),
        Just(Operation::parse("collect_logs", &json!({})).expect("valid")),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_stage_runs_once_and_one_end_is_told(
        operation in any_operation(),
        events in prop::collection::vec((any_event(), 0..40_000_i64), 0..40),
    ) {
        let plan = plan(&operation);
        let (mut state, mut now) = (init(), at(0));
        let (mut ran, mut ends) = (Vec::new(), 0);
        for (event, passed) in events {
            now = now.plus_millis(passed);
            let Ok(taken) = step(&plan, &state, event, now) else { continue };
            prop_assert!(!state.is_final(), "a final state was left");
            for effect in &taken.effects {
                match effect {
                    Effect::RunWork { index } => ran.push(*index),
                    Effect::Reply(Reply::Completed(_) | Reply::Failed(..)) => ends += 1,
                    Effect::Reply(_) | Effect::EndWork => {}
                }
            }
            state = taken.next;
            prop_assert_eq!(ends, usize::from(state.is_final()));
            prop_assert_eq!(state.due_at().is_none(), state.is_final());
        }
        prop_assert!(ran.windows(2).all(|pair| pair[0] < pair[1]), "a stage ran twice: {ran:?}");
    }

    #[test]
    fn a_command_always_ends_if_nothing_but_time_passes(
        operation in any_operation(),
        events in prop::collection::vec(any_event(), 0..20),
    ) {
        let plan = plan(&operation);
        let (mut state, mut now) = (init(), at(0));
        for event in events {
            if let Ok(taken) = step(&plan, &state, event, now) {
                state = taken.next;
            }
        }
        for _ in 0..10 {
            let Some(due) = state.due_at() else { break };
            now = now.max(due);
            state = step(&plan, &state, Event::Due, now).expect("it is due").next;
        }
        prop_assert!(state.is_final(), "{state:?}");
    }
}
