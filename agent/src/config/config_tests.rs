use super::*;

fn layers(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    fs::write(&path, file).unwrap();
    let mut layers = Layers::default();
    layers.read_file(&path).map_err(|error| error.to_string())?;
    layers.read_environment(|name| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    });
    for (key, value) in flags {
        layers.set_flag(key, value);
    }
    Config::load(&layers).map_err(|error| error.to_string())
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let file = "device_id = 'from-file'\nheartbeat_s = 5\n[exec]\nreboot = ['echo', 'a b']";
    let config = layers(file, &[], &[]).unwrap();
    assert_eq!(config.device_id.unwrap().as_str(), "from-file");
    assert_eq!(config.heartbeat, Duration::from_secs(5));
    assert_eq!(config.exec.reboot, ["echo", "a b"]);
    assert_eq!(config.exec.restart_service, ["systemctl", "restart", "{service}"]);
    let environment = [
        ("QUARTERDECK_AGENT_DEVICE_ID", "from-env"),
        ("QUARTERDECK_AGENT_HEARTBEAT_S", "7"),
        ("QUARTERDECK_AGENT_EXEC_REBOOT", r#"["true"]"#),
        ("QUARTERDECK_AGENT_TAGS", "site=berlin,floor=2"),
    ];
    let config = layers(file, &environment, &[("device_id", "from-flag")]).unwrap();
    assert_eq!(config.device_id.unwrap().as_str(), "from-flag");
    assert_eq!(config.heartbeat, Duration::from_secs(7));
    assert_eq!(config.exec.reboot, ["true"]);
    assert_eq!(config.tags.len(), 2);
}

#[test]
fn what_is_wrong_names_the_key_the_value_and_what_was_expected() {
    for (file, environment, flags, parts) in [
        ("heartbeat_s = 0", None, None, vec!["heartbeat_s", "0", "1 to 3600", "agent.toml"]),
        ("heartbeat_s = 'x'", None, None, vec!["heartbeat_s", "\"x\"", "agent.toml"]),
        ("workflows = '/nowhere'", None, None, vec!["workflows", "/nowhere", "a folder"]),
        ("colour = 'red'", None, None, vec!["colour", "unknown field"]),
        (
            "[limits]\nconcurrent_commands = 0",
            None,
            None,
            vec!["limits.concurrent_commands", "0", "1 to 64"],
        ),
        ("[limits]\nspeed = 9", None, None, vec!["limits.speed", "9"]),
        (
            "[exec]\nreboot = 'systemctl reboot'",
            None,
            None,
            vec!["exec.reboot", "systemctl reboot"],
        ),
        ("[exec]\nreboot = []", None, None, vec!["exec.reboot", "[]", "a program"]),
        (
            "[exec]\nrestart_service = ['systemctl']",
            None,
            None,
            vec!["exec.restart_service", "{service}"],
        ),
        ("[tunnels]\nmax = 0", None, None, vec!["tunnels.max", "0", "1 to 100"]),
        ("[tunnels]\nshell = 'sh'", None, None, vec!["tunnels.shell", "sh", "absolute"]),
        ("[tunnels]\nconnect = ['x']", None, None, vec!["tunnels.connect", "x", "127.0.0.1:22"]),
        ("[files]\nallow = ['tmp']", None, None, vec!["files.allow", "tmp", "absolute"]),
        (
            "",
            Some(("QUARTERDECK_AGENT_HEARTBEAT_S", "soon")),
            None,
            vec!["QUARTERDECK_AGENT_HEARTBEAT_S", "soon"],
        ),
        ("", None, Some(("server", "127.0.0.1:80")), vec!["--server", "127.0.0.1:80", "a URL"]),
        (
            "",
            None,
            Some(("server", "http://10.1.1.1")),
            vec!["--server", "http://10.1.1.1", "allow_plaintext"],
        ),
        ("", None, Some(("server", "https://10.1.1.1")), vec!["--server", "ca_file"]),
        ("", None, Some(("device_id", "a/b")), vec!["--device-id", "a/b", "letter or digit"]),
        ("", None, Some(("tags", "site")), vec!["--tags", "site"]),
        ("token = 'abc'", None, Some(("token_file", "/x")), vec!["token_file"]),
        ("heartbeat_s = ", None, None, vec!["agent.toml", "line 1"]),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let flags: Vec<_> = flags.into_iter().collect();
        let error = layers(file, &environment, &flags).expect_err(file);
        for part in parts {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}

#[test]
fn a_token_is_never_shown() {
    let error = layers("token = 5", &[], &[]).expect_err("not a text");
    assert!(!error.contains("= 5"), "{error}");
    let config = layers("token = 'abcdef'", &[], &[]).unwrap();
    assert!(!format!("{config:?}").contains("abcdef"));
}

#[test]
fn plaintext_to_another_host_must_be_asked_for() {
    let flags = [("server", "http://10.1.1.1"), ("allow_plaintext", "true")];
    assert!(layers("", &[], &flags).is_ok());
}
