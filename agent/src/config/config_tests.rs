use std::fs;

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
        (
            "\nheartbeat_s = 'x'",
            None,
            None,
            vec!["agent.toml, line 2: heartbeat_s = \"x\": expected a whole number"],
        ),
        ("offline = 1", None, None, vec!["line 1: offline = 1: expected true or false"]),
        ("tags = 3", None, None, vec!["line 1: tags = 3: expected a table"]),
        ("workflows = '/nowhere'", None, None, vec!["workflows", "/nowhere", "a folder"]),
        (
            "colour = 'red'",
            None,
            None,
            vec!["line 1: colour: there is no such key", "one of server"],
        ),
        (
            "[limits]\nconcurrent_commands = 0",
            None,
            None,
            vec!["limits.concurrent_commands", "0", "1 to 10000"],
        ),
        (
            "[limits]\nspeed = 9",
            None,
            None,
            vec!["line 2: limits.speed: there is no such key", "one of concurrent_commands"],
        ),
        (
            "[exec]\nreboot = 'systemctl reboot'",
            None,
            None,
            vec!["line 2: exec.reboot", "systemctl reboot", "expected a list of texts"],
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
        ("heartbeat_s = ", None, None, vec!["agent.toml, line 1: heartbeat_s: "]),
        ("", None, Some(("data_dir", "/etc/passwd")), vec!["--data-dir", "expected a folder"]),
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
    for file in ["token = 55", "tokn = '55'", "token = 55x", "bus_password = 55"] {
        let error = layers(file, &[], &[]).expect_err(file);
        assert!(!error.contains("55"), "{error}");
    }
    let config = layers("token = 'abcdef'", &[], &[]).unwrap();
    assert!(!format!("{config:?}").contains("abcdef"));
}

#[test]
fn plaintext_to_another_host_must_be_asked_for() {
    let flags = [("server", "http://10.1.1.1"), ("allow_plaintext", "true")];
    assert!(layers("", &[], &flags).is_ok());
}

#[test]
fn a_mistyped_variable_is_noticed() {
    let names = ["QUARTERDECK_AGENT_DEVICEID", "QUARTERDECK_AGENT_EXEC_REBOOT", "PATH"];
    let found = layers::unknown_variables(names.into_iter().map(Into::into));
    assert_eq!(found, ["QUARTERDECK_AGENT_DEVICEID"]);
}

const CHILD: &str =
    "bus = 'mqtt://127.0.0.1'\n[[children]]\ntarget = 'device/c1//'\nworkflows = '/wf/c1'\n";

#[test]
fn children_have_a_target_and_a_folder_each() {
    let config = layers(
        &format!("{CHILD}[[children]]\ntarget='device/c2/service/s'\nworkflows='/wf/c2'"),
        &[],
        &[],
    );
    let scope = config.unwrap().scope;
    let targets: Vec<_> = scope.targets().collect();
    assert_eq!(targets, ["device/main//", "device/c1//", "device/c2/service/s"]);
    assert_eq!(scope.children[1].workflows, Path::new("/wf/c2"));
    let of_environment = r#"[{ target = "device/e//", workflows = "/wf/e" }]"#;
    let config = layers(CHILD, &[("QUARTERDECK_AGENT_CHILDREN", of_environment)], &[]).unwrap();
    assert_eq!(config.scope.targets().collect::<Vec<_>>(), ["device/main//", "device/e//"]);
}

#[test]
fn a_child_that_is_wrong_is_left_out_and_the_others_stay() {
    let long = format!("device/{}//", "x".repeat(2_000));
    for target in ["device/c0", "device/+//", "device/main//", "device/\u{ffff}//", &long] {
        let wrong = format!("[[children]]\ntarget='{target}'\nworkflows='/wf/c0'\n");
        let file = CHILD.replace("[[children]]", &format!("{wrong}[[children]]"));
        let config = layers(&file, &[], &[]).unwrap();
        assert_eq!(config.scope.targets().collect::<Vec<_>>(), ["device/main//", "device/c1//"]);
        assert!(config.refused_children[0].contains("children[0].target"), "{target}");
    }
}

