//! Entering a state: what it asks for, and what is saved and published on the way.

use std::sync::Arc;

use super::{Effect, Launch, Place, Purpose, Refused, Run, Step};
use crate::{
    domain::Moment,
    workflow::{
        command::{Command, Phase, Sub},
        definition::{Action, BuiltinCall, INIT},
        message::{self, Baton, Payload, REASON, TooBig},
        outcome::Outcome,
        substitution::CommandLine,
    },
};

/// The reason of a command whose script may not be run again after a crash.
const INTERRUPTED: &str = "interrupted: the agent stopped while this ran, and it is not repeatable";

/// How a command goes to its next state.
pub(super) struct Move {
    pub outcome: Outcome,
    /// What it awaits from now on.
    pub sub: Option<Arc<Sub>>,
    /// Done before the next state is published.
    pub before: Vec<Effect>,
    /// Done after it.
    pub after: Vec<Effect>,
    /// Started before the next state's own action begins.
    pub launch: Option<Launch>,
}

/// How a state is entered.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    /// Its sub-operation is started by this very step.
    is_sub_started: bool,
    /// What it asks for may have been begun before the agent restarted.
    is_resumed: bool,
    /// The due time that it had then, if it still holds.
    due_at: Option<Moment>,
}

impl Move {
    /// Goes on; what was started and not yet awaited stays to be awaited.
    pub(super) fn keeping(at: Place<'_>, outcome: Outcome) -> Self {
        Self { sub: at.command.sub.clone(), ..Self::alone(outcome) }
    }

    /// Goes on and awaits nothing any more.
    pub(super) fn alone(outcome: Outcome) -> Self {
        Self { outcome, sub: None, before: Vec::new(), after: Vec::new(), launch: None }
    }

    /// Goes on and ends what runs.
    pub(super) fn stopping(at: Place<'_>, outcome: Outcome) -> Self {
        let is_builtin_awaited = matches!(at.awaited(), Some(Sub::Builtin { .. }));
        let is_working = match at.command.phase {
            Phase::Working { .. } => true,
            Phase::Awaiting { .. } => is_builtin_awaited,
            _ => false,
        };
        let before = if is_working { vec![Effect::StopWork] } else { Vec::new() };
        Self { before, ..Self::alone(outcome) }
    }
}

