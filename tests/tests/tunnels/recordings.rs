//! What a terminal showed, kept and shown again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use quarterdeck_protocol::{
    api::{
        AuditEntry, Page, Recording, RecordingCheck, RecordingEvent, RecordingEventKind,
        RecordingStatus, Role,
    },
    tunnel::close::CloseCode,
};
use quarterdeck_tests::{
    Fleet, binaries, cli,
    disk::SmallDisk,
    faketime::SteppingClock,
    server::ServerOptions,
    tunnel::{Console, wait_tunnel},
    wait::{Look, in_time, wait_for, wait_until},
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::terminal;

async fn bytes(api: &quarterdeck_tests::api::Api, path: &str) -> Result<Vec<u8>> {
    let answer = api.request(Method::GET, path, &Value::Null).await?;
    anyhow::ensure!(answer.status == 200, "{path}: {}", answer.text());
    Ok(answer.body)
}

/// The same file with an end mark that fits it.
fn forged(cast: &str) -> String {
    let (before, mark) = cast.trim_end().rsplit_once('\n').expect("lines");
    let (_, old) = mark.rsplit_once('=').expect("a digest");
    let sealed = format!("{before}\n");
    let digest = format!("{:x}", Sha256::digest(&sealed));
    let mark = mark.replace(old.trim_end_matches("\"]"), &digest);
    format!("{sealed}{mark}\n")
}

#[tokio::test]
async fn a_recording_is_what_was_shown_and_who_looked_is_recorded_too() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let mut request =
        terminal("printf 'gr\\303\\274n \\342\\202\\254\\n'; read x; echo got $x; exit 3");
    request["record"] = json!(true);
    request["record_input"] = json!(true);
    let (tunnel, console) = Console::create(fleet.api(), &request).await?;
    console.shows("grün €").await?;
    let id = tunnel.recording_id.expect("it is recorded");
    let so_far: RecordingCheck = fleet.api().get(&format!("@/recordings/{id}/verify")).await?;
    let why = so_far.problem.unwrap_or_default();
    assert!(!so_far.is_whole && why.contains("goes on"), "{why}");
    console.write("typed\n").await?;
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    let shown = console.output();
    wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;

    let viewer = fleet.api().member("vera", Role::Viewer).await?;
    let path = format!("@/recordings/{id}");
    let recording: Recording = viewer.get(&path).await?;
    assert_eq!(recording.status, RecordingStatus::Complete);
    assert!(recording.has_input && recording.expires_at.is_some(), "{recording:?}");
    assert!(bytes(&viewer, &format!("{path}/bytes")).await? == shown);
    let check: RecordingCheck = viewer.get(&format!("{path}/verify")).await?;
    assert!(check.is_whole && check.bytes == shown.len() as u64, "{check:?}");

    let cast = String::from_utf8(bytes(&viewer, &format!("{path}/cast")).await?)?;
    let mut lines = cast.lines();
    let header: Value = serde_json::from_str(lines.next().unwrap_or_default())?;
    assert_eq!((header["version"].as_i64(), header["width"].as_i64()), (Some(2), Some(80)));
    let events: Vec<(f64, String, String)> =
        lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let all = |kind: &str| -> String {
        events.iter().filter(|(_, k, _)| k == kind).map(|(_, _, data)| data.as_str()).collect()
    };
    assert_eq!(all("o").as_bytes(), shown);
    assert_eq!(all("i"), "typed\n");
    assert!(events.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{cast}");

    // Taken along it can be checked: by itself, and against what the server has.
    let verify = async |name: &str, cast: &str| {
        let file = fleet.file(name);
        std::fs::write(&file, cast)?;
        let file = file.display().to_string();
        let args = ["recordings", "verify", &file];
        let checked = cli::quarterdeck(&fleet, &viewer, &args)?.output().await?;
        let said = String::from_utf8(checked.stdout)?;
        anyhow::Ok((checked.status.code(), said))
    };
    let (code, said) = verify("whole.cast", &cast).await?;
    assert!(code == Some(0) && said.contains("as recorded"), "{said}");
    assert!(!said.contains("not compared"), "{said}");
    let (cut, _) = cast.trim_end().rsplit_once('\n').expect("lines");
    for (name, cast, why) in [
        ("altered.cast", cast.replace("\"width\":80", "\"width\":81"), "it was altered"),
        ("cut.cast", format!("{cut}\n"), "it has no end mark"),
        (
            "forged.cast",
            forged(&cast.replace("\"width\":80", "\"width\":81")),
            "the server recorded something else",
        ),
    ] {
        let (code, said) = verify(name, &cast).await?;
        assert!(code == Some(1) && said.contains(why), "{name}: {said}");
    }

    let events: Vec<RecordingEvent> = viewer.list(&format!("{path}/events")).await?;
    let last = events.last().expect("an exit");
    assert_eq!((last.kind, last.data.as_str()), (RecordingEventKind::Exit, "3"));

    let trail: Vec<AuditEntry> =
        fleet.api().list(&format!("@/audit?object=recording:{id}")).await?;
    let told: Vec<_> = trail.iter().rev().map(|e| (e.actor.as_str(), e.action.as_str())).collect();
    let (view, exports) = told.split_last().expect("some");
    assert_eq!(*view, ("vera", "recording.view"));
    // A check before its end, two downloads, a check between them, and what was compared with them.
    let actions: Vec<_> = exports.iter().map(|(_, action)| *action).collect();
    let [export, verify] = ["recording.export", "recording.verify"];
    assert_eq!(actions, [verify, export, verify, export, export, export]);
    // Who goes on from another's page views it too; who goes on from an own one does so still.
    let page: Page<RecordingEvent> = viewer.get(&format!("{path}/events?limit=1")).await?;
    let rest = format!("{path}/events?limit=1&cursor={}", page.next_cursor.expect("more"));
    for api in [&viewer, fleet.api(), fleet.api()] {
        let next: Page<RecordingEvent> = api.get(&rest).await?;
        assert_eq!(next.items, events[1..2]);
    }
    let views = format!("@/audit?object=recording:{id}&action=recording.view");
    let views: Vec<AuditEntry> = fleet.api().list(&views).await?;
    let readers: Vec<_> = views.iter().rev().map(|entry| entry.actor.as_str()).collect();
    assert_eq!(readers, ["vera", "vera", "admin"]);
    viewer.request(Method::DELETE, &path, &Value::Null).await?.refused(403)?;
    assert_eq!(fleet.api().request(Method::DELETE, &path, &Value::Null).await?.status, 204);
    viewer.request(Method::GET, &path, &Value::Null).await?.refused(404)?;
    Ok(())
}

#[tokio::test]
async fn a_recording_is_shown_played_and_deleted_from_the_command_line() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let run = async |args: &[&str]| {
        let output = cli::quarterdeck(&fleet, fleet.api(), args)?.output().await?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        anyhow::Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    // Only terminals are recorded.
    let (code, _, why) = run(&["exec", "--record", "pi-1", "--", "true"]).await?;
    assert!(code == Some(2) && why.contains("--tty"), "{why}");
    let script = "echo seen; sleep 600";
    let args = ["exec", "--tty", "--record", "pi-1", "--", "sh", "-c", script];
    let mut console = cli::quarterdeck(&fleet, fleet.api(), &args)?.spawn()?;
    let recording = wait_for("a recording with output", || async {
        let all: Vec<Recording> = fleet.api().list("@/recordings").await?;
        let Some(one) = all.into_iter().next() else { return Ok(Look::not_yet("none")) };
        let shown = bytes(fleet.api(), &format!("@/recordings/{}/bytes", one.id)).await?;
        Ok(if shown.is_empty() { Look::not_yet(json!(one)) } else { Look::Ready(one) })
    })
    .await?;
    assert!(!recording.has_input, "nobody asked for it");
    let (id, tunnel) = (recording.id.as_str(), recording.tunnel_id.to_string());
    let (code, _, why) = run(&["recordings", "delete", "-y", id]).await?;
    assert!(code == Some(1) && why.contains("its session goes on"), "{why}");
    let (code, ..) = run(&["tunnels", "close", &tunnel]).await?;
    assert_eq!(code, Some(0));
    in_time("the end of exec", console.wait()).await??;
    wait_tunnel(fleet.api(), recording.tunnel_id, "over", |t| t.status.is_over()).await?;

    let (code, shown, _) = run(&["recordings", "show", id]).await?;
    assert!(code == Some(0) && shown.contains("complete"), "{shown}");
    assert!(shown.contains("sh -c 'echo seen; sleep 600'"), "{shown}");
    let (code, played, why) = run(&["recordings", "play", "--idle-limit", "0", id]).await?;
    assert!(code == Some(0) && played.contains("seen"), "{played}{why}");
    let trail = async |action: &str| {
        let path = format!("@/audit?object=recording:{id}&action=recording.{action}");
        let entries: Vec<AuditEntry> = fleet.api().list(&path).await?;
        anyhow::Ok(entries.into_iter().map(|entry| entry.detail).collect::<Vec<_>>())
    };
    assert_eq!(trail("view").await?, [json!({ "as": "cast" })]);
    let strange = format!("@/recordings/{id}/cast?purpose=fun");
    let problem = fleet.api().request(Method::GET, &strange, &Value::Null).await?.refused(422)?;
    assert_eq!(problem.field.as_deref(), Some("purpose"));

    // Without a terminal to ask on, it must be said.
    let (code, ..) = run(&["recordings", "delete", id]).await?;
    assert_eq!(code, Some(2));
    let (code, said, _) = run(&["recordings", "delete", "--yes", id]).await?;
    assert!(code == Some(0) && said.contains("deleted"), "{said}");
    assert_eq!(trail("delete").await?.len(), 1);
    assert_eq!(run(&["recordings", "show", id]).await?.0, Some(1));
    Ok(())
}

#[tokio::test]
async fn a_recording_is_kept_for_as_long_as_its_project_wants() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(clock) = SteppingClock::new(folder.path(), "server")? else { return Ok(()) };
    let env = clock.env().to_vec();
    let mut fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    let _device = fleet.device("pi-1").await?;
    let mut ids = Vec::new();
    for days in [1, 3] {
        let settings = json!({ "recording_kept_days": days });
        fleet.api().put::<Value>("@/settings", &settings).await?;
        let mut request = terminal("echo seen");
        request["record"] = json!(true);
        let (tunnel, console) = Console::create(fleet.api(), &request).await?;
        console.closed().await?;
        wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
        let id = tunnel.recording_id.expect("it is recorded");
        let recording: Recording = fleet.api().get(&format!("@/recordings/{id}")).await?;
        let (ended, expires) =
            (recording.ended_at.expect("over"), recording.expires_at.expect("over"));
        assert_eq!(expires, ended.plus_seconds(days * 24 * 3600));
        ids.push((id, tunnel.id));
    }
    let kept = |fleet: &Fleet| {
        let folder = fleet.folder().join("server/tunnels");
        ids.iter().map(|(_, tunnel)| files_of(&folder, &tunnel.to_string())).collect::<Vec<_>>()
    };
    assert!(kept(&fleet).iter().all(|files| *files > 0), "{:?}", kept(&fleet));
    clock.step_to(2 * 24 * 3600)?;
    fleet.restart_server().await?;
    let api = fleet.api().login("admin", fleet.admin_password()).await?;
    let (expired, lasting) = (&ids[0].0, &ids[1].0);
    wait_for("the older one to be gone", || async {
        let all: Vec<Recording> = api.list("@/recordings").await?;
        let left: Vec<_> = all.into_iter().map(|recording| recording.id).collect();
        Ok(if left == [lasting.clone()] { Look::Ready(()) } else { Look::not_yet(json!(left)) })
    })
    .await?;
    wait_until("its files to be gone", || matches!(kept(&fleet)[..], [0, lasting] if lasting > 0))
        .await?;
    let path = format!("@/audit?object=recording:{expired}&action=recording.delete");
    let trail: Vec<AuditEntry> = api.list(&path).await?;
    let told: Vec<_> = trail.iter().map(|e| (e.actor.as_str(), &e.detail["reason"])).collect();
    assert_eq!(told, [("server", &json!("expired"))]);
    Ok(())
}

