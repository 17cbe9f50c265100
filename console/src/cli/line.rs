//! The command line that does what a submission of the TUI does (chapter 8).

use std::fmt::Write as _;

use quarterdeck_protocol::api::CreateCommands;

use super::context::DEFAULT_PROJECT;
use crate::net::profile::DEFAULT_PROFILE;

/// How this program is called so that it reaches the same login and project again: what hints, and
/// lines that are copied, begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// A profile other than the default one.
    profile: Option<String>,
    /// The project that the login has without being told; `default` when `None`.
    home_project: Option<String>,
}

impl Program {
    pub fn new(profile: &str, home_project: Option<String>) -> Self {
        let is_default = profile == DEFAULT_PROFILE;
        Self { profile: (!is_default).then(|| profile.to_owned()), home_project }
    }

    /// The words before the subcommand, for work in `project`.
    pub fn words(&self, project: &str) -> Vec<String> {
        let mut words = vec!["quarterdeck".to_owned()];
        if let Some(profile) = &self.profile {
            words.extend(["--profile".to_owned(), profile.clone()]);
        }
        if project != self.home_project.as_deref().unwrap_or(DEFAULT_PROJECT) {
            words.extend(["--project".to_owned(), project.to_owned()]);
        }
        words
    }

    /// A line with a subcommand that needs no quoting.
    pub fn line(&self, project: &str, rest: &str) -> String {
        format!("{} {rest}", shell_words::join(self.words(project)))
    }
}

/// Writes the `quarterdeck run …` line for a submission, quoted for a POSIX shell; `words` are those
/// of a [`Program`].
///
/// The line parses back to the same submission, where an absent payload and `{}` are one.
pub fn cli_line(words: Vec<String>, create: &CreateCommands) -> String {
    let mut words = words;
    words.push("run".to_owned());
    // What would look like an option stands behind them.
    let looks_like_an_option = create.kind.starts_with('-');
    if !looks_like_an_option {
        words.push(create.kind.clone());
    }
    for group in &create.targets.groups {
        words.push(format!("--group={group}"));
    }
    let is_empty =
        create.payload.as_object().map_or(create.payload.is_null(), serde_json::Map::is_empty);
    if !is_empty {
        words.push(format!("--payload={}", create.payload));
    }
    if let Some(priority) = create.priority {
        words.push(format!("--priority={priority}"));
    }
    if let Some(timeout_s) = create.timeout_s {
        words.push(format!("--timeout={timeout_s}"));
    }
    if let Some(expires_in_s) = create.expires_in_s {
        words.push(format!("--expires={expires_in_s}"));
    }
    if !create.notes.is_empty() {
        words.push(format!("--notes={}", create.notes));
    }
    if create.confirm {
        words.push("--confirm".to_owned());
    }
    if looks_like_an_option {
        words.extend(["--".to_owned(), create.kind.clone()]);
    }
    words.extend(create.targets.devices.iter().cloned());
    let mut line = String::new();
    for word in &words {
        let gap = if line.is_empty() { "" } else { " " };
        // `--notes='a b'` reads better than `'--notes=a b'`.
        match word.split_once('=').filter(|(option, _)| option.starts_with("--")) {
            Some((option, value)) => write!(line, "{gap}{option}={}", shell_words::quote(value)),
            None => write!(line, "{gap}{}", shell_words::quote(word)),
        }
        .expect("writing to a string cannot fail");
    }
    line
}

/// What a line submits, as the program would read it.
#[cfg(test)]
pub(crate) fn parsed(line: &str) -> CreateCommands {
    use clap::Parser as _;

    use crate::cli::{Cli, Subcommands};

    let words = shell_words::split(line).expect("a shell can read it");
    let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
    let Some(Subcommands::Run(args)) = cli.command else { panic!("{line}") };
    args.request(None).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quarterdeck_protocol::api::Targets;
    use serde_json::{Value, json};

    use super::*;

    fn quarterdeck() -> Vec<String> {
        Program::default().words(DEFAULT_PROJECT)
    }

    #[test]
    fn a_line_names_the_profile_and_the_project_that_it_is_for() {
        let lab = Program::new("lab", Some("east".to_owned()));
        assert_eq!(lab.line("east", "logout"), "quarterdeck --profile lab logout");
        assert_eq!(lab.line("west", "logout"), "quarterdeck --profile lab --project west logout");
        let usual = Program::new(DEFAULT_PROFILE, None);
        assert_eq!(usual.line(DEFAULT_PROJECT, "logout"), "quarterdeck logout");
    }

    #[test]
    fn a_line_is_ready_to_paste() {
        let create = CreateCommands {
            targets: Targets { devices: vec!["pi-1".into(), "pi-2".into()], groups: vec![] },
            kind: "run_script".into(),
            payload: json!({"script": "echo 'it''s'; rm -rf \"$HOME\""}),
            priority: Some(2),
            timeout_s: None,
            expires_in_s: Some(60),
            notes: "CHG 7".into(),
            confirm: true,
        };
        let line = cli_line(quarterdeck(), &create);
        assert_eq!(
            line,
            r#"quarterdeck run run_script --payload='{"script":"echo '\''it'\'''\''s'\''; rm -rf \"$HOME\""}' --priority=2 --expires=60 --notes='CHG 7' --confirm pi-1 pi-2"#
        );
        assert_eq!(parsed(&line), create);
    }

    /// Whatever an argument of a program can hold: all but NUL.
    fn argument() -> impl Strategy<Value = String> {
        any::<String>().prop_map(|text| text.replace('\0', ""))
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_line_parses_back_to_its_submission(
            devices in prop::collection::btree_set("[A-Za-z0-9][A-Za-z0-9._-]{0,20}", 1..5),
            groups in prop::collection::vec(argument(), 0..3),
            kind in argument(),
            fields in prop::collection::btree_map(any::<String>(), json_value(), 0..4),
            priority in prop::option::of(1_u8..=10),
            timeout_s in prop::option::of(any::<u32>()),
            expires_in_s in prop::option::of(any::<u32>()),
            notes in argument(),
            confirm in any::<bool>(),
        ) {
            let create = CreateCommands {
                targets: Targets { devices: devices.into_iter().collect(), groups },
                kind,
                payload: Value::Object(fields.into_iter().collect()),
                priority,
                timeout_s,
                expires_in_s,
                notes,
                confirm,
            };
            prop_assert_eq!(parsed(&cli_line(quarterdeck(), &create)), create);
        }
    }
}
