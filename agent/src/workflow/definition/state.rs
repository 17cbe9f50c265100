//! A state's section: which action it asks for (rules D1, D2, D4–D8, D12, B6, B7, A, I).

use std::{collections::HashMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    Action, BuiltinCall, FAILED, INIT, InputScript, SUCCESSFUL, State, Target,
    handlers::{Handlers, Rest, is_handler},
    reader::{Found, Reader},
};
use crate::workflow::{
    mapping::Fields,
    substitution::{CommandLine, Path, Template},
    topic::check_operation_name,
};

/// What was read of a file.
#[derive(Debug)]
pub(super) struct Shape {
    pub operation: Option<String>,
    pub states: Vec<State>,
}

const ACTIONS: [&str; 5] = ["action", "script", "background_script", "operation", "iterate"];
const INPUTS: [&str; 3] = ["input", "input_script", "output"];
/// Says of a script or builtin that it may be run again after a crash in its midst; chapter 3.
const REPEATABLE: &str = "repeatable";
/// Says how far a command in this state is, in percent; for who watches it.
const PROGRESS: &str = "progress";
const BUILTIN: &str = "builtin:";
const SCHEDULED: &str = "scheduled";
const EXECUTING: &str = "executing";

/// Reads a whole file; what is wrong in it is noted in the reader.
pub(super) fn read_file<'a>(text: &'a str, reader: &mut Reader<'a>) -> Shape {
    let tree = reader.tree(text);
    let operation = read_operation(&tree, reader);
    let mut defaults = Handlers::default();
    for (key, value) in &tree {
        let name = key.get_ref().as_ref();
        if is_handler(name) {
            defaults.read(reader, name, name, value);
            if !matches!(name, "on_error" | "on_timeout" | "timeout_second") {
                reader.odd(&key.span(), name, "is ignored for a whole workflow");
            }
        } else if name != "operation" && !value.get_ref().is_table() {
            let expected =
                "is unknown: expected operation, on_error, on_timeout, timeout_second or a [state]";
            reader.wrong(&key.span(), name, expected);
        }
    }
    let mut states = Vec::new();
    for (key, value) in &tree {
        let name = key.get_ref().as_ref();
        let DeValue::Table(table) = value.get_ref() else { continue };
        if name == "operation" || is_handler(name) {
            continue;
        }
        let section = Section::read(name, key.span(), table, reader);
        let progress = section.progress(reader);
        if let Some(action) = section.action(reader, operation.as_deref(), &defaults) {
            let line = reader.line_of(key.span().start);
            states.push(State { name: name.into(), line, action, progress });
        }
    }
    if !tree.get(INIT).is_some_and(|init| init.get_ref().is_table()) {
        reader
            .wrong_file(INIT, "is missing: expected an [init] section, where each command starts");
    }
    states.sort_by_key(|state| state.line);
    pass_scheduled(&mut states);
    Shape { operation, states }
}

/// Version 1.2 has the agent's handler twice, to accept and to do: here `scheduled` only leads on to `executing` (A3).
fn pass_scheduled(states: &mut [State]) {
    let is_own =
        |state: &State| matches!(state.action, Action::Builtin { call: BuiltinCall::Own, .. });
    if !states.iter().any(|state| &*state.name == EXECUTING && is_own(state)) {
        return;
    }
    for state in states.iter_mut().filter(|state| &*state.name == SCHEDULED && is_own(state)) {
        if let Action::Builtin { handlers, .. } = &state.action {
            let next = &handlers.on_success;
            let is_given = &*next.status != SUCCESSFUL;
            let next = if is_given { next.clone() } else { Target::to(EXECUTING) };
            state.action = Action::Proceed { next };
        }
    }
}

fn read_operation(tree: &DeTable<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let Some(value) = tree.get("operation") else {
        reader.wrong_file("operation", "is missing: expected the name of the operation");
        return None;
    };
    let name = reader.text("operation", value, "the name of the operation")?;
    match check_operation_name(name) {
        Ok(()) => Some(name.to_owned()),
        Err(problem) => {
            reader.wrong(&value.span(), "operation", problem.to_string());
            None
        }
    }
}

