//! Leaving a state: what its action's end leads to.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Effect, Launch, Place, Refused, Step, StepFailure,
    enter::{Move, start_first, too_big},
};
use crate::{
    domain::Moment,
    work::Brought,
    workflow::{
        command::Sub,
        definition::{Action, FAILED, SUCCESSFUL, TIMEOUT, Target},
        excerpt::Excerpts,
        message::{self, Baton, Payload, REASON, STATUS},
        outcome::{Outcome, ScriptEnd, of_input_script, of_script},
        substitution::{Context, Path},
        topic::CommandTopic,
    },
};

/// What `iterate` notes of where it is (I1).
const NEXT: &str = "@next";
/// An item with this is passed over.
const SKIP: &str = "@skip";

impl Place<'_> {
    /// Goes on from a state that nothing holds up.
    pub(super) fn pass(self) -> Step {
        let context = self.command.context();
        match self.action() {
            Some(Action::Proceed { next }) => self.go(Move::keeping(self, Outcome::to(next))),
            Some(Action::Iterate { over, source, next, on_success, on_error }) => {
                let outcome = self.iterate(over, source, [next, on_success, on_error]);
                self.go(Move::keeping(self, outcome))
            }
            Some(Action::BackgroundScript { line, next }) => {
                let program = line.program(context);
                let arguments = line.arguments(context);
                self.launch(next, Launch::Script { program, arguments })
            }
            Some(Action::RestartAgent { next }) => self.launch(next, Launch::RestartAgent),
            Some(Action::Operation { .. }) => self.start_operation(Payload::new()),
            Some(Action::BuiltinOperation { input, next, is_repeatable }) => {
                let mut payload = (*self.command.payload).clone();
                payload.extend(input.evaluate(context));
                self.start_sub(next, Sub::Builtin { payload, is_repeatable: *is_repeatable })
            }
            Some(Action::AwaitOperation { handlers, .. }) if self.awaited().is_none() => {
                let reason = "no sub-operation was started before it was awaited";
                self.go(Move::alone(Outcome::to_or(&handlers.on_error, reason)))
            }
            _ => self.begin_anew(),
        }
    }

    fn launch(self, next: &Target, launch: Launch) -> Step {
        let launch = Some(launch);
        self.go(Move { launch, ..Move::keeping(self, Outcome::to(next)) })
    }

    /// Starts a sub-operation with what its input script gave and the explicit input over it (U2, U6, U7).
    fn start_operation(self, script_fields: Payload) -> Step {
        let Some(Action::Operation { name, input, next, .. }) = self.action() else {
            return self.begin_anew();
        };
        let context = self.command.context();
        let mut init = script_fields;
        init.remove(STATUS);
        init.extend(input.evaluate(context));
        let topic = match self.command.topic.sub(&name.text(context)) {
            Ok(topic) => topic,
            Err(problem) => {
                let reason = format!("cannot start the sub-operation: {problem}");
                return self.go(Move::alone(Outcome::failed(reason)));
            }
        };
        if let Err(problem) = message::check(&init) {
            return self.go(Move::alone(too_big(problem)));
        }
        self.start_sub(next, Sub::Operation { topic, init, told: false })
    }

    fn start_sub(self, next: &Target, sub: Sub) -> Step {
        self.go(Move {
            after: vec![start_first(&sub)],
            sub: Some(Arc::new(sub)),
            ..Move::alone(Outcome::to(next))
        })
    }

    /// Takes the end of a script or of an input script.
    pub(super) fn script_ended(
        self,
        end: &ScriptEnd,
        excerpts: &Excerpts,
    ) -> Result<Step, Refused> {
        let context = self.command.context();
        let (line, handlers) = match self.action() {
            Some(Action::Script { line, handlers, .. }) => (line, Some(handlers)),
            Some(Action::Operation { input_script: Some(script), .. }) => (&script.line, None),
            _ => return Err(Refused::OutOfPlace),
        };
        let program = || line.program(context);
        let values = if excerpts.is_empty() { Vec::new() } else { line.substituted(context) };
        let output = excerpts.read(&values);
        let Some(handlers) = handlers else {
            return Ok(match of_input_script(&program(), end, output) {
                Ok(fields) => self.start_operation(fields),
                Err(reason) => self.go(Move::alone(Outcome::failed(reason))),
            });
        };
        let outcome = of_script(handlers, program, end, output);
        Ok(self.go(Move::keeping(self, outcome)))
    }

    /// Takes the end of `action = "builtin"` and its kin (A3).
    pub(super) fn builtin_ended(
        self,
        result: Result<Payload, StepFailure>,
    ) -> Result<Step, Refused> {
        let Some(Action::Builtin { handlers, .. }) = self.action() else {
            return Err(Refused::OutOfPlace);
        };
        let outcome = match result {
            Ok(fields) => Outcome::to(&handlers.on_success).merging(fields),
            Err(StepFailure { reason, fields }) => {
                Outcome::to_or(&handlers.on_error, reason).merging(fields)
            }
        };
        Ok(self.go(Move::keeping(self, outcome)))
    }

    /// Takes the end of `operation = "builtin:…"`; what it gave is its final state for `output`.
    pub(super) fn awaited_builtin_ended(
        self,
        result: Result<Payload, StepFailure>,
    ) -> Result<Step, Refused> {
        let Some(Sub::Builtin { payload, .. }) = self.awaited() else {
            return Err(Refused::OutOfPlace);
        };
        let outcome = match result {
            Ok(fields) => {
                let brought = fields.get_key_value(Brought::KEY);
                let brought = brought.map(|(key, value)| (key.clone(), value.clone()));
                let mut payload = payload.clone();
                payload.extend(fields);
                let baton = Baton { status: SUCCESSFUL.into(), payload };
                let mut outcome = self.awaited_outcome(&baton)?;
                outcome.fields.extend(brought);
                outcome
            }
            Err(StepFailure { reason, fields }) => {
                let Some(Action::AwaitOperation { handlers, .. }) = self.action() else {
                    return Err(Refused::OutOfPlace);
                };
                Outcome::to_or(&handlers.on_error, reason).merging(fields)
            }
        };
        Ok(self.go(Move::alone(outcome)))
    }

    /// Notes that the broker has had a sub-operation's `init` (U1): it is not said again.
    pub(super) fn operation_published(self, topic: &CommandTopic) -> Result<Step, Refused> {
        let Some(Sub::Operation { topic: own, init, told: false }) = self.awaited() else {
            return Err(Refused::OutOfPlace);
        };
        if own != topic {
            return Err(Refused::OutOfPlace);
        }
        let sub = Sub::Operation { topic: own.clone(), init: init.clone(), told: true };
        let mut step = self.stay(self.command.phase);
        step.next.sub = Some(Arc::new(sub));
        Ok(step)
    }

    /// Takes the end of a sub-operation (U4, U5, U9).
    pub(super) fn operation_ended(
        self,
        topic: &CommandTopic,
        baton: &Baton,
    ) -> Result<Step, Refused> {
        if !self.command.awaits(topic) {
            return Err(Refused::OutOfPlace);
        }
        let outcome = self.awaited_outcome(baton)?;
        let clear = Effect::ClearOperation { topic: topic.clone() };
        Ok(self.go(Move { after: vec![clear], ..Move::alone(outcome) }))
    }

    fn awaited_outcome(self, baton: &Baton) -> Result<Outcome, Refused> {
        let Some(Action::AwaitOperation { output, handlers }) = self.action() else {
            return Err(Refused::OutOfPlace);
        };
        let topic = match self.awaited() {
            Some(Sub::Operation { topic, .. }) => topic,
            Some(Sub::Builtin { .. }) | None => &self.command.topic,
        };
        if &*baton.status == FAILED {
            let why =
                baton.payload.get(REASON).and_then(Value::as_str).unwrap_or("no reason given");
            let reason = format!("sub-operation {} failed: {why}", topic.operation());
            return Ok(Outcome::to_or(&handlers.on_error, reason));
        }
        let context = Context { topic, status: &baton.status, payload: &baton.payload };
        let mut fields = output.evaluate(context);
        if handlers.on_success.reason.is_some() {
            fields.remove(REASON);
        }
        Ok(Outcome::to(&handlers.on_success).merging(fields))
    }

    /// Goes where a wait that is over its time leads (R3, U15, T).
    pub(super) fn timer_due(self, due_at: Option<Moment>) -> Result<Step, Refused> {
        if due_at.is_none_or(|due_at| self.now < due_at) {
            return Err(Refused::NotDue);
        }
        let Some(
            Action::AwaitAgentRestart { handlers }
            | Action::AwaitOperation { handlers, .. }
            | Action::Builtin { handlers, .. },
        ) = self.action()
        else {
            return Err(Refused::OutOfPlace);
        };
        let outcome = Outcome::to_or(&handlers.on_timeout, TIMEOUT);
        Ok(self.go(Move::stopping(self, outcome)))
    }

    /// Takes the next item of an array, if one is left (I1, I2, I3).
    fn iterate(self, over: &Path, source: &str, targets: [&Target; 3]) -> Outcome {
        let [next, on_success, on_error] = targets;
        let Value::Array(items) = over.value(self.command.context()) else {
            return Outcome::to_or(on_error, format!("{source} is no array to iterate over"));
        };
        let before = self.command.payload.get(NEXT).and_then(Value::as_object);
        let index = match before {
            None => Some(0),
            Some(before) => {
                let index = before.get("index").and_then(Value::as_u64).unwrap_or(0);
                let from = usize::try_from(index).unwrap_or(usize::MAX).saturating_add(1);
                let is_skipped = |item: &Value| item.get(SKIP) == Some(&Value::Bool(true));
                (from..items.len()).find(|at| !is_skipped(&items[*at]))
            }
        };
        let Some((index, item)) = index.and_then(|index| Some((index, items.get(index)?))) else {
            return Outcome::to(on_success);
        };
        let mut place = before.cloned().unwrap_or_default();
        place.extend([("index".to_owned(), json!(index)), ("item".to_owned(), item.clone())]);
        Outcome::to(next).merging(Payload::from_iter([(NEXT.to_owned(), Value::Object(place))]))
    }
}
