//! Every phase meets every event, then properties over all histories.

use proptest::prelude::*;

use super::*;

const TIMEOUT_MS: i64 = 300_000;
const CEILING_MS: i64 = 150_000;
const NOW: i64 = 1_000_000;
const EXPIRES: i64 = 2_000_000;
const ENDS: i64 = 3_000_000;

fn plain(phase: Phase) -> CommandState {
    CommandState { kind: Kind::Plain, timeout_ms: TIMEOUT_MS, phase }
}

fn reboot(phase: Phase) -> CommandState {
    CommandState { kind: Kind::Reboot { ceiling_ms: CEILING_MS }, ..plain(phase) }
}

fn shutdown(phase: Phase) -> CommandState {
    CommandState { kind: Kind::Shutdown, ..plain(phase) }
}

fn queued() -> Phase {
    Phase::Queued { expires_due: EXPIRES }
}
fn published(cancel: bool) -> Phase {
    Phase::Published { expires_due: EXPIRES, cancel: pending(cancel) }
}
fn accepted(cancel: bool) -> Phase {
    Phase::Accepted { ends_due: ENDS, cancel: pending(cancel) }
}
fn running(cancel: bool) -> Phase {
    Phase::Running { ends_due: ENDS, boot_id: Some("b1".into()), cancel: pending(cancel) }
}
fn awaiting(cancel: bool) -> Phase {
    Phase::AwaitingReconnect { ends_due: ENDS, boot_id: Some("b1".into()), cancel: pending(cancel) }
}
fn pending(cancel: bool) -> Option<CancelPending> {
    cancel.then_some(CancelPending { silent_due: NOW + SILENCE_GRACE_MS })
}

fn said(status: ResponseStatus) -> Event<'static> {
    Event::Response(Said { status, error_code: None, state: None, boot_id: Some("b1") })
}
fn failed(code: &'static str) -> Event<'static> {
    Event::Response(Said {
        status: ResponseStatus::Failed,
        error_code: Some(code),
        state: None,
        boot_id: Some("b1"),
    })
}
fn back(boot_id: &str) -> Event<'_> {
    Event::DeviceBack { boot_id: Some(boot_id) }
}

/// What is expected of one step: the status it leads to, or that nothing changes.
type Expected = Result<CommandStatus, Refused>;

fn outcome(state: &CommandState, event: Event<'_>, now_ms: i64) -> Expected {
    step(state, event, now_ms).map(|step| step.next.status())
}

