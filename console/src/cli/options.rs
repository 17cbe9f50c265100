//! Options that every subcommand and the TUI share: command line, then
//! environment, then `--config` file, then profile, then defaults.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use etcetera::BaseStrategy as _;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{error::CliError, output::Format, units::Span};
use crate::{
    net::server::Server,
    tui::{pane::notices::Allowed, theme::ThemeName},
};

/// The longest configuration file, in bytes.
const CONFIG_MAX_BYTES: u64 = 256 * 1024;

/// Where to, as whom, and how to print.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The server's URL [default: the login's, else http://127.0.0.1:8470]
    #[arg(long, global = true, value_name = "URL", env = "QUARTERDECK_SERVER")]
    pub server: Option<String>,
    /// The project [default: the login's, else `default`]
    #[arg(long, global = true, value_name = "PROJECT", env = "QUARTERDECK_PROJECT")]
    pub project: Option<String>,
    /// Which of several remembered logins to use
    #[arg(long, global = true, value_name = "NAME", env = "QUARTERDECK_PROFILE")]
    pub profile: Option<String>,
    /// What stdout carries: `table`, or `json`: one array of the API's items
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "QUARTERDECK_OUTPUT",
        value_enum,
        hide_possible_values = true
    )]
    pub output: Option<Format>,
    /// A file that holds an access or service token, to use instead of a login
    /// [the token itself may be in the environment: QUARTERDECK_TOKEN]
    #[arg(long, global = true, value_name = "FILE", env = "QUARTERDECK_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A certificate authority (PEM) to trust beside the system's
    #[arg(long, global = true, value_name = "FILE", env = "QUARTERDECK_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Speak plain http to another machine: others on the way can read and change everything
    #[arg(long, global = true, env = "QUARTERDECK_ALLOW_PLAINTEXT", value_parser = BoolishValueParser::new())]
    pub allow_plaintext: bool,
    /// A TOML file with options [default: quarterdeck/config.toml in the XDG configuration folder]
    #[arg(long, global = true, value_name = "FILE", env = "QUARTERDECK_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Something that a device may be allowed to do to the operator's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    Clipboard,
    Title,
    Notifications,
}

/// What devices may do, of a list of it.
pub fn allowed(list: &[Allow]) -> Allowed {
    Allowed {
        clipboard: list.contains(&Allow::Clipboard),
        titles: list.contains(&Allow::Title),
        notifications: list.contains(&Allow::Notifications),
    }
}

/// How the full-screen console looks and behaves.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Full-screen console")]
pub struct TuiArgs {
    /// Wall screen: big numbers that rotate, no keyboard needed, never exits
    #[arg(long, env = "QUARTERDECK_WALL", value_parser = BoolishValueParser::new())]
    pub wall: bool,
    /// Offer nothing that changes anything
    #[arg(long, env = "QUARTERDECK_READ_ONLY", value_parser = BoolishValueParser::new())]
    pub read_only: bool,
    /// How long each page of the wall stays [default: 15s]
    #[arg(long, value_name = "TIME", env = "QUARTERDECK_ROTATE")]
    pub rotate: Option<Span>,
    /// Draw less, for slow links
    #[arg(long, env = "QUARTERDECK_LOW_BANDWIDTH", value_parser = BoolishValueParser::new())]
    pub low_bandwidth: bool,
    /// Draw with ASCII alone [default: as the locale says]
    #[arg(long, env = "QUARTERDECK_ASCII", value_parser = BoolishValueParser::new())]
    pub ascii: bool,
    /// Colours: default, high-contrast, colour-blind
    #[arg(
        long,
        value_name = "THEME",
        env = "QUARTERDECK_THEME",
        value_enum,
        hide_possible_values = true
    )]
    pub theme: Option<ThemeName>,
    /// Take clicks and the wheel
    #[arg(long, env = "QUARTERDECK_MOUSE", value_parser = BoolishValueParser::new())]
    pub mouse: bool,
    /// Ring the bell for a new critical alert
    #[arg(long, env = "QUARTERDECK_BELL", value_parser = BoolishValueParser::new())]
    pub bell: bool,
    /// What devices may do from a pane: set your clipboard, notify you, show a title [default: nothing]
    #[arg(
        long,
        value_name = "WHAT",
        env = "QUARTERDECK_ALLOW",
        value_delimiter = ',',
        value_enum,
        hide_possible_values = true
    )]
    pub allow: Vec<Allow>,
    /// A TOML file that rebinds keys
    #[arg(long, value_name = "FILE", env = "QUARTERDECK_KEYMAP")]
    pub keymap: Option<PathBuf>,
}

