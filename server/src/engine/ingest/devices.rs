//! What devices say of themselves: presence, facts, health, failed services, their clocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::digest;
use quarterdeck_protocol::{
    api::Severity,
    device::DeviceStatus,
    ids::{DeviceId, ProjectId},
    live::Listing,
    time::Timestamp,
};

use super::{
    DeviceKey, Heard, What,
    decide::Moved,
    message::{Failed, Health, Status},
};
use crate::{
    clock::Now,
    domain::{
        presence::{self, Event, Presence},
        skew,
    },
    engine::{After, Change, Engine, alerts::Alerts},
    hex,
    store::{
        StoreError, Tx,
        commands::live::Loaded,
        device_events::{self, NewEvent},
        devices::{
            live as store,
            operations::{self, Announcement},
        },
    },
};

/// The devices that a batch speaks of.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: HashMap<DeviceKey, Working>,
    events: Vec<NewEvent>,
}

#[derive(Debug)]
struct Working {
    row: store::Known,
    presence: Presence,
    heard: store::Heard,
    announced: Option<Announcement>,
    is_changed: bool,
}

impl Devices {
    /// Loads whoever speaks of itself, and whoever speaks of going down.
    pub(super) async fn load(
        tx: &mut Tx,
        heard: impl Iterator<Item = &Heard>,
        commands: &[Loaded],
    ) -> Result<Self, StoreError> {
        let mut wanted: BTreeSet<DeviceKey> = heard
            .filter(|one| !matches!(one.what, What::Response(_)))
            .map(|one| one.device.clone())
            .collect();
        for row in commands.iter().filter(|row| row.takes_host_down()) {
            if let (Ok(project), Ok(device)) =
                (ProjectId::new(&row.project_id), DeviceId::new(&row.device_id))
            {
                wanted.insert((project, device));
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut known = HashMap::with_capacity(wanted.len());
        for row in store::known(tx, &wanted).await? {
            let (Ok(project), Ok(device)) =
                (ProjectId::new(&row.project_id), DeviceId::new(&row.id))
            else {
                continue;
            };
            let presence = row.presence()?;
            let heard = store::Heard {
                project_id: row.project_id.clone(),
                id: row.id.clone(),
                ..store::Heard::default()
            };
            known.insert(
                (project, device),
                Working { row, presence, heard, announced: None, is_changed: false },
            );
        }
        Ok(Self { known, events: Vec::new() })
    }

    /// The devices that come or go in a batch: what they reboot may be decided by it.
    pub(super) fn that_moved<'a>(&self, heard: impl Iterator<Item = &'a Heard>) -> Vec<DeviceKey> {
        let moved: BTreeSet<_> = heard
            .filter(|one| matches!(one.what, What::Gone | What::Status { .. }))
            .map(|one| one.device.clone())
            .collect();
        moved.into_iter().filter(|device| self.known.contains_key(device)).collect()
    }

    /// The boot id that a device told last.
    pub(super) fn boot_id(&self, device: &DeviceKey) -> Option<&str> {
        self.known.get(device)?.row.boot_id.as_deref()
    }

    /// Lets a device's word of itself happen.
    pub(super) fn take_in(
        &mut self,
        engine: &Engine,
        device: &DeviceKey,
        what: What,
        now: Now,
        after: &mut After,
        alerts: &mut Alerts,
    ) -> Option<Moved> {
        let Some(work) = self.known.get_mut(device) else {
            tracing::debug!(project = %device.0, device = %device.1, "word of an unknown device");
            return None;
        };
        let seq = || engine.next_event_seq(now.wall);
        let mut record = |event, detail: String| {
            self.events.push(NewEvent {
                project_id: device.0.to_string(),
                device_id: device.1.to_string(),
                seq: seq(),
                at: now.wall.as_millis(),
                event,
                by: "device".to_owned(),
                detail,
            });
        };
        work.is_changed = true;
        work.heard.last_seen_at = Some(now.wall.as_millis());
        let mut moved = None;
        let before = work.presence.status();
        match what {
            What::Connected => work.step(Event::Connected, now),
            What::Gone => {
                work.step(Event::Gone, now);
                moved = Some(Moved::Gone);
            }
            What::Status { status, is_fresh } => {
                work.step(if status.online { Event::Connected } else { Event::Gone }, now);
                if is_fresh && status.online {
                    work.clock(device, status.at, now, alerts);
                }
                if status.online
                    && let (Some(boot_id), Some(known)) = (&status.boot_id, &work.row.boot_id)
                    && boot_id != known
                {
                    record("rebooted", serde_json::json!({ "boot_id": boot_id }).to_string());
                }
                moved = Some(if status.online {
                    Moved::Back { boot_id: status.boot_id.clone() }
                } else {
                    Moved::Gone
                });
                work.status(status);
            }
            What::Health(health) => {
                work.step(Event::Heard, now);
                work.clock(device, health.at, now, alerts);
                if health.process_status.as_deref() == Some("crashed")
                    && work.row.process_status.as_deref() != Some("crashed")
                {
                    record("crashed", String::new());
                }
                work.health(health, now.wall);
            }
            What::ServiceFailed(failed) => {
                if failed.0.as_ref().map(|(unit, _)| unit) != work.row.service_failed_unit.as_ref()
                {
                    let event =
                        if failed.0.is_some() { "service_failed" } else { "service_recovered" };
                    record(
                        event,
                        failed.0.as_ref().map_or_else(String::new, |(unit, reason)| {
                            serde_json::json!({ "unit": unit, "reason": reason }).to_string()
                        }),
                    );
                }
                work.service_failed(device, failed, now.wall, alerts);
            }
            What::Response(_) => {}
        }
        let status = work.presence.status();
        if status != before && status != DeviceStatus::Retired {
            record(status.as_str(), String::new());
            presence_alerts(device, before, status, alerts);
        }
        for listing in [Listing::Devices, Listing::Timeline, Listing::Overview] {
            if listing == Listing::Devices || status != before {
                after.changes.push(Change {
                    project: device.0.clone(),
                    listing,
                    key: if listing == Listing::Overview {
                        "overview".to_owned()
                    } else {
                        device.1.to_string()
                    },
                });
            }
        }
        moved
    }

    /// Writes what changed, and the devices' timelines.
    pub(super) async fn write(self, tx: &mut Tx, _now: Now) -> Result<(), StoreError> {
        let mut heard = Vec::with_capacity(self.known.len());
        let mut announced = Vec::new();
        for ((project, device), mut work) in self.known {
            if !work.is_changed {
                continue;
            }
            work.heard.status = work.presence.status().as_str();
            work.heard.connected = work.presence.is_connected();
            work.heard.stale_due = work.presence.due();
            work.heard.unheard_since =
                work.row.unheard_since.filter(|_| work.presence.is_unheard());
            heard.push(work.heard);
            if let Some(announcement) = work.announced {
                announced.push((project, device, announcement));
            }
        }
        store::update(tx, &heard).await?;
        for (project, device, announcement) in announced {
            operations::replace(tx, &project, &device, &announcement).await?;
        }
        device_events::insert(tx, &self.events).await
    }
}

impl Working {
    fn step(&mut self, event: Event, now: Now) {
        self.presence = presence::step(self.presence, event, now.steady_ms);
    }