#[test]
fn every_live_phase_meets_every_event() {
    use CommandStatus as S;
    use Refused::{AlreadyRequested, NotConcerned, NotDue, Repeated};
    use ResponseStatus as R;
    let accept = said(R::Accepted);
    let start = said(R::ExecutionStarted);
    let progress = said(R::Progress);
    let done = said(R::Completed);
    let fail = failed("script_failed");
    let late = failed("expired");
    let stopped = failed("cancelled");
    #[rustfmt::skip]
    let table: Vec<(CommandState, Vec<(Event<'_>, Expected)>)> = vec![
        (plain(queued()), vec![
            (Event::Published, Ok(S::Published)), (accept, Ok(S::Accepted)), (start, Ok(S::ExecutionStarted)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)), (late, Ok(S::Expired)),
            (stopped, Ok(S::Failed)), (Event::Cancel, Ok(S::Cancelled)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b2"), Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (plain(published(false)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Ok(S::Accepted)), (start, Ok(S::ExecutionStarted)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)), (late, Ok(S::Expired)),
            (stopped, Ok(S::Failed)), (Event::Cancel, Ok(S::Published)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b2"), Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (plain(published(true)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Ok(S::Accepted)), (start, Ok(S::ExecutionStarted)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)), (late, Ok(S::Expired)),
            (stopped, Ok(S::Cancelled)), (Event::Cancel, Err(AlreadyRequested)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b2"), Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (plain(accepted(false)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Err(Repeated)), (start, Ok(S::ExecutionStarted)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)), (late, Ok(S::Expired)),
            (stopped, Ok(S::Failed)), (Event::Cancel, Ok(S::Accepted)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b2"), Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (plain(accepted(true)), vec![
            (start, Ok(S::ExecutionStarted)), (stopped, Ok(S::Cancelled)), (Event::Cancel, Err(AlreadyRequested)),
        ]),
        (plain(running(false)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Err(Repeated)), (start, Err(Repeated)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)), (late, Ok(S::Expired)),
            (stopped, Ok(S::Failed)), (Event::Cancel, Ok(S::ExecutionStarted)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b2"), Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (plain(running(true)), vec![
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)),
            (stopped, Ok(S::Cancelled)), (Event::Cancel, Err(AlreadyRequested)), (Event::Due, Err(NotDue)),
        ]),
        (reboot(running(false)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Err(Repeated)), (start, Err(Repeated)),
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::AwaitingReconnect)), (fail, Ok(S::Failed)),
            (Event::Cancel, Ok(S::ExecutionStarted)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Ok(S::AwaitingReconnect)), (back("b1"), Err(NotConcerned)), (back("b2"), Ok(S::Completed)),
            (Event::Due, Err(NotDue)),
        ]),
        (reboot(awaiting(false)), vec![
            (Event::Published, Err(NotConcerned)), (accept, Err(Repeated)), (start, Err(Repeated)),
            (progress, Ok(S::AwaitingReconnect)), (done, Ok(S::AwaitingReconnect)), (fail, Ok(S::Failed)),
            (Event::Cancel, Ok(S::AwaitingReconnect)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Err(NotConcerned)), (back("b1"), Err(NotConcerned)), (back("b2"), Ok(S::Completed)),
            (Event::DeviceBack { boot_id: None }, Err(NotConcerned)), (Event::Due, Err(NotDue)),
        ]),
        (reboot(awaiting(true)), vec![
            (progress, Ok(S::AwaitingReconnect)), (done, Ok(S::AwaitingReconnect)), (stopped, Ok(S::Cancelled)),
            (Event::Cancel, Err(AlreadyRequested)), (back("b2"), Ok(S::Completed)), (Event::Due, Err(NotDue)),
        ]),
        (shutdown(running(false)), vec![
            (progress, Ok(S::ExecutionStarted)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)),
            (Event::Cancel, Ok(S::ExecutionStarted)), (Event::Retired, Ok(S::Cancelled)),
            (Event::DeviceGone, Ok(S::AwaitingReconnect)), (back("b1"), Err(NotConcerned)), (back("b2"), Ok(S::Completed)),
            (Event::Due, Err(NotDue)),
        ]),
        (shutdown(awaiting(false)), vec![
            (progress, Ok(S::AwaitingReconnect)), (done, Ok(S::Completed)), (fail, Ok(S::Failed)),
            (Event::Cancel, Ok(S::AwaitingReconnect)), (Event::DeviceGone, Err(NotConcerned)),
            (back("b1"), Ok(S::ExecutionStarted)), (back("b2"), Ok(S::Completed)), (Event::Due, Err(NotDue)),
        ]),
    ];
    for (state, events) in table {
        for (event, expected) in events {
            assert_eq!(outcome(&state, event, NOW), expected, "{state:?} {event:?}");
        }
    }
}

