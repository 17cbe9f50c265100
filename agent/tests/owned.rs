//! Operations over what the device's owner has named: software, configuration files, logs, checks.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use support::Bench;

const CONFIG: &str = "
[software]
deb = ['sh', '{folder}/plugin.sh', '{folder}']
[configs.app]
path = '{folder}/app.conf'
apply = ['sh', '{folder}/apply.sh', '{folder}']
[configuration]
path = '{folder}/own.json'
[logs]
app = '{folder}/app.log'
[health]
good = ['echo', 'all is well']
bad = ['sh', '-c', 'echo it is broken; exit 3']
[exec]
reboot = ['sh', '-c', 'echo rebooted >> {folder}/calls']
";
/// Notes how it is called; fails for what is called `broken`, or cannot be applied; takes
/// for ever over what is called `endless`.
const PLUGIN: &str = "echo \"$2 $3 $4 $5\" >>$1/calls\n\
    [ \"$2\" = list ] && printf 'nginx\\t1.2\\nvim\\t9\\n'\n\
    [ \"$3\" = endless ] && sleep 600\n\
    [ \"$3\" != broken ]\n";
const APPLY: &str = "echo \"applied $(cat $1/app.conf)\" >>$1/calls\n! grep -q bad $1/app.conf\n";

fn bench() -> Option<Bench> {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    if !support::has_broker(&name) {
        return None;
    }
    let mut bench = Bench::new(CONFIG);
    fs::write(bench.path("plugin.sh"), PLUGIN).unwrap();
    fs::write(bench.path("apply.sh"), APPLY).unwrap();
    bench.start_online();
    Some(bench)
}

#[test]
fn software_is_listed_and_updated_by_the_owners_plugins() {
    let Some(bench) = bench() else { return };
    let id = bench.send("software_list", json!({}));
    let last = bench.wait_final(&id);
    assert_eq!(
        last["result"],
        json!({"currentSoftwareList": [{"type": "deb", "modules": [
            {"name": "nginx", "version": "1.2"}, {"name": "vim", "version": "9"}
        ]}]}),
        "{last}"
    );
    let told: Vec<_> =
        bench.responses(&id).iter().map(|r| (r["status"].clone(), r["state"].clone())).collect();
    for (status, state) in [("execution_started", "scheduled"), ("progress", "executing")] {
        assert!(told.contains(&(json!(status), json!(state))), "{told:?}");
    }
    fs::remove_file(bench.path("calls")).unwrap();
    let update = |kind: &str, second: &str| {
        json!({"updateList": [{"type": kind, "modules": [
            {"name": "nginx", "version": "1.3", "action": "install"},
            {"name": second, "action": "remove"},
            {"name": "last", "action": "install"},
        ]}]})
    };
    let id = bench.send("software_update", update("deb", "vim"));
    let last = bench.wait_final(&id);
    assert_eq!(last["result"]["done"].as_array().unwrap().len(), 3, "{last}");
    assert_eq!(
        bench.wait_file("calls"),
        "prepare   \ninstall nginx --module-version 1.3\nremove vim  \ninstall last  \nfinalize   \n"
    );
    fs::remove_file(bench.path("calls")).unwrap();
    let id = bench.send("software_update", update("deb", "broken"));
    let last = bench.wait_final(&id);
    assert_eq!(last["error_code"], "script_failed", "{last}");
    assert_eq!(last["result"]["done"].as_array().unwrap().len(), 1, "{last}");
    assert!(bench.wait_file("calls").ends_with("remove broken  \nfinalize   \n"));
    fs::remove_file(bench.path("calls")).unwrap();
    let id = bench.send("software_update", update("deb", "endless"));
    support::wait_for("the endless one", || {
        fs::read_to_string(bench.path("calls")).ok().filter(|calls| calls.contains("endless"))
    });
    bench.cancel(&id);
    let last = bench.wait_final(&id);
    assert_eq!(last["error_code"], "cancelled", "{last}");
    assert!(bench.wait_file("calls").ends_with("remove endless  \nfinalize   \n"));
    let id = bench.send("software_update", update("snap", "vim"));
    let last = bench.wait_final(&id);
    assert_eq!(last["error_code"], "unsupported", "{last}");
    assert!(last["error_message"].as_str().unwrap().contains("there are: deb"), "{last}");
}

