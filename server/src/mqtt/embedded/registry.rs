//! Who is connected, and what waits for whom. No IO.
//!
//! ```text
//!   admit --> SigningIn --> connected --> Connection --> ended --> kept session --> expired
//!                 |                          |                         |
//!                 +---- bar (retired) -------+--> closed               +--> resumed
//! ```

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    topics::{Channel, DeviceTopic},
};
use tokio::time::Instant;

use super::{
    mailbox::Mailbox,
    wire::{self, LastWill},
};
use crate::mqtt::{
    acl::{Grant, carries_tunnels},
    limits::SESSIONS_MAX,
    link::{ConnectionId, PublishError, Qos},
};

type DeviceKey = (ProjectId, DeviceId);

/// What a connection subscribed to: per topic nothing (0) or the granted quality plus one.
#[derive(Debug, Default)]
pub(super) struct Heard([AtomicU8; DeviceTopic::ALL.len()]);

impl Heard {
    /// Notes what is heard from now on; whether it was heard before.
    pub(super) fn set(&self, kind: DeviceTopic, qos: Option<Qos>) -> bool {
        let granted = match qos {
            None => 0,
            Some(Qos::AtMostOnce) => 1,
            Some(Qos::AtLeastOnce) => 2,
            Some(Qos::ExactlyOnce) => 3,
        };
        self.0[kind as usize].swap(granted, Ordering::AcqRel) != 0
    }

    pub(super) fn get(&self, kind: DeviceTopic) -> Option<Qos> {
        match self.0[kind as usize].load(Ordering::Acquire) {
            0 => None,
            1 => Some(Qos::AtMostOnce),
            2 => Some(Qos::AtLeastOnce),
            _ => Some(Qos::ExactlyOnce),
        }
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = DeviceTopic> + '_ {
        DeviceTopic::ALL.into_iter().filter(|kind| self.get(*kind).is_some())
    }

    fn copied(&self) -> Self {
        let copy = Self::default();
        for kind in DeviceTopic::ALL {
            copy.set(kind, self.get(kind));
        }
        copy
    }
}

/// One connection of a device.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) grant: Grant,
    packet_max_bytes: usize,
    pub(super) heard: Heard,
    pub(super) mailbox: Mailbox,
    taken_over: AtomicBool,
}

impl Connection {
    /// Whether the device speaks through a later connection by now.
    pub(super) fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Acquire)
    }

    /// How long a message on `kind` may be for the device, in bytes.
    pub(super) fn payload_max_bytes(&self, kind: DeviceTopic) -> usize {
        self.packet_max_bytes.saturating_sub(wire::overhead_bytes(&self.grant.topic(kind)))
    }

    fn key(&self) -> DeviceKey {
        (self.grant.project_id.clone(), self.grant.device_id.clone())
    }
}

/// What is left of a session whose device is away.
#[derive(Debug)]
struct Kept {
    heard: Heard,
    until: Instant,
    last_will: Option<LateWill>,
}

/// A last will that is said unless the device comes back before.
#[derive(Debug)]
pub(super) struct LateWill {
    pub(super) connection: Arc<Connection>,
    pub(super) last_will: Box<LastWill>,
    due: Instant,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    kept: Option<Kept>,
}

#[derive(Debug, Default)]
struct Slots {
    main: Slot,
    tunnel: Slot,
}

impl Slots {
    fn of(&mut self, channel: Channel) -> &mut Slot {
        match channel {
            Channel::Main => &mut self.main,
            Channel::Tunnel => &mut self.tunnel,
        }
    }

    fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        [&self.main, &self.tunnel].into_iter().filter_map(|slot| slot.connection.as_ref())
    }

    fn is_empty(&self) -> bool {
        [&self.main, &self.tunnel]
            .iter()
            .all(|slot| slot.connection.is_none() && slot.kept.is_none())
    }
}

/// A connection whose secret is being checked.
#[derive(Debug)]
struct SigningIn {
    grant: Grant,
    barred: bool,
}

#[derive(Debug, Default)]
struct Known {
    signing_in: HashMap<u64, SigningIn>,
    devices: HashMap<DeviceKey, Slots>,
}

impl Known {
    fn change(&mut self, key: DeviceKey, change: impl FnOnce(&mut Slots)) {
        if let std::collections::hash_map::Entry::Occupied(mut entry) = self.devices.entry(key) {
            change(entry.get_mut());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}

/// Stands for a sign-in under way; dropped, it is over.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    registry: &'a Registry,
    number: u64,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.registry.write().signing_in.remove(&self.number);
    }
}

/// What became of a sign-in whose secret is right.
#[derive(Debug)]
pub(super) enum Begun {
    Connected {
        connection: Arc<Connection>,
        /// The device returned to a kept session.
        session_present: bool,
    },
    /// The device was retired meanwhile.
    Barred,
    /// It has a connection still, which is to end first.
    Occupied,
}

