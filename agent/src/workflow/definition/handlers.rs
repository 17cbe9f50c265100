//! `on_*` keys: where a state leads (rules D3, D9, E1–E7, K1, O1, T).

use std::{collections::HashMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    AwaitHandlers, ExitHandler, FAILED, OnZero, SUCCESSFUL, ScriptHandlers, StateName, TIMEOUT,
    Target,
    reader::{Found, Reader},
};

/// The handlers of a state, or of the workflow, as written.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    pub on_success: Option<Written<Target>>,
    pub on_error: Option<Written<Target>>,
    pub on_kill: Option<Target>,
    pub on_timeout: Option<Target>,
    pub on_exec: Option<Target>,
    pub on_next: Option<Target>,
    pub on_stdout: Option<Written<Vec<StateName>>>,
    pub timeout_ms: Option<i64>,
    exits: Vec<Written<ExitHandler>>,
    any_error: Option<Written<Target>>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Written<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// Says whether a key is one of the handlers'.
pub(super) fn is_handler(key: &str) -> bool {
    matches!(
        key,
        "on_success"
            | "on_error"
            | "on_kill"
            | "on_timeout"
            | "on_exec"
            | "on_next"
            | "on_stdout"
            | "on_exit"
            | "timeout_second"
    )
}

impl Handlers {
    /// Reads one key; `path` is its full name.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        key: &str,
        path: &str,
        value: Found<'_, '_>,
    ) {
        let span = value.span();
        let written = |value| Written { value, span: span.clone() };
        match key {
            "on_success" => self.on_success = target(reader, path, value).map(written),
            "on_error" => self.on_error = target(reader, path, value).map(written),
            "on_kill" => self.on_kill = target(reader, path, value),
            "on_timeout" => self.on_timeout = target(reader, path, value),
            "on_exec" => self.on_exec = target(reader, path, value),
            "on_next" => self.on_next = target(reader, path, value),
            "timeout_second" => self.timeout_ms = reader.seconds(path, value),
            "on_stdout" => {
                let states = state_names(reader, path, value);
                self.on_stdout = states.map(|value| Written { value, span });
            }
            "on_exit" => match value.get_ref() {
                DeValue::Table(table) => self.read_exits(reader, path, table),
                _ => {
                    reader.wrong(&span, path, "expected exit codes, as in on_exit.2-5 = \"state\"");
                }
            },
            _ => {}
        }
    }

    fn read_exits(&mut self, reader: &mut Reader<'_>, path: &str, table: &DeTable<'_>) {
        for (code, value) in table {
            let path = format!("{path}.{}", code.get_ref());
            let Some(target) = target(reader, &path, value) else { continue };
            let span = code.span();
            if code.get_ref() == "_" {
                self.any_error = Some(Written { value: target, span });
                continue;
            }
            match exit_codes(code.get_ref()) {
                Some((from, to)) if to < from => {
                    reader.wrong(
                        &span,
                        &path,
                        format!("{to} is below {from}: expected {to}-{from}"),
                    );
                }
                Some((from, to)) => {
                    self.exits.push(Written { value: ExitHandler { from, to, target }, span });
                }
                None => {
                    let expected = "expected an exit code from 0 to 255, a range such as 2-5, or _";
                    reader.wrong(&span, &path, expected);
                }
            }
        }
        self.exits.sort_by_key(|exit| (exit.value.from, exit.value.to));
    }

    /// Checks the handlers of a script, and fills in what they leave out.
    pub(super) fn for_script(
        self,
        reader: &mut Reader<'_>,
        state: &str,
        workflow: &Handlers,
    ) -> ScriptHandlers {
        for pair in self.exits.windows(2) {
            if let [first, second] = pair
                && second.value.from <= first.value.to
            {
                let ExitHandler { from, to, .. } = first.value;
                let text =
                    format!("overlaps with {from}-{to}: expected one handler for each exit code");
                reader.wrong(&second.span, &format!("{state}.on_exit"), text);
            }
        }
        if let (Some(on_error), Some(_)) = (&self.on_error, &self.any_error) {
            let text = "is the same as on_exit._: expected one of them";
            reader.wrong(&on_error.span, &format!("{state}.on_error"), text);
        }
        let on_exit_0 = self.exits.first().filter(|exit| exit.value.from == 0);
        if let (Some(on_success), Some(_)) = (&self.on_success, on_exit_0) {
            let text = "is the same as on_exit.0: expected one of them";
            reader.wrong(&on_success.span, &format!("{state}.on_success"), text);
        }
        let on_exit_0 = on_exit_0.map(|exit| exit.value.target.clone());
        let on_success = self.on_success.map(|written| written.value).or(on_exit_0);
        let on_stdout = self.on_stdout.filter(|written| !written.value.is_empty());
        let on_zero = match (on_success, on_stdout) {
            (Some(target), None) => OnZero::To(target),
            (None, Some(states)) => OnZero::OneOf(states.value),
            (None, None) => OnZero::AsPrinted,
            (Some(target), Some(states)) => {
                let text = "goes not with on_success or on_exit.0: expected one of them: \
                            on_stdout where the output names the next state, \
                            on_success where the exit code does";
                reader.wrong(&states.span, &format!("{state}.on_stdout"), text);
                OnZero::To(target)
            }
        };
        let on_error = self.any_error.or(self.on_error).map(|written| written.value);
        let failed = || Target::to(FAILED);
        let timeout = || Target::with_reason(FAILED, TIMEOUT);
        ScriptHandlers {
            on_zero,
            on_exit: self.exits.into_iter().map(|exit| exit.value).collect(),
            on_error: on_error.or_else(|| workflow.default_error()).unwrap_or_else(failed),
            on_timeout: self
                .on_timeout
                .or_else(|| self.on_kill.clone())
                .or_else(|| workflow.on_timeout.clone())
                .unwrap_or_else(timeout),
            on_kill: self.on_kill.unwrap_or_else(failed),
            timeout_ms: self.timeout_ms.or(workflow.timeout_ms),
        }
    }

    /// Fills in what the handlers of something awaited leave out (T4, T5, U16).
    pub(super) fn for_await(self, workflow: &Handlers) -> AwaitHandlers {
        let on_error = self.any_error.or(self.on_error).map(|written| written.value);
        AwaitHandlers {
            on_success: self.on_success.map_or_else(|| Target::to(SUCCESSFUL), |w| w.value),
            on_error: on_error
                .or_else(|| workflow.default_error())
                .unwrap_or_else(|| Target::to(FAILED)),
            on_timeout: self
                .on_timeout
                .or_else(|| workflow.on_timeout.clone())
                .unwrap_or_else(|| Target::with_reason(FAILED, TIMEOUT)),
            timeout_ms: self.timeout_ms.or(workflow.timeout_ms),
        }
    }

    fn default_error(&self) -> Option<Target> {
        self.on_error.as_ref().map(|written| written.value.clone())
    }

    /// Says whether the exit status of a script would be looked at.
    pub(super) fn looks_at_exit(&self) -> bool {
        self.on_success.is_some() || self.on_stdout.is_some() || !self.exits.is_empty()
    }
}