#[test]
fn what_is_wrong_with_a_child_says_which_and_where() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/tmp", folder.path().join("link")).unwrap();
    let link = folder.path().join("link").display().to_string();
    let other = |text: &str| format!("{CHILD}[[children]]\n{text}");
    for (file, expected) in [
        (CHILD.replace("bus = 'mqtt://127.0.0.1'", ""), "line 2: children = ["),
        (CHILD.replace("bus = 'mqtt://127.0.0.1'", ""), "a bus beside them"),
        (
            CHILD.replace("device/c1//", "device/c1"),
            "line 3: children[0].target = \"device/c1\": expected four segments",
        ),
        (CHILD.replace("device/c1//", "device/+//"), "expected four segments"),
        (CHILD.replace("device/c1//", "device/main//"), "another target than the agent's own"),
        (
            other("target='device/c1//'\nworkflows='/wf/c2'"),
            "line 6: children[1].target = \"device/c1//\": expected a target that no other child has",
        ),
        (other("target='device/c2//'\nworkflows='/wf/./c1'"), "a folder that no other child has"),
        (other("target='device/c2//'"), "children[1].workflows = (none): expected the folder"),
        (
            other("workflows='/wf/c2'"),
            "line 5: children[1].target = (none): expected four segments",
        ),
        (
            other("target='device/c2//'\nworkflows='/etc/passwd'"),
            "a folder, or the path of a new one",
        ),
        (
            other("target='device/c2//'\nworkflows=3"),
            "line 7: children[1].workflows = 3: expected a text",
        ),
        (
            other("target='device/c2//'\nfolder='x'"),
            "line 7: children[1].folder: there is no such key",
        ),
        (
            format!("workflows = '/tmp'\n{}", CHILD.replace("/wf/c1", &link)),
            "another folder than the agent's own",
        ),
        ("children = 'x'".to_owned(), "line 1: children = \"x\""),
    ] {
        let error = match layers(&file, &[], &[]) {
            Err(error) => error,
            // It is left out, and all else counts.
            Ok(config) => config.refused_children.join("\n"),
        };
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    let many =
        (0..65).map(|n| format!("[[children]]\ntarget='device/n{n}//'\nworkflows='/wf/{n}'\n"));
    let error = layers(&many.collect::<String>(), &[], &[]).expect_err("too many");
    assert!(error.contains("at most 64 children"), "{error}");
}

#[test]
fn files_longer_than_their_bounds_are_refused_with_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: u64| {
        let path = folder.path().join(name);
        fs::write(&path, "#".repeat(bytes as usize)).unwrap();
        path.display().to_string()
    };
    let config = file("agent.toml", FILE_MAX_BYTES);
    Layers::default().read_file(Path::new(&config)).expect("as long as may be");
    let config = file("agent.toml", FILE_MAX_BYTES + 1);
    let refused = Layers::default().read_file(Path::new(&config)).expect_err("too long");
    let text = crate::io::http::describe(&refused);
    assert!(text.contains("agent.toml") && text.contains("longer than 1048576 bytes"), "{text}");

    for (key, bound) in [
        ("token_file", SECRET_FILE_MAX_BYTES),
        ("bus_password_file", SECRET_FILE_MAX_BYTES),
        ("ca_file", FILE_MAX_BYTES),
    ] {
        // A device has no end at all.
        for path in [file(key, bound + 1), "/dev/zero".to_owned()] {
            let mut layers = Layers::default();
            layers.set_flag(key, &path);
            let refused = Config::load(&layers).expect_err(key);
            let text = crate::io::http::describe(&refused);
            let words = [key, &path, &format!("longer than {bound} bytes")];
            assert!(words.iter().all(|word| text.contains(word)), "{key}: {text}");
        }
    }
}