#[test]
fn a_configuration_file_is_written_applied_and_put_back_when_it_cannot_be() {
    let Some(bench) = bench() else { return };
    fs::write(bench.path("app.conf"), "old").unwrap();
    fs::set_permissions(bench.path("app.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let conf = || fs::read_to_string(bench.path("app.conf")).unwrap();
    let id = bench.send("config_update", json!({"type": "app", "content": "new"}));
    let last = bench.wait_final(&id);
    assert_eq!((&last["status"], conf().as_str()), (&json!("completed"), "new"), "{last}");
    let mode = fs::metadata(bench.path("app.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let id = bench.send("config_update", json!({"type": "app", "content": "bad"}));
    let last = bench.wait_final(&id);
    assert_eq!((&last["error_code"], conf().as_str()), (&json!("script_failed"), "new"));
    let why = last["error_message"].as_str().unwrap();
    assert!(why.ends_with("; the old file is in place again"), "{why}");
    assert_eq!(bench.wait_file("calls"), "applied new\napplied bad\napplied new\n");
    let id = bench.send("config_update", json!({"type": "other", "content": ""}));
    assert_eq!(bench.wait_final(&id)["error_code"], "unsupported");
    let id = bench.send("config_snapshot", json!({"type": "app"}));
    assert_eq!(bench.wait_final(&id)["result"]["name"], "app.conf");
    assert_eq!(bench.server.state.lock().unwrap().uploads[&id], b"new");
}

#[test]
fn a_device_takes_what_the_server_holds_for_it() {
    let Some(bench) = bench() else { return };
    let held = json!({
        "device_id": support::DEVICE, "version": 7, "configuration": {"volume": 3},
        "updated_at": null, "updated_by": null
    });
    bench.server.state.lock().unwrap().configuration = held;
    let id = bench.send("update_config", json!({}));
    let last = bench.wait_final(&id);
    assert_eq!(last["result"]["version"], 7, "{last}");
    let written = fs::read_to_string(bench.path("own.json")).unwrap();
    assert_eq!(written, "{\n  \"volume\": 3\n}\n");
}

#[test]
fn a_named_log_is_uploaded_whole_or_searched() {
    let Some(bench) = bench() else { return };
    fs::write(bench.path("app.log"), "error one\nfine\nerror two\nerror three\n").unwrap();
    for (payload, expected) in [
        (json!({"type": "app", "lines": 2}), "error two\nerror three\n"),
        (json!({"type": "app", "searchText": "fine"}), "fine\n"),
        (json!({"type": "app", "searchText": "error", "lines": 2}), "error two\nerror three\n"),
    ] {
        let id = bench.send("log_upload", payload.clone());
        assert_eq!(bench.wait_final(&id)["status"], "completed", "{payload}");
        let state = bench.server.state.lock().unwrap();
        assert_eq!(String::from_utf8_lossy(&state.uploads[&id]), expected, "{payload}");
    }
}

#[test]
fn a_health_check_says_which_checks_fail() {
    let Some(bench) = bench() else { return };
    let id = bench.send("health_check", json!({"checks": ["good"]}));
    let last = bench.wait_final(&id);
    assert_eq!(last["status"], "completed", "{last}");
    assert_eq!(last["result"]["checks"][0]["output"], "all is well");
    let id = bench.send("health_check", json!({}));
    let last = bench.wait_final(&id);
    assert_eq!(
        (&last["error_code"], &last["error_message"]),
        (&json!("unhealthy"), &json!("not healthy: bad"))
    );
    assert_eq!(last["result"]["checks"].as_array().unwrap().len(), 2, "{last}");
    let id = bench.send("health_check", json!({"checks": ["none"]}));
    assert_eq!(bench.wait_final(&id)["error_code"], "rejected");
}

#[test]
fn a_restart_is_a_reboot_and_completes_in_another_boot() {
    let Some(mut bench) = bench() else { return };
    let id = bench.send("restart", json!({}));
    assert_eq!(bench.wait_file("calls"), "rebooted\n");
    bench.kill_agent();
    bench.set_boot_id("boot-2");
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["status"], "completed");
}