/// The section of one state, as written.
struct Section<'t, 'i> {
    name: &'t str,
    span: Range<usize>,
    handlers: Handlers,
    rest: Rest<'t, 'i>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn read(
        name: &'t str,
        span: Range<usize>,
        table: &'t DeTable<'i>,
        reader: &mut Reader<'_>,
    ) -> Self {
        let mut section = Self { name, span, handlers: Handlers::default(), rest: HashMap::new() };
        for (key, value) in table {
            let key_name = key.get_ref().as_ref();
            let path = format!("{name}.{key_name}");
            if is_handler(key_name) {
                section.handlers.read(reader, key_name, &path, value);
            } else if [&ACTIONS[..], &INPUTS, &[REPEATABLE, PROGRESS]].concat().contains(&key_name)
            {
                section.rest.insert(key_name, value);
            } else {
                reader.odd(&key.span(), &path, "is unknown and ignored");
            }
        }
        section
    }

    fn action(
        mut self,
        reader: &mut Reader<'_>,
        operation: Option<&str>,
        workflow: &Handlers,
    ) -> Option<Action> {
        let mut kinds = ACTIONS.into_iter().filter(|kind| self.rest.contains_key(kind));
        let Some(kind) = kinds.next() else {
            let expected = "expected one of action, script, background_script, operation, iterate";
            reader.wrong(&self.span, self.name, expected);
            return None;
        };
        if let Some(second) = kinds.next() {
            reader.odd(&self.span, &self.path(second), &format!("is ignored beside `{kind}`"));
        }
        let value = *self.rest.get(kind)?;
        let written = reader.text(&self.path(kind), value, "a text")?;
        let is_end = matches!(self.name, SUCCESSFUL | FAILED);
        if is_end && !(kind == "action" && written == "cleanup") {
            let expected = "ends the workflow: expected action = \"cleanup\"";
            reader.wrong(&self.span, self.name, expected);
            return None;
        }
        match kind {
            "script" => self.script(reader, value, written, workflow),
            "background_script" => {
                let line = command_line(reader, &self.path(kind), value, written)?;
                Some(Action::BackgroundScript { line, next: self.on_exec() })
            }
            "operation" => self.operation(reader, value, written, operation, workflow),
            "iterate" => self.iterate(reader, value, written, workflow),
            _ => self.named(reader, value, written, workflow),
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// `on_exec`, else `successful` (B6).
    fn on_exec(&mut self) -> Target {
        self.handlers.on_exec.take().unwrap_or_else(|| Target::to(SUCCESSFUL))
    }

    /// Reads `repeatable`: a user's script is unless it says no, the agent's own code only if it says yes.
    fn is_repeatable(&self, reader: &mut Reader<'_>, default: bool) -> bool {
        let Some(value) = self.rest.get(REPEATABLE) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            reader.wrong(&value.span(), &self.path(REPEATABLE), "expected true or false");
            default
        })
    }

    /// Reads `progress`; of no consequence, so it is ignored where it is wrong (D12).
    fn progress(&self, reader: &mut Reader<'_>) -> Option<u8> {
        let value = self.rest.get(PROGRESS)?;
        let percent = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
        let percent = percent.filter(|percent| *percent <= 100);
        if percent.is_none() {
            let text = "is ignored: expected a whole number from 0 to 100";
            reader.odd(&value.span(), &self.path(PROGRESS), text);
        }
        percent
    }

    fn fields(&self, reader: &mut Reader<'_>, key: &str) -> Fields {
        let fields = self.rest.get(key).map(|value| reader.fields(&self.path(key), value));
        fields.unwrap_or_default()
    }

    fn script(
        mut self,
        reader: &mut Reader<'_>,
        value: Found<'_, '_>,
        written: &str,
        workflow: &Handlers,
    ) -> Option<Action> {
        let line = command_line(reader, &self.path("script"), value, written);
        // The source's own example: a script with `on_exec` and nothing that looks at its end (B7).
        if self.handlers.on_exec.is_some() && !self.handlers.looks_at_exit() {
            return Some(Action::BackgroundScript { line: line?, next: self.on_exec() });
        }
        let is_repeatable = self.is_repeatable(reader, true);
        let handlers = self.handlers.for_script(reader, self.name, workflow);
        Some(Action::Script { line: line?, handlers, is_repeatable })
    }

