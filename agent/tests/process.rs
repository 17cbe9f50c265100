//! The process runner, with the agent's real binary as supervisor.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use quarterdeck_agent::{
    io::{
        cgroup::{Cgroups, PROCESSES_MAX},
        process::{self, Ending, Finished, Launcher, ProcessError},
        procfs,
        supervisor::Spec,
    },
    journal::record::ProcessMark,
    work::{Report, Reports, Stream},
};
use quarterdeck_protocol::{ids::CommandId, limits::OUTPUT_KEPT_MAX_BYTES};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const BOOT: &str = "boot-of-the-test";

/// What was reported of one run.
#[derive(Debug, Default)]
struct Seen {
    marks: Vec<ProcessMark>,
    stdout: String,
    stderr: String,
}

struct Run {
    end: CancellationToken,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<Result<Finished, ProcessError>>,
}

fn sh(script: &str) -> Spec {
    Spec {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        env: [("PATH".to_owned(), std::env::var("PATH").unwrap())].into(),
        grace_ms: 300,
        ..Spec::default()
    }
}

fn start(spec: Spec) -> Run {
    start_with(spec, Arc::default())
}

fn start_with(spec: Spec, cgroups: Arc<Cgroups>) -> Run {
    let launcher = Launcher {
        program: PathBuf::from(env!("CARGO_BIN_EXE_quarterdeck-agent")),
        boot_id: BOOT.to_owned(),
        cgroups,
    };
    let (to, mut from) = mpsc::channel(4);
    let id = CommandId(uuid::Uuid::from_u128(7));
    let end = CancellationToken::new();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Some((_, report)) = from.recv().await {
            let mut noted = noted.lock().unwrap();
            match report {
                Report::Ready { mark, go } => {
                    noted.marks.push(mark);
                    let _ = go.send(());
                }
                Report::Output { stream, chunk } => {
                    let text = match stream {
                        Stream::Stdout => &mut noted.stdout,
                        Stream::Stderr => &mut noted.stderr,
                    };
                    assert_eq!(chunk.offset, text.len() as u64);
                    *text += &chunk.text;
                }
                Report::State(_)
                | Report::GoesDown { .. }
                | Report::Announce { .. }
                | Report::Over(_)
                | Report::Left => {}
            }
        }
    });
    let ended = end.clone();
    let task =
        tokio::spawn(
            async move { process::run(&launcher, &spec, &ended, &Reports { id, to }).await },
        );
    Run { end, seen, task }
}

impl Run {
    async fn finish(self) -> (Finished, Arc<Mutex<Seen>>) {
        let finished = tokio::time::timeout(Duration::from_mins(1), self.task).await;
        (finished.expect("it ends").unwrap().expect("it ran"), self.seen)
    }

