//! The example of the guide, `docs/examples/firmware_update`, as it stands there.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use crate::{agent::BuiltAgent, case, stage::Stage as _};

const PATIENCE: Duration = Duration::from_secs(45);
const TOPIC: &str = "te/device/main///cmd/firmware_update/f1";

/// Lays the example out in a folder, with version 1 in slot a.
fn lay_out(folder: &Path) {
    let (workflows, flash) = (folder.join("workflows"), folder.join("flash"));
    fs::create_dir_all(&workflows).expect("a folder");
    fs::create_dir_all(&flash).expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/firmware_update");
    for name in ["firmware_update.toml", "firmware_update.json", "firmware.sh"] {
        let text = fs::read_to_string(example.join(name)).expect("part of the guide");
        let here = workflows.display().to_string();
        fs::write(workflows.join(name), text.replace("/etc/quarterdeck/workflows", &here))
            .expect("written");
    }
    let program = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workflows.join("firmware.sh"), program).expect("set");
    let (flash_path, asked) = (flash.display(), folder.join("restart-asked"));
    let conf = format!("FLASH={flash_path}\nRESTART=\"touch {}\"\n", asked.display());
    fs::write(workflows.join("firmware.conf"), conf).expect("written");
    fs::write(flash.join("a"), "version=1\n").expect("written");
    fs::write(flash.join("active"), "a\n").expect("written");
}

/// Updates to an image, restarting the device when it is asked for; gives all states, and the last message.
fn update(folder: &Path, image: &str, sha256: Option<&str>) -> (Vec<String>, serde_json::Value) {
    use sha2::Digest as _;
    fs::write(folder.join("image"), image).expect("written");
    let own = format!("{:x}", sha2::Sha256::digest(image));
    let mut agent = BuiltAgent::new(folder.to_owned());
    agent.start();
    let init = serde_json::json!({
        "status": "init", "version": "2", "url": folder.join("image"),
        "sha256": sha256.unwrap_or(&own),
    });
    agent.publish(TOPIC, &init.to_string());
    let status = |payload: &str| {
        let message: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
        message["status"].as_str().unwrap_or_default().to_owned()
    };
    let is_at = |states: &[&str], topic: &str, payload: &str| {
        topic == TOPIC && states.contains(&status(payload).as_str())
    };
    let stops = ["waiting", "successful", "failed"];
    let stopped =
        agent.until(&|seen| seen.iter().any(|s| is_at(&stops, &s.topic, &s.payload)), PATIENCE);
    assert!(stopped, "{}", agent.log());
    let asked = folder.join("restart-asked");
    let has_waited = agent.until(
        &|seen| seen.iter().any(|s| is_at(&["waiting"], &s.topic, &s.payload)),
        Duration::ZERO,
    );
    if has_waited {
        assert!(agent.until(&|_| asked.exists(), PATIENCE), "{}", agent.log());
        agent.kill();
        agent.start();
    }
    let ends = ["successful", "failed"];
    let ended =
        agent.until(&|seen| seen.iter().any(|s| is_at(&ends, &s.topic, &s.payload)), PATIENCE);
    assert!(ended, "{}", agent.log());
    let seen = agent.seen();
    let said: Vec<_> = seen.iter().filter(|s| s.topic == TOPIC).collect();
    let mut states: Vec<String> = said.iter().map(|s| status(&s.payload)).collect();
    states.dedup();
    let last = said.last().map(|s| serde_json::from_str(&s.payload).expect("JSON"));
    (states, last.expect("a last message"))
}

#[test]
fn the_firmware_example_keeps_what_has_proved_itself() {
    if case::is_skipped_without("mosquitto") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path());
    let (states, last) = update(folder.path(), "version=2\n", None);
    let way = ["init", "installing", "restarting", "waiting", "verifying", "committing"];
    assert_eq!(states[..6], way);
    assert_eq!((&last["status"], &last["previous"]), (&"successful".into(), &"1".into()));
    assert_eq!(fs::read_to_string(folder.path().join("flash/active")).expect("there"), "b\n");
}

#[test]
fn the_firmware_example_goes_back_from_what_fails_its_checks() {
    if case::is_skipped_without("mosquitto") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path());
    let (states, last) = update(folder.path(), "version=2\nbroken\n", None);
    assert!(states.contains(&"rolling_back".to_owned()), "{states:?}");
    assert_eq!(last["reason"], "the new firmware does not pass its checks");
    assert_eq!(fs::read_to_string(folder.path().join("flash/active")).expect("there"), "a\n");
    assert!(!folder.path().join("flash/trial").exists());
}

#[test]
fn the_firmware_example_refuses_what_is_not_what_it_should_be() {
    if case::is_skipped_without("mosquitto") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path());
    let (states, last) = update(folder.path(), "version=2\n", Some(&"0".repeat(64)));
    assert_eq!(states, ["init", "installing", "failed"]);
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains("firmware.sh")), "{last}");
    assert!(!folder.path().join("flash/b").exists());
}