/// Reads `"state"`, `{ status = "state", reason = "why" }`, or the source's own `["state"]` (E7, D9).
fn target(reader: &mut Reader<'_>, path: &str, value: Found<'_, '_>) -> Option<Target> {
    const EXPECTED: &str = "expected a state: \"name\" or { status = \"name\", reason = \"why\" }";
    match value.get_ref() {
        DeValue::String(_) => {
            Some(Target { status: state_name(reader, path, value)?, reason: None })
        }
        DeValue::Array(states) if states.len() == 1 && states[0].get_ref().is_str() => {
            Some(Target { status: state_name(reader, path, &states[0])?, reason: None })
        }
        DeValue::Table(table) => {
            let reason = match table.get("reason") {
                Some(reason) => {
                    Some(reader.text(&format!("{path}.reason"), reason, "a text")?.into())
                }
                None => None,
            };
            let Some(status) = table.get("status") else {
                reader.wrong(&value.span(), path, EXPECTED);
                return None;
            };
            let status = state_name(reader, &format!("{path}.status"), status)?;
            Some(Target { status, reason })
        }
        _ => {
            reader.wrong(&value.span(), path, EXPECTED);
            None
        }
    }
}

fn state_name(reader: &mut Reader<'_>, path: &str, value: Found<'_, '_>) -> Option<StateName> {
    let name = reader.text(path, value, "the name of a state")?;
    if name.is_empty() {
        reader.wrong(&value.span(), path, "expected the name of a state, found an empty text");
        return None;
    }
    Some(name.into())
}

fn state_names(
    reader: &mut Reader<'_>,
    path: &str,
    value: Found<'_, '_>,
) -> Option<Vec<StateName>> {
    let DeValue::Array(states) = value.get_ref() else {
        reader.wrong(&value.span(), path, "expected a list of states, as in [\"a\", \"b\"]");
        return None;
    };
    Some(states.iter().filter_map(|state| state_name(reader, path, state)).collect())
}

/// Reads `7` or `2-5`.
fn exit_codes(text: &str) -> Option<(u8, u8)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// The keys of a section that are no handlers.
pub(super) type Rest<'t, 'i> = HashMap<&'t str, Found<'t, 'i>>;