/// What a sign-in asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) clean_start: bool,
    /// The longest packet that the device takes.
    pub(super) packet_max_bytes: u32,
    /// A former connection does not end in time and is not waited for.
    pub(super) is_overdue: bool,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    last: AtomicU64,
    connected: AtomicUsize,
    known: RwLock<Known>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that somebody claims to be a device, so that [`Self::bar`] reaches it.
    pub(super) fn admit(&self, grant: Grant) -> Admission<'_> {
        let number = self.next();
        self.write().signing_in.insert(number, SigningIn { grant, barred: false });
        Admission { registry: self, number }
    }

    pub(super) fn signing_in_count(&self) -> usize {
        self.read().signing_in.len()
    }

    pub(super) fn connected_count(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// Turns a sign-in into a connection.
    pub(super) fn connected(&self, admission: &Admission<'_>, terms: Terms, now: Instant) -> Begun {
        let mut guard = self.write();
        let Known { signing_in, devices } = &mut *guard;
        // Under one lock with `bar`: one of both sees the other.
        let Some(SigningIn { grant, barred: false }) = signing_in.get(&admission.number) else {
            return Begun::Barred;
        };
        let key = (grant.project_id.clone(), grant.device_id.clone());
        let slot = devices.entry(key).or_default().of(grant.channel);
        if slot.connection.is_some() && !terms.is_overdue {
            return Begun::Occupied;
        }
        let kept = slot.kept.take().filter(|kept| !terms.clean_start && now < kept.until);
        let session_present = kept.is_some();
        let connection = Arc::new(Connection {
            id: ConnectionId(self.next()),
            grant: grant.clone(),
            packet_max_bytes: terms.packet_max_bytes as usize,
            heard: kept.map(|kept| kept.heard).unwrap_or_default(),
            mailbox: Mailbox::default(),
            taken_over: AtomicBool::new(false),
        });
        slot.connection = Some(connection.clone());
        signing_in.remove(&admission.number);
        self.connected.fetch_add(1, Ordering::AcqRel);
        Begun::Connected { connection, session_present }
    }

    /// Finds the connection that a new one of the same device and channel takes over.
    pub(super) fn take_over(&self, grant: &Grant) -> Option<Arc<Connection>> {
        let mut known = self.write();
        let key = (grant.project_id.clone(), grant.device_id.clone());
        let former = known.devices.get_mut(&key)?.of(grant.channel).connection.clone()?;
        former.taken_over.store(true, Ordering::Release);
        Some(former)
    }

    /// Forgets a connection, and keeps its session for as long as `kept`.
    ///
    /// A late last will goes with it, and comes back when there is no session to wait with.
    pub(super) fn ended(
        &self,
        connection: &Arc<Connection>,
        kept: Duration,
        late: Option<(Duration, Box<LastWill>)>,
        now: Instant,
    ) -> Option<Box<LastWill>> {
        let mut late = late;
        self.connected.fetch_sub(1, Ordering::AcqRel);
        let mut known = self.write();
        let has_room = known.devices.len() <= SESSIONS_MAX;
        known.change(connection.key(), |slots| {
            let slot = slots.of(connection.grant.channel);
            if slot.connection.as_ref().is_some_and(|current| current.id == connection.id) {
                slot.connection = None;
                slot.kept = (has_room && !kept.is_zero()).then(|| Kept {
                    heard: connection.heard.copied(),
                    until: now + kept,
                    last_will: late.take().map(|(delay, last_will)| LateWill {
                        connection: connection.clone(),
                        last_will,
                        due: now + delay,
                    }),
                });
            }
        });
        late.map(|(_, last_will)| last_will)
    }

    /// Forgets the kept sessions whose time is over; gives the last wills that are due.
    pub(super) fn expire(&self, now: Instant) -> Vec<LateWill> {
        let mut due = Vec::new();
        self.write().devices.retain(|_, slots| {
            for slot in [&mut slots.main, &mut slots.tunnel] {
                if let Some(kept) = &mut slot.kept {
                    due.extend(kept.last_will.take_if(|will| will.due <= now));
                }
                slot.kept.take_if(|kept| kept.until <= now);
            }
            !slots.is_empty()
        });
        due
    }

    /// Finds the connection on which a device hears `kind`.
    ///
    /// Tunnels prefer the connection that carries them alone.
    pub(super) fn hearing(
        &self,
        project: &ProjectId,
        device: &DeviceId,
        kind: DeviceTopic,
    ) -> Result<(Arc<Connection>, Qos), PublishError> {
        let known = self.read();
        let slots = known
            .devices
            .get(&(project.clone(), device.clone()))
            .ok_or(PublishError::NotConnected)?;
        let (first, second) = if carries_tunnels(kind) {
            (&slots.tunnel, &slots.main)
        } else {
            (&slots.main, &slots.tunnel)
        };
        let mut answer = PublishError::NotConnected;
        for connection in [first, second].into_iter().filter_map(|slot| slot.connection.as_ref()) {
            match connection.heard.get(kind) {
                Some(qos) => return Ok((connection.clone(), qos)),
                None => answer = PublishError::NotSubscribed { kind },
            }
        }
        Err(answer)
    }

    /// Takes a device's right to the connections it has and to those it is making.
    pub(super) fn bar(&self, project: &ProjectId, device: &DeviceId) -> Vec<Arc<Connection>> {
        let mut known = self.write();
        for signing_in in known.signing_in.values_mut() {
            let grant = &signing_in.grant;
            if &grant.project_id == project && &grant.device_id == device {
                signing_in.barred = true;
            }
        }
        let slots = known.devices.get(&(project.clone(), device.clone()));
        slots.map(|slots| slots.connections().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.read().devices.values().flat_map(Slots::connections).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_mins(1);

    fn grant() -> Grant {
        Grant::claimed(Some("p/d"), "p:d").expect("a device")
    }

    fn terms(clean_start: bool) -> Terms {
        Terms { clean_start, packet_max_bytes: u32::MAX, is_overdue: false }
    }

    fn begin(registry: &Registry, clean_start: bool, now: Instant) -> (Arc<Connection>, bool) {
        match registry.connected(&registry.admit(grant()), terms(clean_start), now) {
            Begun::Connected { connection, session_present } => (connection, session_present),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_kept_session_is_resumed_once_in_time_and_not_by_a_clean_start() {
        let registry = Registry::default();
        let now = Instant::now();
        for (clean_start, after, expected) in
            [(false, KEPT / 2, true), (false, KEPT, false), (true, KEPT / 2, false)]
        {
            let (first, _) = begin(&registry, true, now);
            first.heard.set(DeviceTopic::Commands, Some(Qos::ExactlyOnce));
            registry.ended(&first, KEPT, None, now);
            let (second, session_present) = begin(&registry, clean_start, now + after);
            assert_eq!(session_present, expected);
            assert_eq!(second.heard.get(DeviceTopic::Commands).is_some(), expected);
            registry.ended(&second, Duration::ZERO, None, now);
            let (third, session_present) = begin(&registry, false, now);
            assert!(!session_present, "resumed once");
            registry.ended(&third, Duration::ZERO, None, now);
        }
        assert_eq!(registry.connected_count(), 0);
        assert!(registry.read().devices.is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_goes_with_its_time() {
        let registry = Registry::default();
        let now = Instant::now();
        let (connection, _) = begin(&registry, false, now);
        registry.ended(&connection, KEPT, None, now);
        registry.expire(now + KEPT / 2);
        assert_eq!(registry.read().devices.len(), 1);
        registry.expire(now + KEPT);
        assert!(registry.read().devices.is_empty());
    }

    #[tokio::test]
    async fn a_device_has_one_connection_unless_the_former_is_overdue() {
        let registry = Registry::default();
        let now = Instant::now();
        let (first, _) = begin(&registry, false, now);
        let admission = registry.admit(grant());
        let begun = registry.connected(&admission, terms(false), now);
        assert!(matches!(begun, Begun::Occupied), "{begun:?}");
        let overdue = Terms { is_overdue: true, ..terms(false) };
        let Begun::Connected { connection: second, .. } =
            registry.connected(&admission, overdue, now)
        else {
            panic!("overdue");
        };
        // What ends late takes nothing from the later one.
        registry.ended(&first, KEPT, None, now);
        assert_eq!(registry.all().iter().map(|c| c.id).collect::<Vec<_>>(), [second.id]);
        registry.ended(&second, Duration::ZERO, None, now);
        assert!(registry.read().devices.is_empty());
    }

    #[tokio::test]
    async fn a_late_last_will_is_said_once_when_it_is_due_and_not_after_a_return() {
        let registry = Registry::default();
        let now = Instant::now();
        let late = || {
            let (topic, payload) = ("roboticks/p/devices/d/status".into(), "off".into());
            let will = LastWill { topic, payload, retained: true, delay_s: 30 };
            Some((KEPT / 2, Box::new(will)))
        };
        let (first, _) = begin(&registry, false, now);
        assert!(registry.ended(&first, KEPT, late(), now).is_none());
        assert!(registry.expire(now + KEPT / 4).is_empty());
        assert_eq!(registry.expire(now + KEPT / 2).len(), 1);
        assert!(registry.expire(now + KEPT).is_empty());

        let (second, _) = begin(&registry, false, now);
        registry.ended(&second, KEPT, late(), now);
        let (third, _) = begin(&registry, false, now);
        // It came back, and left in peace.
        registry.ended(&third, Duration::ZERO, None, now);
        assert!(registry.expire(now + KEPT).is_empty());
        // Nothing to wait with: at once.
        let (fourth, _) = begin(&registry, false, now);
        assert!(registry.ended(&fourth, Duration::ZERO, late(), now).is_some());
    }

    #[tokio::test]
    async fn a_barred_sign_in_does_not_become_a_connection() {
        let registry = Registry::default();
        let admission = registry.admit(grant());
        assert_eq!(registry.signing_in_count(), 1);
        assert!(registry.bar(&grant().project_id, &grant().device_id).is_empty());
        let begun = registry.connected(&admission, terms(true), Instant::now());
        assert!(matches!(begun, Begun::Barred), "{begun:?}");
        drop(admission);
        assert_eq!((registry.signing_in_count(), registry.connected_count()), (0, 0));
    }
}
