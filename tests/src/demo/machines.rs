//! What happens to a machine that reboots or is switched off.
//!
//! ```text
//!  running ── [exec] reboot or shutdown leaves a file ──▶ down ── due ──▶ running, new boot id
//! ```
//!
//! The agent is ended as a power cut would, with all that it runs.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::roster::AWAY;
use crate::{agent::Device, clock};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a boot takes.
const BOOT: Duration = Duration::from_secs(6);
/// How long until somebody finds a machine off and switches it on.
const SWITCHED_ON_AFTER: Duration = Duration::from_secs(45);

/// The task that watches them.
#[derive(Debug)]
pub struct Machines {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Machine {
    device: Device,
    boots: u32,
    /// When it is up again; `None` while it runs.
    up_due: Option<Instant>,
}

impl Machines {
    pub fn watch(devices: Vec<Device>) -> Self {
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut machines: Vec<Machine> = devices
                .into_iter()
                .filter(|device| device.id() != AWAY)
                .map(|device| Machine { device, boots: 1, up_due: None })
                .collect();
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    _ = &mut ended => return,
                    _ = ticks.tick() => {}
                }
                for machine in &mut machines {
                    machine.step(clock::now());
                }
            }
        });
        Self { task, end }
    }

    /// Ends all agents.
    pub async fn end(self) {
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

impl Machine {
    fn step(&mut self, now: Instant) {
        match self.up_due {
            None => {
                for (file, down) in [("reboot", BOOT), ("shutdown", SWITCHED_ON_AFTER)] {
                    if fs::remove_file(self.device.folder().join(file)).is_ok() {
                        self.device.power_cut();
                        self.up_due = Some(now + down);
                    }
                }
            }
            Some(due) if now >= due => {
                self.boots += 1;
                self.up_due = None;
                let boot_id = format!("boot-{}", self.boots);
                let up = self.device.set_boot_id(&boot_id).and_then(|()| self.device.start_again());
                if let Err(error) = up {
                    // The console owns the terminal now; the device simply stays away.
                    tracing::warn!(device = self.device.id(), %error, "it does not boot");
                }
            }
            Some(_) => {}
        }
    }
}
