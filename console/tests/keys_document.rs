//! `docs/keys.md` is the table of actions.
//!
//! `UPDATE_DOCS=1 cargo test -p quarterdeck-console --test keys_document` writes it anew.

use std::{fmt::Write as _, fs, path::Path};

use quarterdeck_console::tui::app::actions::{ACTIONS, Context, Needs};

const CONTEXTS: [Context; 18] = [
    Context::Global,
    Context::List,
    Context::Viewer,
    Context::Overview,
    Context::Devices,
    Context::Device,
    Context::Commands,
    Context::Command,
    Context::Alerts,
    Context::Audit,
    Context::Users,
    Context::Wizard,
    Context::Tunnels,
    Context::Recordings,
    Context::Player,
    Context::Pane,
    Context::Prefix,
    Context::Scroll,
];

fn document() -> String {
    let mut text = String::from(
        "# Keys\n\n\
         Every action is also in the palette (`:`), by its title, and those on rows in\n\
         the menu (`a`); one without a key is only there. A keymap file\n\
         (`--keymap FILE`) binds them by id:\n\n\
         ```toml\n\
         [keys]\n\
         \"command.retry\" = [\"r\", \"C-r\"]\n\
         ```\n\n\
         `C-x` is Ctrl with x, `S-Tab` is Shift with Tab. An action marked *danger* asks\n\
         first, with Cancel preselected.\n",
    );
    for context in CONTEXTS {
        let mut rows = ACTIONS.iter().filter(|spec| spec.contexts.contains(&context)).peekable();
        if rows.peek().is_none() {
            continue;
        }
        write!(
            text,
            "\n## {}\n\n| keys | action | id | needs |\n| --- | --- | --- | --- |\n",
            context.title()
        )
        .expect("writing to a string cannot fail");
        for spec in rows {
            let keys: Vec<_> =
                spec.keys.iter().map(|key| format!("`{}`", key.replace('|', "\\|"))).collect();
            let danger = if spec.danger { " (danger)" } else { "" };
            let needs = match spec.needs {
                Needs::Nothing => "",
                Needs::Role(role) => role.as_str(),
                Needs::ServerAdmin => "server admin",
            };
            writeln!(
                text,
                "| {} | {}{danger} | `{}` | {needs} |",
                keys.join(" "),
                spec.title,
                spec.id
            )
            .expect("writing to a string cannot fail");
        }
    }
    text
}

#[test]
fn the_keys_in_the_documentation_are_those_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keys.md");
    let text = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).expect("docs is writable");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "docs/keys.md is out of date: UPDATE_DOCS=1 writes it anew");
}