    /// Waits until the program has written something that holds `part`.
    async fn until_written(&self, part: &str) -> String {
        for _ in 0..1_000 {
            let text = self.seen.lock().unwrap().stdout.clone();
            if text.contains(part) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{part:?} was never written");
    }
}

async fn run(script: &str) -> (Finished, Arc<Mutex<Seen>>) {
    start(sh(script)).finish().await
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn exit_codes_signals_and_both_streams_are_told() {
    let (finished, seen) = run("echo out; echo err >&2; exit 3").await;
    assert_eq!(finished.ending, Ending::Code(3));
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(seen.lock().unwrap().stdout, "out\n");
    let (finished, _) = run("kill -9 $$").await;
    assert_eq!(finished.ending, Ending::Signal(9));
}

#[tokio::test]
async fn stdin_is_empty_and_the_environment_is_only_what_was_given() {
    let (finished, _) = run("cat; env | cut -d= -f1 | sort | tr '\\n' ' '").await;
    assert_eq!(finished.stdout.replace("_ ", ""), "PATH PWD ".to_owned(), "{}", finished.stdout);
}

/// Not a shell: some of those clear what they were given.
#[tokio::test]
async fn a_program_begins_with_no_signal_blocked() {
    let argv = ["grep", "SigBlk", "/proc/self/status"].map(str::to_owned).to_vec();
    let (finished, _) = start(Spec { argv, ..sh("") }).finish().await;
    assert_eq!(finished.stdout.trim_start_matches("SigBlk:").trim(), "0000000000000000");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    for (spec, part) in [
        (Spec { argv: vec!["/no/such/program".to_owned()], ..sh("") }, "/no/such/program"),
        (Spec { cwd: Some("/no/such/folder".into()), ..sh("true") }, "/no/such/folder"),
        (Spec { user: Some("nobody-of-that-name".to_owned()), ..sh("true") }, "no user"),
    ] {
        let (finished, _) = start(spec).finish().await;
        let Ending::NotStarted(why) = &finished.ending else { panic!("{finished:?}") };
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_the_grace() {
    let run = start(sh("trap '' TERM; echo ready $$; while :; do sleep 1; done"));
    let pid = run.until_written("ready").await.replace("ready ", "");
    run.end.cancel();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.ending, Ending::Signal(9)), "{finished:?}");
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_program_may_end_in_order_on_sigterm() {
    let run = start(Spec {
        grace_ms: 10_000,
        ..sh("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    });
    run.until_written("ready").await;
    run.end.cancel();
    let (finished, _) = run.finish().await;
    assert_eq!(finished.ending, Ending::Code(0));
    assert!(finished.stdout.ends_with("bye\n"));
}

#[tokio::test]
async fn what_escaped_by_setsid_is_ended_too() {
    let script = "setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & echo inner $! $$; exec sleep 1001' & \
                  (setsid env -i /bin/sleep 1002 & echo second $!); sleep 1003";
    let run = start(sh(script));
    run.until_written("inner").await;
    let text = run.until_written("second").await;
    let pids: Vec<&str> =
        text.split_whitespace().filter(|word| word.parse::<i32>().is_ok()).collect();
    assert_eq!(pids.len(), 3, "{text}");
    assert!(pids.iter().all(|pid| is_alive(pid)));
    run.end.cancel();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.ending, Ending::Signal(_)), "{finished:?}");
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_are_drained_within_bounds() {
    let (finished, seen) =
        run("head -c 104857600 /dev/zero | tr '\\0' x; echo; echo the end").await;
    assert_eq!(finished.ending, Ending::Code(0));
    assert!(finished.stdout.len() < 9_000 && finished.stdout.ends_with("the end\n"));
    assert!(finished.stdout.contains("bytes cut"));
    assert_eq!(seen.lock().unwrap().stdout.len(), OUTPUT_KEPT_MAX_BYTES);
}

#[tokio::test]
async fn invalid_utf8_becomes_text() {
    let (finished, seen) = run("printf 'a\\377b\\303'; sleep 0.3; printf '\\274c\\342\\202'").await;
    assert_eq!(finished.stdout, "a\u{fffd}büc\u{fffd}");
    assert_eq!(seen.lock().unwrap().stdout, finished.stdout);
}

#[tokio::test]
async fn children_that_hold_the_pipes_do_not_hold_up_the_command() {
    let run = start(sh("sleep 1000 & echo $!; exit 0"));
    let seen = Arc::clone(&run.seen);
    let (finished, _) = run.finish().await;
    assert_eq!(finished.ending, Ending::Code(0));
    let child = finished.stdout.trim().to_owned();
    // A daemon that a script has started is left alone.
    assert!(is_alive(&child));
    assert!(Command::new("kill").args(["-9", &child]).status().unwrap().success());
    drop(seen);
}

#[tokio::test]
async fn a_children_that_writes_for_ever_does_not_hold_up_the_command() {
    let (finished, _) = run("(while :; do echo x; sleep 0.01; done) & echo pid $!; exit 0").await;
    let pid = finished
        .stdout
        .split_whitespace()
        .skip_while(|word| *word != "pid")
        .nth(1)
        .unwrap()
        .to_owned();
    let _ = Command::new("kill").args(["-9", &pid]).status();
    assert_eq!(finished.ending, Ending::Code(0));
}

#[tokio::test]
async fn memory_is_limited() {
    let hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let spec = Spec { memory_max_bytes: Some(64 * 1024 * 1024), ..sh(hog) };
    let (finished, _) = start(spec).finish().await;
    assert_ne!(finished.ending, Ending::Code(0), "{}", finished.stdout.len());
    assert!(!finished.stdout.contains("200000000"));
}

#[tokio::test]
async fn a_program_and_all_that_it_starts_are_in_a_group_of_their_own_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let cgroups = Arc::new(Cgroups::of(folder.path()));
    let script = "(cat /proc/self/cgroup)";
    let (finished, _) = start_with(sh(script), Arc::clone(&cgroups)).finish().await;
    assert_eq!(finished.stdout.contains("/quarterdeck-"), cgroups.are_there(), "{finished:?}");
    if !cgroups.bounds_processes() {
        return;
    }
    // A fork bomb, which goes off as far as it can; ended, all of it is gone.
    let bomb = format!(
        "echo $$; (n=0; while [ $n -lt {} ]; do sleep 1000 & n=$((n+1)); done; echo not so); echo bounded; sleep 1000",
        2 * PROCESSES_MAX
    );
    let run = start_with(sh(&bomb), Arc::clone(&cgroups));
    let written = run.until_written("bounded").await;
    assert!(!written.contains("not so"), "{written}");
    let leader = written.lines().next().unwrap().to_owned();
    let group = std::fs::read_to_string(format!("/proc/{leader}/cgroup")).unwrap();
    let name = group.lines().find_map(|line| line.split("/quarterdeck-").nth(1)).unwrap();
    run.end.cancel();
    run.finish().await;
    let in_group = |pid: &procfs::Stat| {
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.pid));
        pid.is_alive() && group.is_ok_and(|group| group.contains(name))
    };
    assert!(!procfs::all().iter().any(in_group));
}

#[tokio::test]
async fn nothing_starts_when_the_agent_does_not_let_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let launcher = Launcher {
        program: PathBuf::from(env!("CARGO_BIN_EXE_quarterdeck-agent")),
        boot_id: BOOT.to_owned(),
        cgroups: Arc::default(),
    };
    let (to, mut from) = mpsc::channel(4);
    let reports = Reports { id: CommandId(uuid::Uuid::from_u128(7)), to };
    let spec = sh(&format!("touch {}", file.display()));
    let end = CancellationToken::new();
    let run = process::run(&launcher, &spec, &end, &reports);
    let refuse = async {
        let Some((_, Report::Ready { mark, go })) = from.recv().await else { panic!("no report") };
        drop(go);
        mark
    };
    let (ended, mark) = tokio::join!(run, refuse);
    assert!(matches!(ended, Err(ProcessError::NotSaved)));
    for _ in 0..500 {
        if !procfs::lives(mark.program) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!procfs::lives(mark.program) && !file.exists());
}

#[tokio::test]
async fn when_the_supervisor_is_killed_nothing_goes_on_running() {
    let id = CommandId(uuid::Uuid::from_u128(7));
    let mut spec = sh("setsid sleep 1000 & echo ready $!; sleep 1001");
    spec.env.insert(procfs::COMMAND_VARIABLE.to_owned(), id.to_string());
    let run = start(spec);
    let text = run.until_written("ready").await;
    let escapee = text.split_whitespace().nth(1).unwrap().to_owned();
    let mark = run.seen.lock().unwrap().marks[0].clone();
    assert!(procfs::lives(mark.program) && is_alive(&escapee));
    assert!(
        Command::new("kill")
            .args(["-9", &mark.supervisor.pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    let (finished, _) = run.finish().await;
    assert_eq!(finished.ending, Ending::Lost);
    assert!(!procfs::lives(mark.program) && !is_alive(&escapee));
}
