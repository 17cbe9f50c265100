//! Random lives of commands: words of devices in any order, said twice, lost acknowledgements,
//! crashes of the server, time. Whatever happens:
//!
//! - a command that ended stays as it ended;
//! - what was acknowledged is there after a crash;
//! - time ends every command, once;
//! - totals agree with the rows, and the audit chain holds.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use proptest::prelude::*;
use quarterdeck_protocol::{api::Command, ids::CommandId};
use quarterdeck_server::{
    clock::Clock,
    store::commands::{self, listing},
};
use serde_json::{Value, json};
use support::Harness;
use tokio::runtime::Runtime;

const DEVICES: [&str; 3] = ["pi-1", "pi-2", "pi-3"];

#[derive(Debug, Clone)]
enum Act {
    Submit {
        device: usize,
        is_reboot: bool,
    },
    Say {
        command: usize,
        status: &'static str,
        code: Option<&'static str>,
    },
    /// Says it and does not wait for the acknowledgement; then the server dies.
    SayAndCrash {
        command: usize,
        status: &'static str,
    },
    Cancel {
        command: usize,
    },
    Connect {
        device: usize,
        boot: u8,
    },
    Pass {
        duration_ms: i64,
    },
    StepWall {
        by_ms: i64,
    },
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let status = || {
        prop::sample::select(vec![
            "accepted",
            "execution_started",
            "progress",
            "completed",
            "failed",
        ])
    };
    let code =
        prop::sample::select(vec![None, Some("cancelled"), Some("expired"), Some("timeout")]);
    prop_oneof![
        4 => (0..3_usize, prop::bool::weighted(0.2)).prop_map(|(device, is_reboot)| Act::Submit { device, is_reboot }),
        12 => (0..40_usize, status(), code).prop_map(|(command, status, code)| Act::Say { command, status, code }),
        1 => (0..40_usize, status()).prop_map(|(command, status)| Act::SayAndCrash { command, status }),
        2 => (0..40_usize).prop_map(|command| Act::Cancel { command }),
        3 => (0..3_usize, 0..3_u8).prop_map(|(device, boot)| Act::Connect { device, boot }),
        3 => (0..200_000_i64).prop_map(|duration_ms| Act::Pass { duration_ms }),
        1 => (-7_200_000..7_200_000_i64).prop_map(|by_ms| Act::StepWall { by_ms }),
        1 => Just(Act::Crash),
    ]
}

/// One server after another on the same file.
struct Life {
    runtime: Runtime,
    h: Harness,
}

impl Life {
    fn begin(folder: &Path, clock: Clock) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut h = runtime.block_on(Harness::start_with(&support::sqlite(folder), clock));
        // It crashes between what is acknowledged and what is decided, too.
        h.settles = false;
        Self { runtime, h }
    }

    /// Everything stops where it is.
    fn crash(self) {
        let Self { runtime, h } = self;
        runtime.shutdown_timeout(Duration::ZERO);
        drop(h);
    }

    fn all(&self, ids: &[(CommandId, usize)]) -> BTreeMap<CommandId, Command> {
        self.runtime.block_on(async {
            let mut tx = self.h.store.read().await.expect("a reader");
            let mut all = BTreeMap::new();
            for (id, _) in ids {
                let command = commands::get(&mut tx, &self.h.project, *id).await.expect("a read");
                // Its device comes and goes also when the command has ended.
                let command = Command { device_status: None, ..command.expect("stored") };
                all.insert(*id, command);
            }
            all
        })
    }
}

fn check_unchanged(
    before: &BTreeMap<CommandId, Command>,
    now: &BTreeMap<CommandId, Command>,
) -> Result<(), TestCaseError> {
    for (id, command) in before.iter().filter(|(_, command)| command.status.is_terminal()) {
        prop_assert_eq!(&now[id], command, "it had ended");
    }
    Ok(())
}