    fn status(&mut self, status: Status) {
        if let Some(boot_id) = status.boot_id {
            self.row.boot_id = Some(boot_id.clone());
            self.heard.boot_id = Some(boot_id);
        }
        self.heard.agent_version = status.agent_version.or_else(|| self.heard.agent_version.take());
        self.heard.facts = status.facts.or_else(|| self.heard.facts.take());
        if let Some(announcement) = status.announced {
            let names = serde_json::to_string(&announcement.names).expect("plain data");
            let cards = serde_json::to_vec(&announcement.cards).expect("plain data");
            let text = [names.as_bytes(), &cards].concat();
            let hash = hex::encode(digest::digest(&digest::SHA256, &text).as_ref());
            if self.row.announcement_hash.as_ref() != Some(&hash) {
                self.row.announcement_hash = Some(hash.clone());
                self.heard.capabilities = Some((names, hash));
                self.announced = Some(announcement);
            }
        }
    }

    fn health(&mut self, health: Health, wall: Timestamp) {
        self.row.process_status.clone_from(&health.process_status);
        self.heard.health = Some(store::Health {
            report: health.report,
            at: wall.as_millis(),
            reconnect_count: health.reconnect_count,
            last_disconnect_at: health.last_disconnect_at.map(Timestamp::as_millis),
            process_status: health.process_status,
        });
    }

