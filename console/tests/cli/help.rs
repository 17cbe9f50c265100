//! Help, completions, man pages: what the program says of itself.

use super::program::Program;

#[tokio::test]
async fn help_says_what_there_is() {
    let program = Program::new();
    for args in [
        &["--help"][..],
        &["login", "--help"],
        &["devices", "--help"],
        &["commands", "--help"],
        &["run", "--help"],
        &["audit", "--help"],
        &["alerts", "--help"],
        &["enroll-token", "create", "--help"],
        &["shell", "--help"],
        &["exec", "--help"],
        &["proxy", "--help"],
        &["forward", "--help"],
        &["ssh-config", "--help"],
        &["tunnels", "--help"],
        &["recordings", "--help"],
        &["recordings", "play", "--help"],
    ] {
        let ended = program.run(args).await.expect(0);
        insta::assert_snapshot!(args.join("_").replace("--", ""), ended.stdout);
    }
}

#[tokio::test]
async fn completions_exist_for_each_shell() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = program.run(&["completions", shell]).await.expect(0);
        assert!(ended.stdout.contains("clear-service-failed"), "{shell}");
    }
    let ended = program.run(&["completions", "bash"]).await.expect(0);
    let of = |subcommand: &str| {
        let (_, rest) = ended
            .stdout
            .split_once(&format!("quarterdeck__subcmd__{subcommand})"))
            .expect(subcommand);
        let (_, rest) = rest.split_once("--status)").expect(subcommand);
        rest.split_once(";;").expect(subcommand).0.to_owned()
    };
    for (subcommand, statuses) in [
        ("devices", "online stale offline retired"),
        ("commands", "execution_started awaiting_reconnect"),
        ("tunnels", "opening open stalled closed failed"),
        ("alerts", "unacknowledged"),
    ] {
        assert!(of(subcommand).contains(statuses), "{subcommand}: {}", of(subcommand));
    }
    program.run(&["completions", "perl"]).await.expect(2);
}

#[tokio::test]
async fn completions_are_what_their_shells_can_read() {
    let program = Program::new();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = program.run(&["completions", shell]).await.expect(0).stdout;
        let file = program.home.path().join(shell);
        std::fs::write(&file, script).expect("written");
        let checked = std::process::Command::new(shell).arg(check).arg(&file).output();
        match checked {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: {shell} is not installed");
            }
            Err(error) => panic!("{shell}: {error}"),
        }
    }
}

#[tokio::test]
async fn man_pages_go_to_stdout_or_into_a_folder() {
    let program = Program::new();
    let ended = program.run(&["man"]).await.expect(0);
    assert!(ended.stdout.contains(".TH quarterdeck 1"), "{}", ended.stdout);
    let dir = program.home.path().join("man/man1");
    program.run(&["man", "--dir", &dir.display().to_string()]).await.expect(0);
    for page in ["quarterdeck.1", "quarterdeck-run.1", "quarterdeck-devices-show.1"] {
        let text = std::fs::read_to_string(dir.join(page)).expect(page);
        // A line of one long word cannot be stretched: troff would complain.
        assert!(text.contains("\n.ad l\n.SH NAME"), "{text}");
    }
}

#[tokio::test]
async fn no_option_takes_a_secret() {
    let program = Program::new();
    let ended = program.run(&["completions", "fish"]).await.expect(0);
    for option in ["-l token ", "-l password ", "-l secret "] {
        assert!(!ended.stdout.contains(option), "{option}");
    }
}
