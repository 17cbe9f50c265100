//! `quarterdeck-agent workflows …`, with the real binary, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const FLASH: &str = "\
operation = \"flash\"
[init]
script = \"/bin/flash ${.payload.url}\"
on_success = \"verify\"
[verify]
action = \"proceed\"
";

fn workflows(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quarterdeck-agent"))
        .args(["workflows"])
        .args(args)
        .arg("--data-dir")
        .arg(folder)
        .env_clear()
        .output()
        .unwrap()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("workflows")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("workflows").join(name), text).unwrap();
    }
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Vec<Value> {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_says_of_each_file_what_is_wrong_where() {
    let folder = folder(&[
        ("good.toml", FLASH),
        ("bad.toml", "operation = \"bad\"\n\n[init]\naction = \"fly\"\non_exit.9-1 = \"a\"\n"),
        ("flash.json", "{\"name\": 5}"),
    ]);
    let path = |name: &str| folder.path().join("workflows").join(name).display().to_string();
    let (good, bad, card) = (path("good.toml"), path("bad.toml"), path("flash.json"));

    let output = workflows(folder.path(), &["check", &good]);
    assert_eq!(output.status.code(), Some(0));
    let expected = format!("{good}: valid, the operation flash with 4 states\n");
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, String::new()));

    let output = workflows(folder.path(), &["check", &good, &bad, &card, &path("gone.toml")]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    for expected in [
        format!("{bad}:4:10: init.action: \"fly\" is unknown: expected proceed"),
        format!("{bad}:5:9: init.on_exit.9-1: 1 is below 9: expected 1-9"),
        format!("{card}: name: expected a text of 1 to 80 characters"),
        format!("{}: cannot be read:", path("gone.toml")),
    ] {
        assert!(problems.contains(&expected), "{expected}\nin\n{problems}");
    }

    let output = workflows(folder.path(), &["check", "--output", "json", &good, &bad]);
    assert_eq!(output.status.code(), Some(1));
    let rows = json(&output);
    assert_eq!((&rows[0]["valid"], &rows[1]["valid"]), (&true.into(), &false.into()));
    assert_eq!(rows[1]["operation"], "bad");
    assert_eq!(rows[1]["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn check_finds_the_example_of_the_guide_valid() {
    let folder = folder(&[]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/firmware_update");
    let path = |name: &str| example.join(name).display().to_string();
    let (workflow, card) = (path("firmware_update.toml"), path("firmware_update.json"));
    let output = workflows(folder.path(), &["check", &workflow, &card]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(!text(&output.stdout).contains("note"), "{}", text(&output.stdout));
}

#[test]
fn check_without_a_file_is_wrong_usage() {
    let folder = folder(&[]);
    assert_eq!(workflows(folder.path(), &["check"]).status.code(), Some(2));
    assert_eq!(workflows(folder.path(), &["fly"]).status.code(), Some(2));
    let output = workflows(folder.path(), &["list", "--workflows", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let problem = text(&output.stderr);
    for part in ["--workflows", "/nowhere", "expected a folder"] {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn show_prints_a_workflow_that_can_be_checked_and_used() {
    let folder = folder(&[]);
    let shown = workflows(folder.path(), &["show", "reboot_host"]);
    assert_eq!(shown.status.code(), Some(0));
    let mine = folder.path().join("workflows/mine.toml");
    fs::write(&mine, &shown.stdout).unwrap();
    let checked = workflows(folder.path(), &["check", mine.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0));
    let rows = json(&workflows(folder.path(), &["list", "--output", "json"]));
    let row = rows.iter().find(|row| row["name"] == "reboot_host").unwrap();
    assert_eq!(row["file"], mine.to_str().unwrap());
    assert_eq!(row["overrides_builtin"], true);
}

#[test]
fn show_gives_the_file_that_stands_and_on_request_the_agents_own() {
    let mine = "operation = \"ping\"\n[init]\naction = \"proceed\"\n";
    let folder = folder(&[("mine.toml", mine)]);
    assert_eq!(text(&workflows(folder.path(), &["show", "ping"]).stdout), mine);
    let own = text(&workflows(folder.path(), &["show", "ping", "--builtin"]).stdout);
    assert!(own.contains("action = \"builtin\""), "{own}");
    let unknown = workflows(folder.path(), &["show", "fly"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        text(&unknown.stderr).contains("there is no operation \"fly\"; there are: collect_logs")
    );
}

#[test]
fn list_tells_all_operations_and_the_files_that_count_for_nothing() {
    let folder = folder(&[
        ("flash.toml", FLASH),
        ("flash.json", "{\"name\": \"Flash it\", \"dangerous\": true, \"estimated_duration\": 9}"),
        ("second.toml", FLASH),
        ("bad.toml", "operation = \"bad\"\n"),
        ("nameless.toml", "nothing"),
    ]);
    let output = workflows(folder.path(), &["list"]);
    assert_eq!(output.status.code(), Some(0));
    let (listed, told) = (text(&output.stdout), text(&output.stderr));
    assert!(listed.lines().any(|line| line.starts_with("ping ") && line.ends_with("(built in)")));
    assert!(listed.lines().any(|line| line.starts_with("flash ") && line.contains("Flash it")));
    assert!(listed.lines().any(|line| line.starts_with("bad ") && line.contains("INVALID")));
    assert!(told.contains("second.toml: is for flash too, but"), "{told}");
    assert!(told.contains("nameless.toml:1:"), "{told}");

    let rows = json(&workflows(folder.path(), &["list", "--output", "json"]));
    let flash = rows.iter().find(|row| row["name"] == "flash").unwrap();
    assert_eq!(flash["states"], serde_json::json!(["init", "verify", "successful", "failed"]));
    assert_eq!((&flash["dangerous"], &flash["estimated_duration_s"]), (&true.into(), &9.into()));
    let bad = rows.iter().find(|row| row["name"] == "bad").unwrap();
    assert_eq!(bad["valid"], false);
    assert!(bad["problems"][0].as_str().unwrap().contains("init: is missing"));
}

#[test]
fn graph_draws_an_operation_or_a_file() {
    let folder = folder(&[("flash.toml", FLASH)]);
    let by_name = workflows(folder.path(), &["graph", "flash"]);
    assert_eq!(by_name.status.code(), Some(0));
    let drawn = text(&by_name.stdout);
    assert!(drawn.contains("● init\n    runs /bin/flash ${.payload.url}\n"), "{drawn}");
    assert!(drawn.contains("exit 0 ──▶ verify"), "{drawn}");
    let file = folder.path().join("workflows/flash.toml");
    assert_eq!(workflows(folder.path(), &["graph", file.to_str().unwrap()]).stdout, by_name.stdout);
}

#[test]
fn what_a_workflow_file_says_cannot_act_on_the_terminal() {
    let folder = folder(&[
        ("flash.toml", "operation = \"flash\"\n[init]\naction = \"fl\\u001b[2Jy\"\n"),
        ("ping.json", "{\"name\": \"P\\u001b]0;x\\u0007\"}"),
        ("\u{1b}[2J.toml", "["),
    ]);
    let odd = folder.path().join("workflows/\u{1b}[2J.toml");
    for args in [&["list"][..], &["graph", "flash"], &["check", odd.to_str().unwrap()]] {
        let output = workflows(folder.path(), args);
        for shown in [output.stdout, output.stderr] {
            assert!(!shown.contains(&0x1b) && !shown.contains(&7), "{args:?}");
        }
    }
}

#[test]
fn a_childs_operations_are_those_of_its_folder() {
    let folder = folder(&[("flash.toml", FLASH)]);
    let child = folder.path().join("child1");
    let config = folder.path().join("agent.toml");
    let settings = format!(
        "bus = \"mqtt://127.0.0.1\"\n[[children]]\ntarget = \"device/child1//\"\nworkflows = {child:?}\n"
    );
    fs::write(&config, settings).unwrap();
    let of_child = |args: &[&str]| {
        let config = config.to_str().unwrap();
        let child = ["--child", "device/child1//", "--config", config];
        workflows(folder.path(), &[args, &child].concat())
    };
    let output = of_child(&["list", "--output", "json"]);
    assert_eq!(json(&output), Vec::<Value>::new());
    let told = text(&output.stderr);
    assert!(told.contains("child1 is not there: make it"), "{told}");

    fs::create_dir(&child).unwrap();
    let own = FLASH.replace("/bin/flash", "/bin/flash-child");
    fs::write(child.join("f.toml"), &own).unwrap();
    let odd = child.join("restart.toml");
    fs::write(&odd, "operation = \"restart\"\n[init]\naction = \"builtin\"\n").unwrap();
    let rows = json(&of_child(&["list", "--output", "json"]));
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["flash", "restart"]);
    assert_eq!(rows[1]["valid"], false);
    assert_eq!(text(&of_child(&["show", "flash"]).stdout), own);
    assert!(text(&of_child(&["graph", "flash"]).stdout).contains("runs /bin/flash-child"));

    let odd = odd.to_str().unwrap();
    let refused = of_child(&["check", odd]);
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.contains("restart.toml:2:1: init: what is built in acts on"), "{told}");
    assert_eq!(workflows(folder.path(), &["check", odd]).status.code(), Some(0));

    let unknown = workflows(folder.path(), &["list", "--child", "device/child9//"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("in [[children]] of --config there are: none"));
}