/// How many files lie in a folder, and in those within, in whose path a name is.
fn files_of(folder: &Path, name: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    let count = |path: PathBuf| {
        let is_named = || usize::from(path.to_string_lossy().contains(name));
        if path.is_dir() { files_of(&path, name) } else { is_named() }
    };
    paths.map(count).sum()
}

#[tokio::test]
async fn a_backup_has_the_recordings_too() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let request = |script: &str| {
        let mut request = terminal(script);
        request["record"] = json!(true);
        request
    };
    let (done, console) = Console::create(fleet.api(), &request("echo to be kept")).await?;
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    wait_tunnel(fleet.api(), done.id, "over", |t| t.status.is_over()).await?;
    let (going_on, console) = Console::create(fleet.api(), &request("echo and so on; cat")).await?;
    console.shows("and so on").await?;
    let ids = [done, going_on].map(|tunnel| tunnel.recording_id.expect("it is recorded"));

    let data_dir = fleet.server().data_dir().to_owned();
    let folder = fleet.file("backup");
    let run = |what: &str| -> Result<()> {
        let mut program = Command::new(&binaries::find()?.server);
        let ran = program.arg("--data-dir").arg(&data_dir).arg(what).arg(&folder).output()?;
        ensure!(ran.status.success(), "{what}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    };
    run("backup")?;
    fleet.server().stop().await?;
    fs::remove_dir_all(&data_dir)?;
    run("restore")?;
    fleet.restart_server().await?;
    let path = |id: &str| format!("@/recordings/{id}");
    let whole: RecordingCheck = fleet.api().get(&format!("{}/verify", path(&ids[0]))).await?;
    assert!(whole.is_whole, "{whole:?}");
    for (id, text) in ids.iter().zip(["to be kept", "and so on"]) {
        let shown = bytes(fleet.api(), &format!("{}/bytes", path(id))).await?;
        ensure!(String::from_utf8_lossy(&shown).contains(text), "{id}: {shown:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_recording_that_a_crash_cut_goes_on_and_is_whole() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    api.put::<Value>("@/settings", &json!({ "record_terminals": true })).await?;
    let (tunnel, console) =
        Console::create(&api, &terminal("echo before; read x; echo after; read x")).await?;
    console.shows("before").await?;
    fleet.server().kill_9();
    // A crash in the middle of a write.
    let log = fleet.server().data_dir().join("tunnels").join(tunnel.id.to_string());
    let segment = std::fs::read_dir(&log)?.next().expect("a segment")?.path();
    let mut raw = std::fs::read(&segment)?;
    assert!(!raw.windows(6).any(|window| window == b"before"), "it is not sealed");
    raw.extend_from_slice(&[0, 0, 0, 99, 0, 1, 2, 3]);
    std::fs::write(&segment, raw)?;
    fleet.server().start_again().await?;
    console.write("x\n").await?;
    console.shows("after").await?;
    console.write("x\n").await?;
    console.closed().await?;
    let path = format!("@/recordings/{}", tunnel.recording_id.expect("it is recorded"));
    let check: RecordingCheck = api.get(&format!("{path}/verify")).await?;
    assert!(check.is_whole, "{check:?}");
    assert!(bytes(&api, &format!("{path}/bytes")).await? == console.output());
    Ok(())
}

#[tokio::test]
async fn a_recording_of_which_something_is_missing_is_neither_whole_nor_given_as_if_it_were()
-> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    let mut request = terminal("head -c 3000000 /dev/zero | tr '\\0' x");
    request["record"] = json!(true);
    let (tunnel, console) = Console::create(&api, &request).await?;
    console.closed().await?;
    let id = tunnel.recording_id.expect("it is recorded");
    let path = format!("@/recordings/{id}");
    assert!(api.get::<RecordingCheck>(&format!("{path}/verify")).await?.is_whole);

    let folder = fleet.server().data_dir().join("tunnels").join(tunnel.id.to_string());
    let mut segments: Vec<_> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    segments.sort();
    let (first, last) = (&segments[0], &segments[segments.len() - 1]);
    let aside = fleet.file("aside");
    let not_whole = async || {
        let check: RecordingCheck = api.get(&format!("{path}/verify")).await?;
        assert!(!check.is_whole && check.problem.is_some(), "{check:?}");
        anyhow::Ok(())
    };
    // Its end is gone: what is there comes, and then an error.
    std::fs::rename(last, &aside)?;
    not_whole().await?;
    assert!(bytes(&api, &format!("{path}/bytes")).await.is_err());
    let export = ["recordings", "export", &id, "-o", "cut.cast"];
    let exported = cli::quarterdeck(&fleet, &api, &export)?.output().await?;
    assert_eq!(exported.status.code(), Some(1), "{exported:?}");
    let said = String::from_utf8_lossy(&exported.stderr);
    assert!(said.contains("recordings verify"), "{said}");
    assert!(said.contains("the recording is damaged") && !said.contains("reach"), "{said}");
    std::fs::rename(&aside, last)?;
    // Its beginning is.
    std::fs::rename(first, &aside)?;
    not_whole().await?;
    for part in ["bytes", "cast", "events"] {
        let answer = api.request(Method::GET, &format!("{path}/{part}"), &Value::Null).await?;
        assert_eq!(answer.refused(409)?.code, "recording_damaged", "{part}");
    }
    // All of it is.
    std::fs::remove_dir_all(&folder)?;
    not_whole().await?;
    for part in ["bytes", "cast", "events"] {
        let answer = api.request(Method::GET, &format!("{path}/{part}"), &Value::Null).await?;
        assert_eq!(answer.refused(409)?.code, "recording_damaged", "{part}");
    }
    // Who finds the damage is not the only one who learns of it; the command line checks, too.
    let path = format!("@/audit?object=recording:{id}&outcome=failed");
    wait_for("all of it in the audit log", || async {
        let failed: Vec<AuditEntry> = api.list(&path).await?;
        let of = |action: &str| failed.iter().filter(|e| e.action == action).count();
        let has_problem = failed.iter().all(|e| e.detail["problem"].is_string());
        let told = ["verify", "export", "view"].map(|what| of(&format!("recording.{what}")));
        let is_told = has_problem && told == [4, 6, 2];
        Ok(if is_told { Look::Ready(()) } else { Look::not_yet(format!("{failed:?}")) })
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_recording_that_cannot_be_written_closes_the_tunnel() -> Result<()> {
    let args = ["--recording-max-mb", "1"].map(str::to_owned).to_vec();
    let options = quarterdeck_tests::server::ServerOptions { args, ..Default::default() };
    let fleet = Fleet::start_with(options).await?;
    let _device = fleet.device("pi-1").await?;
    let mut request = terminal("yes");
    request["record"] = json!(true);
    let (tunnel, console) = Console::create(fleet.api(), &request).await?;
    assert_eq!(console.closed().await?.0, CloseCode::RecordingFailed);
    let path = format!("@/recordings/{}", tunnel.recording_id.expect("it is recorded"));
    let recording: Recording = fleet.api().get(&path).await?;
    assert_eq!(recording.status, RecordingStatus::Incomplete);
    let check: RecordingCheck = fleet.api().get(&format!("{path}/verify")).await?;
    assert!(!check.is_whole && check.problem.is_some(), "{check:?}");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_ends_a_terminal_with_its_reason_and_nothing_else() -> Result<()> {
    const DISK_BYTES: u64 = 4 << 20;
    let Some(disk) = SmallDisk::mount(DISK_BYTES)? else { return Ok(()) };
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    // The logs of sessions alone are on the small disk.
    let logs = fleet.server().data_dir().join("tunnels");
    fleet.server().stop().await?;
    std::fs::remove_dir(&logs)?;
    std::os::unix::fs::symlink(disk.path(), &logs)?;
    fleet.server().start_again().await?;
    fleet.online("pi-1").await?;
    let api = fleet.api().clone();
    for (is_recorded, reason) in [(true, CloseCode::RecordingFailed), (false, CloseCode::DiskFull)]
    {
        let mut request = terminal("echo ready; read x; yes");
        request["record"] = json!(is_recorded);
        let (tunnel, console) = Console::create(&api, &request).await?;
        console.shows("ready").await?;
        disk.fill()?;
        console.write("x\n").await?;
        assert_eq!(console.closed().await?.0, reason);
        let over = wait_tunnel(&api, tunnel.id, "over", |t| t.status.is_over()).await?;
        assert_eq!(over.close_reason, Some(reason));
        let path = format!("@/audit?object=tunnel:{}", tunnel.id);
        let trail: Vec<AuditEntry> = api.list(&path).await?;
        let last = trail.first().expect("an end");
        assert_eq!(last.detail["reason"], reason.as_str());
        disk.free()?;
    }
    // There is space again, and sessions are what they were.
    let (_, console) = Console::create(&api, &terminal("echo again")).await?;
    console.shows("again").await?;
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    Ok(())
}