fn live_through(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = support::manual_clock();
    let mut life = Life::begin(folder.path(), clock.clone());
    life.runtime.block_on(life.h.add_devices(&DEVICES));
    // The audit chain begins with the first action.
    let first = life.runtime.block_on(life.h.submit(&[DEVICES[0]], "ping", Value::Null))[0].id;
    let mut ids: Vec<(CommandId, usize)> = vec![(first, 0)];
    let mut known = BTreeMap::new();
    // Commands whose devices were acknowledged that they ended.
    let mut told = BTreeSet::new();
    for act in acts {
        let pick = |command: usize| ids[command % ids.len()];
        match act {
            Act::Submit { device, is_reboot } => {
                let kind = if is_reboot { "reboot_host" } else { "ping" };
                let made =
                    life.runtime.block_on(life.h.submit(&[DEVICES[device]], kind, Value::Null));
                ids.push((made[0].id, device));
            }
            Act::Say { command, status, code } => {
                let (id, device) = pick(command);
                let more = json!({ "error_code": code });
                let saying = life.h.respond(DEVICES[device], id, status, more);
                prop_assert!(life.runtime.block_on(saying));
                if matches!(status, "completed" | "failed") {
                    told.insert(id);
                }
            }
            Act::SayAndCrash { command, status } => {
                let (id, device) = pick(command);
                life.runtime.block_on(async {
                    let saying = life.h.respond(DEVICES[device], id, status, json!({}));
                    let _ = tokio::time::timeout(Duration::from_micros(300), saying).await;
                });
                // What was not acknowledged may have been stored or not: both are right.
                life.crash();
                life = Life::begin(folder.path(), clock.clone());
            }
            Act::Cancel { command } => {
                let (id, _) = pick(command);
                // Of one that has ended it is refused.
                let h = &life.h;
                let _ = life.runtime.block_on(h.engine.cancel(&h.actor, &h.project, id));
            }
            Act::Connect { device, boot } => {
                life.runtime.block_on(life.h.connect(DEVICES[device], &format!("b{boot}")));
            }
            Act::Pass { duration_ms } => life.runtime.block_on(life.h.pass(duration_ms)),
            Act::StepWall { by_ms } => clock.step_wall(by_ms),
            Act::Crash => {
                let before = life.all(&ids);
                life.crash();
                life = Life::begin(folder.path(), clock.clone());
                prop_assert!(life.runtime.block_on(life.h.engine.settled(10_000)));
                let after = life.all(&ids);
                check_unchanged(&before, &after)?;
                for (id, command) in &before {
                    let is_kept = command
                        .published_at
                        .is_none_or(|at| after[id].published_at == Some(at))
                        && command.accepted_at.is_none_or(|at| after[id].accepted_at == Some(at))
                        && command.started_at.is_none_or(|at| after[id].started_at == Some(at));
                    prop_assert!(is_kept, "nothing is lost: {command:?}");
                }
                for id in &told {
                    let status = after[id].status;
                    // A reboot ends when its device is back.
                    let is_over = status.is_terminal() || after[id].kind == "reboot_host";
                    prop_assert!(is_over, "its end was acknowledged, but it is {status:?}");
                }
            }
        }
        let now = life.all(&ids);
        check_unchanged(&known, &now)?;
        known = now;
    }
    // Time alone ends them all.
    for _ in 0..4 {
        life.runtime.block_on(life.h.pass(3_700_000));
    }
    let ended = life.all(&ids);
    check_unchanged(&known, &ended)?;
    for (id, command) in &ended {
        prop_assert!(command.status.is_terminal(), "{command:?}");
        prop_assert!(command.finished_at.is_some());
        let events = life.runtime.block_on(life.h.events(*id));
        let ends = events
            .iter()
            .filter(|event| {
                event
                    .parse::<quarterdeck_protocol::command::CommandStatus>()
                    .is_ok_and(quarterdeck_protocol::command::CommandStatus::is_terminal)
            })
            .count();
        prop_assert_eq!(ends, 1, "one end: {:?}", events);
    }
    life.runtime.block_on(async {
        let mut tx = life.h.store.read().await.expect("a reader");
        let counts = listing::counts(&mut tx, &life.h.project).await.expect("counts");
        let mut expected = BTreeMap::new();
        for command in ended.values() {
            *expected.entry(command.status).or_insert(0_u64) += 1;
        }
        let counts: BTreeMap<_, _> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        prop_assert_eq!(counts, expected);
        life.h.auditor.verify(&mut tx, life.h.project.as_str()).await.expect("the chain holds");
        Ok(())
    })?;
    life.crash();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acknowledged_is_lost_and_each_command_ends_once(acts in prop::collection::vec(act(), 1..60)) {
        live_through(acts)?;
    }
}
