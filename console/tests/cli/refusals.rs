//! What is wrong in options and files is refused, with where it stands and what was expected.

use super::program::Program;

#[tokio::test]
async fn a_wrong_file_or_option_is_named_with_its_line_and_key() {
    let program = Program::new();
    let file = |name: &str, text: &str| {
        let path = program.home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let missing = program.home.path().join("missing").display().to_string();
    let config = file("config.toml", "wall = false\nserver = 'fleet'\n");
    let theme = file("theme.toml", "theme = 'pink'\n");
    let keys = file("keys.toml", "[keys]\n\"command.retri\" = [\"r\"]\n");
    let shape = file("shape.toml", "[keys]\nfreeze = \"p\"\n");
    for (args, said) in [
        (["--config", &config], vec!["config.toml: line 2, key server", "http://"]),
        (["--config", &theme], vec!["theme.toml: line 1, key theme", "high-contrast"]),
        (["--config", &missing], vec!["--config", "missing: No such file"]),
        (["--keymap", &keys], vec!["--keymap", "keys.toml: there is no action \"command.retri\""]),
        (["--keymap", &shape], vec!["shape.toml: line 2, key freeze", "expected a sequence"]),
        (["--keymap", &missing], vec!["--keymap", "missing: No such file"]),
        (["--theme", "pink"], vec!["--theme", "pink", "colour-blind"]),
        (["--rotate", "0s"], vec!["--rotate", "at least 1s"]),
    ] {
        // There is no terminal either; what is wrong in the words comes first.
        let ended = program.run(&args).await.expect(2);
        assert_eq!(ended.stdout, "");
        for text in said {
            assert!(ended.stderr.contains(text), "{args:?}: {text} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("^J"), "{args:?}: {}", ended.stderr);
    }
    let ended = program.run(&["--token-file", &missing, "devices"]).await.expect(2);
    assert!(ended.stderr.contains("--token-file"), "{}", ended.stderr);
}