#[test]
fn every_ended_status_stays_whatever_comes() {
    use CommandStatus as S;
    for status in CommandStatus::ALL.into_iter().filter(|status| status.is_terminal()) {
        let state = plain(Phase::Ended(status));
        for event in [
            Event::Published,
            Event::Cancel,
            Event::Retired,
            Event::DeviceGone,
            back("b2"),
            Event::Due,
        ] {
            assert_eq!(
                outcome(&state, event, NOW),
                Err(Refused::AlreadyEnded(status)),
                "{status} {event:?}"
            );
        }
        for event in [said(ResponseStatus::Accepted), said(ResponseStatus::Completed), failed("x")]
        {
            let Event::Response(word) = event else { continue };
            let repeats = (status == S::Completed && word.status != ResponseStatus::Failed)
                || (status == S::Failed && word.status != ResponseStatus::Completed);
            if repeats {
                assert_eq!(step(&state, event, NOW), Err(Refused::Repeated), "{status} {event:?}");
            } else {
                let step = step(&state, event, NOW).expect("evidence");
                assert_eq!(step.next, state.phase);
                assert_eq!(
                    step.timeline[0].map(|note| note.event),
                    Some("late"),
                    "{status} {event:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_due_ends_as_its_phase_says() {
    use CommandStatus as S;
    for (state, due_ms, expected) in [
        (plain(queued()), EXPIRES, S::Expired),
        (plain(published(false)), EXPIRES, S::Expired),
        (plain(published(true)), NOW + SILENCE_GRACE_MS, S::Cancelled),
        (plain(accepted(false)), ENDS, S::TimedOut),
        (plain(accepted(true)), NOW + SILENCE_GRACE_MS, S::Cancelled),
        (plain(running(false)), ENDS, S::TimedOut),
        (plain(running(true)), NOW + SILENCE_GRACE_MS, S::Cancelled),
        (reboot(running(false)), ENDS, S::TimedOut),
        (reboot(awaiting(false)), ENDS, S::TimedOut),
        (reboot(awaiting(true)), NOW + SILENCE_GRACE_MS, S::Cancelled),
        (shutdown(running(false)), ENDS, S::TimedOut),
        (shutdown(awaiting(false)), ENDS, S::Completed),
        (shutdown(awaiting(true)), NOW + SILENCE_GRACE_MS, S::Cancelled),
    ] {
        assert_eq!(state.phase.due(), Some(due_ms), "{state:?}");
        assert_eq!(outcome(&state, Event::Due, due_ms - 1), Err(Refused::NotDue), "{state:?}");
        assert_eq!(outcome(&state, Event::Due, due_ms), Ok(expected), "{state:?}");
    }
}

#[test]
fn the_time_out_runs_from_the_start_and_the_server_waits_thirty_seconds_longer() {
    let step = step(&plain(accepted(false)), said(ResponseStatus::ExecutionStarted), NOW)
        .expect("started");
    assert_eq!(step.next.due(), Some(NOW + TIMEOUT_MS + SILENCE_GRACE_MS));
}

#[test]
fn a_word_of_the_device_puts_off_the_end_of_a_cancellation_but_not_of_the_time_out() {
    let state = plain(running(true));
    for word in
        [ResponseStatus::Progress, ResponseStatus::ExecutionStarted, ResponseStatus::Accepted]
    {
        let next = step(&state, said(word), NOW + 20_000).expect("a word").next;
        assert_eq!(next.due(), Some(NOW + 20_000 + SILENCE_GRACE_MS), "{word:?}");
    }
    let next = step(&plain(running(false)), said(ResponseStatus::Progress), ENDS - 1)
        .expect("progress")
        .next;
    assert_eq!(next.due(), Some(ENDS));
}

#[test]
fn a_host_has_its_ceiling_to_go_down_for_a_reboot() {
    let start = said(ResponseStatus::ExecutionStarted);
    let next = step(&reboot(accepted(false)), start, NOW).expect("started").next;
    assert_eq!(next.due(), Some(NOW + CEILING_MS));
    let hasty = CommandState { timeout_ms: 5_000, ..reboot(accepted(false)) };
    let next = step(&hasty, start, NOW).expect("started").next;
    assert_eq!(next.due(), Some(NOW + 5_000 + SILENCE_GRACE_MS));
}

#[test]
fn a_reboot_that_its_device_gives_up_is_timed_out_as_if_we_had_noticed_first() {
    let gave_up = Event::Response(Said {
        status: ResponseStatus::Failed,
        error_code: Some(error_code::TIMEOUT),
        state: None,
        boot_id: Some("b1"),
    });
    for (command, status) in [
        (reboot(running(false)), CommandStatus::TimedOut),
        (plain(running(false)), CommandStatus::Failed),
    ] {
        let next = step(&command, gave_up, NOW).expect("its last word").next;
        assert_eq!(next, Phase::Ended(status), "{:?}", command.kind);
        let again = CommandState { phase: next, ..command };
        assert_eq!(step(&again, gave_up, NOW), Err(Refused::Repeated), "{:?}", again.kind);
    }
}

#[test]
fn a_shutdown_is_believed_once_the_host_has_stayed_away() {
    let gone = step(&shutdown(running(false)), Event::DeviceGone, NOW).expect("gone").next;
    let ends_due = NOW + SILENCE_GRACE_MS;
    assert_eq!(
        gone,
        Phase::AwaitingReconnect { ends_due, boot_id: Some("b1".into()), cancel: None }
    );
    let flapped = step(&shutdown(gone), back("b1"), NOW).expect("back").next;
    assert_eq!(flapped.due(), Some(NOW + TIMEOUT_MS + SILENCE_GRACE_MS));
}

#[test]
fn a_reboot_waits_at_most_its_ceiling_from_the_moment_it_goes_down() {
    let down = Event::Response(Said {
        status: ResponseStatus::Progress,
        error_code: None,
        state: Some("restarting"),
        boot_id: Some("b1"),
    });
    for event in [down, Event::DeviceGone, said(ResponseStatus::Completed)] {
        let next = step(&reboot(running(false)), event, NOW).expect("going down").next;
        assert_eq!(
            next,
            Phase::AwaitingReconnect {
                ends_due: NOW + CEILING_MS,
                boot_id: Some("b1".into()),
                cancel: None
            },
            "{event:?}"
        );
    }
}

#[test]
fn a_reboot_that_was_faster_than_the_broker_is_still_seen_to_have_waited() {
    let step = step(&reboot(running(false)), back("b2"), NOW).expect("back");
    let events: Vec<_> = step.timeline.into_iter().flatten().map(|note| note.event).collect();
    assert_eq!(events, ["awaiting_reconnect", "completed"]);
}

#[test]
fn what_was_due_first_decides_however_late_it_is_looked_at() {
    let cancel = Some(CancelPending { silent_due: ENDS + 1 });
    let boot_id = Some("b1".to_owned());
    let away = Phase::AwaitingReconnect { ends_due: ENDS, boot_id, cancel };
    for (state, expected) in [
        (shutdown(away.clone()), CommandStatus::Completed),
        (reboot(away), CommandStatus::TimedOut),
        (reboot(awaiting(true)), CommandStatus::Cancelled),
    ] {
        assert_eq!(outcome(&state, Event::Due, 2 * ENDS), Ok(expected), "{state:?}");
    }
}

#[test]
fn a_device_without_boot_ids_is_believed() {
    let state = reboot(Phase::AwaitingReconnect { ends_due: ENDS, boot_id: None, cancel: None });
    assert_eq!(outcome(&state, said(ResponseStatus::Completed), NOW), Ok(CommandStatus::Completed));
    assert_eq!(outcome(&state, back("b9"), NOW), Ok(CommandStatus::Completed));
}

#[test]
fn only_a_cancellation_of_what_a_device_may_have_is_sent_to_it() {
    for (phase, is_sent) in [
        (queued(), false),
        (published(false), true),
        (accepted(false), true),
        (running(false), true),
        (awaiting(false), true),
    ] {
        let step = step(&plain(phase.clone()), Event::Cancel, NOW).expect("cancelled or requested");
        assert_eq!(step.effect.is_some(), is_sent, "{phase:?}");
    }
}

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let status = prop::sample::select(vec![
        ResponseStatus::Accepted,
        ResponseStatus::ExecutionStarted,
        ResponseStatus::Progress,
        ResponseStatus::Completed,
        ResponseStatus::Failed,
    ]);
    let code = prop::sample::select(vec![
        None,
        Some("expired"),
        Some("cancelled"),
        Some("timeout"),
        Some("x"),
    ]);
    let state = prop::sample::select(vec![None, Some("executing"), Some("restarting")]);
    let boot = || prop::sample::select(vec![None, Some("b1"), Some("b2")]);
    prop_oneof![
        3 => (status, code, state, boot()).prop_map(|(status, error_code, state, boot_id)| Event::Response(Said {
            status, error_code, state, boot_id
        })),
        1 => Just(Event::Published),
        1 => Just(Event::Cancel),
        1 => Just(Event::DeviceGone),
        1 => boot().prop_map(|boot_id| Event::DeviceBack { boot_id }),
        2 => Just(Event::Due),
    ]
}

proptest! {
    #[test]
    fn no_history_leaves_a_terminal_status(
        of_kind in prop::sample::select(vec![plain, reboot, shutdown]),
        history in prop::collection::vec((any_event(), 0_i64..60_000), 0..80),
    ) {
        let mut state = of_kind(Phase::Queued { expires_due: 600_000 });
        let (mut now_ms, mut ended) = (0, None);
        for (event, passes_ms) in history {
            now_ms += passes_ms;
            if let Ok(step) = step(&state, event, now_ms) {
                prop_assert!(step.next.is_ended() == step.next.due().is_none());
                prop_assert!(step.timeline[0].is_some(), "each step is told");
                state.phase = step.next;
            }
            if let Some(status) = ended {
                prop_assert_eq!(state.phase.status(), status);
            } else if state.phase.is_ended() {
                ended = Some(state.phase.status());
            }
        }
    }

    /// However it goes, and with a device that never speaks again, time alone ends each command.
    #[test]
    fn time_alone_ends_every_command(
        of_kind in prop::sample::select(vec![plain, reboot, shutdown]),
        history in prop::collection::vec((any_event(), 0_i64..60_000), 0..40),
    ) {
        let mut state = of_kind(Phase::Queued { expires_due: 600_000 });
        let mut now_ms = 0;
        for (event, passes_ms) in history {
            now_ms += passes_ms;
            if let Ok(step) = step(&state, event, now_ms) {
                state.phase = step.next;
            }
        }
        let mut rounds = 0;
        while let Some(due_ms) = state.phase.due() {
            prop_assert!(rounds < 3, "{state:?}");
            rounds += 1;
            now_ms = now_ms.max(due_ms);
            state.phase = step(&state, Event::Due, now_ms).expect("it is due").next;
        }
        prop_assert!(state.phase.is_ended());
    }

    /// A word said twice, one after the other, is as if said once.
    #[test]
    fn a_repeated_word_adds_nothing_to_the_state(
        history in prop::collection::vec((any_event(), 0_i64..60_000), 0..40),
    ) {
        let mut state = plain(Phase::Queued { expires_due: 600_000 });
        let mut now_ms = 0;
        for (event, passes_ms) in history {
            now_ms += passes_ms;
            if let Ok(once) = step(&state, event, now_ms) {
                state.phase = once.next;
                if let (Event::Response(_), Ok(twice)) = (event, step(&state, event, now_ms)) {
                    prop_assert_eq!(&twice.next, &state.phase);
                }
            }
        }
    }
}
