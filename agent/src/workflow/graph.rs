//! A workflow as text that a person can follow.
//!
//! ```text
//! firmware_update
//!
//! ● init                             line 5
//!     runs  /usr/bin/firmware_handler.sh plan
//!     exit 0 ────────▶ executing
//!     else ──────────▶ failed        "not timely"
//! ```
//!
//! States stand in the order in which a command can reach them; then those
//! that nothing leads to. What stands in a file may act on a terminal: the text
//! is made fit for one here.

use std::fmt::Write as _;

use quarterdeck_protocol::text;

use super::{
    definition::{Action, BuiltinCall, Definition, INIT, Lead, SUCCESSFUL},
    definition::{AwaitHandlers, FAILED},
};

/// Draws all states of a workflow.
pub fn draw(definition: &Definition) -> String {
    let reachable = definition.reachable();
    let is_left = |name: &str| !reachable.contains(&name);
    let left = definition.states().iter().map(|state| &*state.name).filter(|name| is_left(name));
    let names: Vec<&str> = reachable.iter().copied().chain(left).collect();
    let mut out = format!("{}\n", text::line(&definition.operation));
    for name in names {
        draw_state(&mut out, definition, name, is_left(name));
    }
    out
}

fn draw_state(out: &mut String, definition: &Definition, name: &str, is_left: bool) {
    let action = definition.action(name);
    let mark = match action {
        Some(Action::Cleanup) => '■',
        _ if name == INIT => '●',
        Some(_) => '○',
        None => '◌',
    };
    let _ = write!(out, "\n{mark} {}", text::line(name));
    if is_left && !matches!(name, SUCCESSFUL | FAILED) {
        out.push_str("   (no state leads here)");
    }
    out.push('\n');
    let Some(action) = action else {
        out.push_str("    no section: waits for another participant\n");
        return;
    };
    for line in describe(action) {
        let _ = writeln!(out, "    {}", text::line(&line));
    }
    let leads = action.leads();
    let width = leads.iter().map(|lead| lead.when.chars().count()).max().unwrap_or(0);
    for lead in leads {
        draw_lead(out, &lead, width);
    }
}

fn draw_lead(out: &mut String, lead: &Lead<'_>, width: usize) {
    let dashes = "─".repeat(width - lead.when.chars().count() + 2);
    let status = lead.status.map_or("the state that it prints".into(), text::line);
    let _ = write!(out, "    {} {dashes}▶ {status}", lead.when);
    if let Some(reason) = lead.reason {
        let _ = write!(out, "   \"{}\"", text::line(reason));
    }
    out.push('\n');
}

fn describe(action: &Action) -> Vec<String> {
    match action {
        Action::Proceed { .. } => Vec::new(),
        Action::Script { line, handlers, .. } => {
            with_timeout(vec![format!("runs {}", line.source())], handlers.timeout_ms)
        }
        Action::BackgroundScript { line, .. } => {
            vec![format!("starts {} and does not await it", line.source())]
        }
        Action::Operation { name, input_script, input, .. } => {
            let mut lines = vec![format!("starts the operation {}", name.source())];
            lines.extend(
                input_script.iter().map(|s| format!("with what {} prints", s.line.source())),
            );
            lines.extend((!input.is_none()).then(|| "with its `input`".to_owned()));
            lines
        }
        Action::BuiltinOperation { .. } => vec!["starts the agent's own operation".to_owned()],
        Action::AwaitOperation { handlers, .. } => {
            awaiting("awaits the end of what was started", handlers)
        }
        Action::AwaitAgentRestart { handlers } => awaiting("awaits the agent's restart", handlers),
        Action::Builtin { call, handlers, .. } => {
            let line = match call {
                BuiltinCall::Own => "done by the agent".to_owned(),
                BuiltinCall::Step { operation, step } => {
                    format!("done by the agent: {step} of {operation}")
                }
                BuiltinCall::Download => "downloads a file".to_owned(),
                BuiltinCall::Upload => "uploads a file".to_owned(),
            };
            awaiting(&line, handlers)
        }
        Action::RestartAgent { .. } => vec!["restarts the agent".to_owned()],
        Action::Iterate { source, .. } => vec![format!("takes the next item of {source}")],
        Action::Cleanup => vec!["the end: the requester clears the command".to_owned()],
    }
}

fn awaiting(line: &str, handlers: &AwaitHandlers) -> Vec<String> {
    with_timeout(vec![line.to_owned()], handlers.timeout_ms)
}

fn with_timeout(mut lines: Vec<String>, timeout_ms: Option<i64>) -> Vec<String> {
    lines.extend(timeout_ms.map(|ms| format!("for at most {} s", ms / 1000)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflow_graph_shows_each_state_and_its_ways_out() {
        let text = "operation = \"flash\"\n[init]\nscript = \"p ${.payload.url}\"\ntimeout_second = 5\non_success = \"reboot\"\non_exit.2-5 = { status = \"failed\", reason = \"busy\" }\n[reboot]\nbackground_script = \"reboot\"\non_exec = \"wait\"\n[wait]\naction = \"await-agent-restart\"\non_success = \"theirs\"\n[lost]\naction = \"proceed\"\n";
        let definition = Definition::parse("f", text).expect("valid");
        let expected = "\
flash

● init
    runs p ${.payload.url}
    for at most 5 s
    exit 0 ────▶ reboot
    exit 2-5 ──▶ failed   \"busy\"
    else ──────▶ failed
    killed ────▶ failed
    time-out ──▶ failed   \"timeout\"

○ reboot
    starts reboot and does not await it
    before it starts ──▶ wait

■ failed
    the end: the requester clears the command

○ wait
    awaits the agent's restart
    restarted ──▶ theirs

◌ theirs
    no section: waits for another participant

○ lost   (no state leads here)
    at once ──▶ successful

■ successful
    the end: the requester clears the command
";
        assert_eq!(draw(&definition), expected);
    }

    #[test]
    fn what_acts_on_a_terminal_does_not_get_through() {
        let text =
            "operation = \"op\"\n[init]\nscript = \"p \\u001b[2J\"\non_success = \"a\\u0007b\"\n";
        let drawn = draw(&Definition::parse("f", text).expect("valid"));
        assert!(!drawn.contains('\u{1b}') && !drawn.contains('\u{7}'), "{drawn}");
    }
}