    fn operation(
        mut self,
        reader: &mut Reader<'_>,
        value: Found<'_, '_>,
        written: &str,
        operation: Option<&str>,
        workflow: &Handlers,
    ) -> Option<Action> {
        let path = self.path("operation");
        let input = self.fields(reader, "input");
        if let Some(name) = written.strip_prefix(BUILTIN) {
            if operation.is_some_and(|own| own != name) {
                let expected = "expected builtin: with the operation of this file, or another operation's own name";
                reader.wrong(&value.span(), &path, expected);
            }
            let is_repeatable = self.is_repeatable(reader, false);
            return Some(Action::BuiltinOperation { input, next: self.on_exec(), is_repeatable });
        }
        let name = Template::parse(written);
        if !name.has_expressions()
            && let Err(problem) = check_operation_name(written)
        {
            reader.wrong(&value.span(), &path, problem.to_string());
        }
        let timeout_ms = self.handlers.timeout_ms.or(workflow.timeout_ms);
        let input_script = match self.rest.get("input_script") {
            None => None,
            Some(value) => {
                let path = self.path("input_script");
                let text = reader.text(&path, value, "a command line")?;
                Some(InputScript { line: command_line(reader, &path, value, text)?, timeout_ms })
            }
        };
        Some(Action::Operation { name, input_script, input, next: self.on_exec() })
    }

    fn iterate(
        mut self,
        reader: &mut Reader<'_>,
        value: Found<'_, '_>,
        written: &str,
        workflow: &Handlers,
    ) -> Option<Action> {
        let template = Template::parse(written);
        let over = template.as_path().cloned().or_else(|| Path::parse(written));
        if over.is_none() {
            let expected = "expected one expression, as in ${.payload.items}";
            reader.wrong(&value.span(), &self.path("iterate"), expected);
        }
        let next = self.handlers.on_next.take();
        if next.is_none() {
            let expected = "is missing: expected the state for each item";
            reader.wrong(&self.span, &self.path("on_next"), expected);
        }
        let handlers = self.handlers.for_await(workflow);
        Some(Action::Iterate {
            over: over?,
            source: written.into(),
            next: next?,
            on_success: handlers.on_success,
            on_error: handlers.on_error,
        })
    }

    /// Reads `action = "…"`.
    fn named(
        mut self,
        reader: &mut Reader<'_>,
        value: Found<'_, '_>,
        written: &str,
        workflow: &Handlers,
    ) -> Option<Action> {
        let call = match written {
            "cleanup" => return Some(Action::Cleanup),
            "proceed" => {
                let next = self.handlers.on_success.take().map(|written| written.value);
                return Some(Action::Proceed {
                    next: next.unwrap_or_else(|| Target::to(SUCCESSFUL)),
                });
            }
            "restart-agent" => {
                let on_success = self.handlers.on_success.take().map(|written| written.value);
                let next = self.handlers.on_exec.take().or(on_success);
                return Some(Action::RestartAgent {
                    next: next.unwrap_or_else(|| Target::to(SUCCESSFUL)),
                });
            }
            "await-agent-restart" => {
                let handlers = self.handlers.for_await(workflow);
                return Some(Action::AwaitAgentRestart { handlers });
            }
            "await-operation-completion" => {
                let output = self.fields(reader, "output");
                let handlers = self.handlers.for_await(workflow);
                return Some(Action::AwaitOperation { output, handlers });
            }
            "builtin" => BuiltinCall::Own,
            "download" => BuiltinCall::Download,
            "upload" => BuiltinCall::Upload,
            _ => match written.strip_prefix(BUILTIN).and_then(|name| name.split_once(':')) {
                Some((operation, step)) if !operation.is_empty() && !step.is_empty() => {
                    BuiltinCall::Step { operation: operation.into(), step: step.into() }
                }
                _ => {
                    let text = format!(
                        "{written:?} is unknown: expected proceed, cleanup, builtin, \
                         builtin:<operation>:<step>, await-agent-restart, \
                         await-operation-completion, restart-agent, download or upload"
                    );
                    reader.wrong(&value.span(), &self.path("action"), text);
                    return None;
                }
            },
        };
        let input = self.fields(reader, "input");
        let is_repeatable = self.is_repeatable(reader, false);
        let on_exec = self.handlers.on_exec.take();
        let has_success = self.handlers.on_success.is_some();
        let mut handlers = self.handlers.for_await(workflow);
        if let Some(next) = on_exec.filter(|_| !has_success) {
            handlers.on_success = next;
        }
        Some(Action::Builtin { call, input, handlers, is_repeatable })
    }
}

fn command_line(
    reader: &mut Reader<'_>,
    path: &str,
    value: Found<'_, '_>,
    written: &str,
) -> Option<CommandLine> {
    match CommandLine::parse(written) {
        Ok(line) => Some(line),
        Err(problem) => {
            reader.wrong(&value.span(), path, format!("expected a command line: {problem}"));
            None
        }
    }
}