/// The file's keys are the options' long names, with underscores.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    #[serde(deserialize_with = "server_url")]
    server: Option<String>,
    project: Option<String>,
    profile: Option<String>,
    output: Option<Format>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    allow_plaintext: bool,
    wall: bool,
    read_only: bool,
    rotate: Option<Span>,
    low_bandwidth: bool,
    ascii: bool,
    theme: Option<ThemeName>,
    mouse: bool,
    bell: bool,
    allow: Vec<Allow>,
    keymap: Option<PathBuf>,
}

/// Refuses what is no server's URL where its line is known; whether plaintext may be spoken there is
/// known later.
fn server_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Server::new(&text, true).map_err(D::Error::custom)?;
    Ok(Some(text))
}

/// Fills in what neither the command line nor the environment said.
pub fn merge_config(global: &mut GlobalArgs, tui: &mut TuiArgs) -> Result<(), CliError> {
    let Some(file) = read_config(global.config.as_deref())? else { return Ok(()) };
    let fill = |option: &mut Option<String>, from: Option<String>| {
        *option = option.take().or(from);
    };
    fill(&mut global.server, file.server);
    fill(&mut global.project, file.project);
    fill(&mut global.profile, file.profile);
    global.output = global.output.or(file.output);
    global.token_file = global.token_file.take().or(file.token_file);
    global.ca_file = global.ca_file.take().or(file.ca_file);
    tui.keymap = tui.keymap.take().or(file.keymap);
    tui.rotate = tui.rotate.or(file.rotate);
    tui.theme = tui.theme.or(file.theme);
    if tui.allow.is_empty() {
        tui.allow = file.allow;
    }
    for (flag, from) in [
        (&mut global.allow_plaintext, file.allow_plaintext),
        (&mut tui.wall, file.wall),
        (&mut tui.read_only, file.read_only),
        (&mut tui.low_bandwidth, file.low_bandwidth),
        (&mut tui.ascii, file.ascii),
        (&mut tui.mouse, file.mouse),
        (&mut tui.bell, file.bell),
    ] {
        *flag |= from;
    }
    Ok(())
}

/// Reads the named file, which must be there, or the default one, which may be.
fn read_config(named: Option<&Path>) -> Result<Option<ConfigFile>, CliError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match etcetera::choose_base_strategy() {
            Ok(base) => base.config_dir().join("quarterdeck").join("config.toml"),
            Err(_) => return Ok(None),
        },
    };
    let wrong = |what: String| CliError::Usage(format!("--config {}: {what}", path.display()));
    let size = match std::fs::metadata(&path) {
        Ok(about) => about.len(),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
    };
    if size > CONFIG_MAX_BYTES {
        return Err(wrong(format!("expected at most {CONFIG_MAX_BYTES} bytes, not {size}")));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
    toml::from_str(&text).map(Some).map_err(|e| wrong(where_wrong(&text, &e)))
}

/// Says where a file is wrong: line, key and what was expected. Not the value of an unknown key,
/// which might be a secret.
pub(super) fn where_wrong(text: &str, error: &toml::de::Error) -> String {
    let message = quarterdeck_protocol::text::line(error.message()).into_owned();
    let Some(start) = error.span().map(|span| span.start.min(text.len())) else { return message };
    let number = text[..start].matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    match line.split_once('=') {
        Some((key, _)) => {
            format!(
                "line {number}, key {}: {message}",
                quarterdeck_protocol::text::line(key.trim())
            )
        }
        None => format!("line {number}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str) -> Result<(GlobalArgs, TuiArgs), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let mut global = GlobalArgs {
            config: Some(path),
            project: Some("from-the-line".into()),
            ..GlobalArgs::default()
        };
        let mut tui = TuiArgs::default();
        merge_config(&mut global, &mut tui).map(|()| (global, tui)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_fills_in_what_was_not_said() {
        let (global, tui) = merged(
            "server = 'https://fleet.example'\nproject = 'other'\noutput = 'json'\nwall = true\nrotate = '30s'",
        )
        .expect("valid");
        assert_eq!(global.server.as_deref(), Some("https://fleet.example"));
        assert_eq!(global.project.as_deref(), Some("from-the-line"));
        assert_eq!(global.output, Some(Format::Json));
        assert!(tui.wall);
        assert_eq!(tui.rotate, Some(Span { seconds: 30 }));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_key_and_without_its_secrets() {
        let error = merged("server = 'x'\nrotate = 'often'").expect_err("wrong");
        assert!(error.contains("line 2, key rotate: expected seconds"), "{error}");
        let error = merged("\nserver = 'fleet.example'").expect_err("no scheme");
        assert!(
            error.contains("config.toml: line 2, key server: server \"fleet.example\""),
            "{error}"
        );
        let error = merged("theme = 'pink'").expect_err("no such theme");
        assert!(error.contains("line 1, key theme") && error.contains("high-contrast"), "{error}");
        let error = merged("token = 'hunter2'").expect_err("wrong");
        assert!(error.contains("unknown field `token`"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