impl Place<'_> {
    /// Enters the first state; its message is on the bus already.
    pub(super) fn start(self) -> Step {
        let mut step = Step { next: self.command.clone(), effects: Vec::new() };
        self.begin(&mut step, Entry::default());
        told(&mut step.next.phase);
        step
    }

    /// Takes the state that another participant gave a command that waits for one (F3).
    pub(super) fn taken(self, baton: Baton) -> Result<Step, Refused> {
        let Baton { status, payload } = baton;
        if *status == *INIT {
            return Err(Refused::Duplicate);
        }
        if status == self.command.status && payload == *self.command.payload {
            return Err(Refused::Echo);
        }
        let next = Command { status, payload: Arc::new(payload), ..self.command.clone() };
        let mut step = Step { next, effects: Vec::new() };
        self.begin(&mut step, Entry::default());
        told(&mut step.next.phase);
        Ok(step)
    }

    /// Goes to the next state.
    pub(super) fn go(self, to: Move) -> Step {
        let Move { mut outcome, sub, before, after, launch } = to;
        let log = outcome.log.take();
        let (status, payload) = self.merge(outcome);
        let topic = self.command.topic.clone();
        let next = Command { topic, status, payload, phase: Phase::Passing, sub };
        let mut step = Step { next, effects: before };
        step.effects.extend(log.map(Effect::Log));
        if let Some(launch) = launch {
            // A final state is said only once what leads to it has been started (B5, C1).
            let next_action = self.definition.action(&step.next.status);
            let announced = !matches!(next_action, Some(Action::Cleanup));
            step.effects.extend(announced.then_some(Effect::Publish));
            step.effects.push(Effect::Launch(launch));
            step.next.phase = Phase::Launching { announced };
            return step;
        }
        let is_sub_started = !after.is_empty();
        step.effects.push(Effect::Publish);
        step.effects.extend(after);
        self.begin(&mut step, Entry { is_sub_started, ..Entry::default() });
        step
    }

    /// Puts what a step brought into the payload (F5, F6, O3); a payload that would grow over its bound fails the command.
    fn merge(self, outcome: Outcome) -> (Arc<str>, Arc<Payload>) {
        let Outcome { status, reason, fields, log: _ } = outcome;
        if reason.is_none() && fields.is_empty() {
            return (status, self.command.payload.clone());
        }
        let has_fields = !fields.is_empty();
        let mut payload = (*self.command.payload).clone();
        payload.extend(fields);
        payload.extend(reason.map(|reason| (REASON.to_owned(), reason)));
        match message::check(&payload) {
            Err(problem) if has_fields => self.merge(too_big(problem)),
            Ok(()) | Err(_) => (status, Arc::new(payload)),
        }
    }

    /// Goes on where the agent was when it stopped (R2, R4).
    pub(super) fn resume(self, same_boot: bool) -> Step {
        if let Phase::Parked { told } = self.command.phase {
            let mut step = self.stay(self.command.phase);
            step.effects.extend((!told).then_some(Effect::Publish));
            return step;
        }
        if let Some(Action::AwaitAgentRestart { handlers }) = self.action() {
            return self.go(Move::keeping(self, Outcome::to(&handlers.on_success)));
        }
        let is_resumed = matches!(self.command.phase, Phase::Working { .. });
        if is_resumed
            && let Some(Action::Script { handlers, is_repeatable: false, .. }) = self.action()
        {
            let outcome = Outcome::to_or(&handlers.on_error, INTERRUPTED);
            return self.go(Move::keeping(self, outcome));
        }
        let mut step = self.stay(Phase::Passing);
        step.effects.push(Effect::Publish);
        let due_at = self.command.due_at().filter(|_| same_boot);
        self.begin(&mut step, Entry { is_resumed, due_at, ..Entry::default() });
        step
    }

    /// Begins the state that a launch led to, or fails (B5).
    pub(super) fn launched(self, announced: bool, result: Result<(), String>) -> Step {
        if let Err(error) = result {
            let outcome = Outcome::failed(format!("Failed to launch {error}"));
            return self.go(Move::keeping(self, outcome));
        }
        let mut step = self.stay(Phase::Passing);
        step.effects.extend((!announced).then_some(Effect::Publish));
        self.begin(&mut step, Entry::default());
        step
    }

    /// Begins again a state whose phase does not fit its action.
    pub(super) fn begin_anew(self) -> Step {
        let mut step = self.stay(Phase::Passing);
        self.begin(&mut step, Entry::default());
        step
    }

    /// Sets the phase of a state that is entered, and adds what is to be done in it.
    fn begin(self, step: &mut Step, entry: Entry) {
        let Step { next, effects } = step;
        let due_at = |timeout_ms: Option<i64>| {
            entry.due_at.or_else(|| timeout_ms.map(|timeout_ms| self.now.plus_millis(timeout_ms)))
        };
        let mut timer = None;
        next.phase = match self.definition.action(&next.status) {
            None => Phase::Parked { told: false },
            Some(Action::Cleanup) => {
                effects.extend(next.topic.parent().map(|parent| Effect::TellParent { parent }));
                Phase::Ended { told: false }
            }
            Some(
                Action::Proceed { .. }
                | Action::Iterate { .. }
                | Action::BackgroundScript { .. }
                | Action::RestartAgent { .. }
                | Action::BuiltinOperation { .. }
                | Action::Operation { input_script: None, .. },
            ) => {
                effects.push(Effect::Continue);
                Phase::Passing
            }
            Some(Action::Operation { input_script: Some(script), .. }) => {
                effects.push(run(Purpose::Input, &script.line, script.timeout_ms, next));
                Phase::Working { due_at: None }
            }
            Some(Action::Script { line, handlers, .. }) => {
                effects.push(run(Purpose::State, line, handlers.timeout_ms, next));
                Phase::Working { due_at: None }
            }
            Some(Action::Builtin { call, input, handlers, is_repeatable }) => {
                let mut payload = (*next.payload).clone();
                payload.extend(input.evaluate(next.context()));
                effects.push(Effect::InvokeBuiltin {
                    call: call.clone(),
                    payload,
                    is_resumed: entry.is_resumed,
                    is_repeatable: *is_repeatable,
                });
                timer = due_at(handlers.timeout_ms);
                Phase::Working { due_at: timer }
            }
            Some(Action::AwaitAgentRestart { handlers }) => {
                timer = due_at(handlers.timeout_ms);
                Phase::Awaiting { due_at: timer }
            }
            Some(Action::AwaitOperation { handlers, .. }) => match next.sub.as_deref() {
                None => {
                    effects.push(Effect::Continue);
                    Phase::Passing
                }
                Some(sub) => {
                    effects.extend((!entry.is_sub_started).then(|| start_again(sub)));
                    timer = due_at(handlers.timeout_ms);
                    Phase::Awaiting { due_at: timer }
                }
            },
        };
        effects.extend(timer.map(|due_at| Effect::ArmTimer { due_at }));
    }
}

/// Builds the effect that starts what a command awaits.
pub(super) fn start_first(sub: &Sub) -> Effect {
    match sub {
        Sub::Operation { topic, init, told } => {
            let (topic, payload, is_told) = (topic.clone(), init.clone(), *told);
            Effect::StartOperation { topic, payload, is_told }
        }
        Sub::Builtin { payload, is_repeatable } => Effect::InvokeBuiltin {
            call: BuiltinCall::Own,
            payload: payload.clone(),
            is_resumed: false,
            is_repeatable: *is_repeatable,
        },
    }
}

/// Builds the effect that finds what was started again, and starts what was not.
fn start_again(sub: &Sub) -> Effect {
    match start_first(sub) {
        Effect::InvokeBuiltin { call, payload, is_repeatable, .. } => {
            Effect::InvokeBuiltin { call, payload, is_resumed: true, is_repeatable }
        }
        start => start,
    }
}

pub(super) fn too_big(problem: TooBig) -> Outcome {
    Outcome::failed(problem.to_string())
}

fn run(purpose: Purpose, line: &CommandLine, timeout_ms: Option<i64>, next: &Command) -> Effect {
    let context = next.context();
    Effect::RunScript(Run {
        purpose,
        program: line.program(context),
        arguments: line.arguments(context),
        timeout_ms,
    })
}

/// Notes that the bus has this state: it came from there.
fn told(phase: &mut Phase) {
    match phase {
        Phase::Parked { told } | Phase::Ended { told } => *told = true,
        _ => {}
    }
}