    fn service_failed(
        &mut self,
        device: &DeviceKey,
        failed: Failed,
        wall: Timestamp,
        alerts: &mut Alerts,
    ) {
        match &failed.0 {
            Some((unit, reason)) => {
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                let cause = format!("{unit} on {} gave up restarting{reason}", device.1);
                alerts.raise(device, "service_failed", Severity::Critical, cause, None);
            }
            None => alerts.resolve(device, "service_failed"),
        }
        self.row.service_failed_unit = failed.0.as_ref().map(|(unit, _)| unit.clone());
        self.heard.service_failed =
            Some(failed.0.map(|(unit, reason)| (unit, reason, wall.as_millis())));
    }

    fn clock(&mut self, device: &DeviceKey, at: Option<Timestamp>, now: Now, alerts: &mut Alerts) {
        let Some(at) = at else { return };
        let offset_ms = skew::offset_ms(at, now.wall);
        let was_off = self.row.clock_offset_ms.is_some_and(skew::is_off);
        if skew::is_off(offset_ms) && !was_off {
            let direction = if offset_ms > 0 { "ahead" } else { "behind" };
            let cause =
                format!("the clock of {} is {} s {direction}", device.1, (offset_ms / 1_000).abs());
            alerts.raise(device, "clock_skew", Severity::Warning, cause, None);
        } else if was_off && !skew::is_off(offset_ms) {
            alerts.resolve(device, "clock_skew");
        }
        self.row.clock_offset_ms = Some(offset_ms);
        self.heard.clock_offset_ms = Some(offset_ms);
    }
}

/// Raises and resolves what a change of presence means.
pub(in crate::engine) fn presence_alerts(
    device: &DeviceKey,
    before: DeviceStatus,
    now: DeviceStatus,
    alerts: &mut Alerts,
) {
    let kind_of = |status| match status {
        DeviceStatus::Offline => Some("device_offline"),
        DeviceStatus::Stale => Some("device_stale"),
        DeviceStatus::Online | DeviceStatus::Retired => None,
    };
    if let Some(kind) = kind_of(before) {
        alerts.resolve(device, kind);
    }
    if let Some(kind) = kind_of(now) {
        let cause = match now {
            DeviceStatus::Stale => format!("{} has missed three heartbeats", device.1),
            _ => format!("{} is offline", device.1),
        };
        alerts.raise(device, kind, Severity::Warning, cause, None);
    }
}

/// What the sweep found silent, decided like anything else.
pub(in crate::engine) async fn fall_silent(
    engine: &Engine,
    tx: &mut Tx,
    rows: Vec<store::Known>,
    now: Now,
    after: &mut After,
) -> Result<(), StoreError> {
    let mut alerts = Alerts::default();
    let (mut heard, mut events) = (Vec::new(), Vec::new());
    let mut by_project: BTreeMap<ProjectId, usize> = BTreeMap::new();
    for row in rows {
        let (Ok(project), Ok(device)) = (ProjectId::new(&row.project_id), DeviceId::new(&row.id))
        else {
            continue;
        };
        let before = row.presence()?;
        let next = presence::step(before, Event::Due, now.steady_ms);
        if next == before {
            continue;
        }
        let key = (project, device);
        presence_alerts(&key, before.status(), next.status(), &mut alerts);
        heard.push(store::Heard {
            project_id: row.project_id.clone(),
            id: row.id.clone(),
            status: next.status().as_str(),
            connected: next.is_connected(),
            stale_due: next.due(),
            ..store::Heard::default()
        });
        events.push(NewEvent {
            project_id: row.project_id,
            device_id: row.id,
            seq: engine.next_event_seq(now.wall),
            at: now.wall.as_millis(),
            event: next.status().as_str(),
            by: "server".to_owned(),
            detail: String::new(),
        });
        *by_project.entry(key.0.clone()).or_default() += 1;
        for listing in [Listing::Devices, Listing::Timeline] {
            let (project, key) = (key.0.clone(), key.1.to_string());
            after.changes.push(Change { project, listing, key });
        }
    }
    for project in by_project.into_keys() {
        after.changes.push(Change {
            project,
            listing: Listing::Overview,
            key: "overview".to_owned(),
        });
    }
    store::update(tx, &heard).await?;
    device_events::insert(tx, &events).await?;
    alerts.write(engine, tx, now, after).await
}
