//! Who is connected, and what waits for whom. No IO.
//!
//! ```text
//!   admit --> SigningIn --> connected --> Connection --> ended
//!                 |                          |
//!                 +---- bar (retired) -------+--> closed
//! ```

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    topics::{Channel, DeviceTopic},
};
use rmqtt::types::{DashMap, Id, Tx};

use crate::mqtt::{
    acl::{Grant, carries_tunnels},
    limits::{DEVICE_QUEUE_MAX_BYTES, DEVICE_QUEUE_MAX_MESSAGES},
    link::{ConnectionId, PublishError, Qos},
};

type DeviceKey = (ProjectId, DeviceId);

/// What a connection subscribed to: per topic nothing (0) or the granted quality plus one.
#[derive(Debug, Default)]
pub(super) struct Heard([AtomicU8; DeviceTopic::ALL.len()]);

impl Heard {
    pub(super) fn set(&self, kind: DeviceTopic, qos: Option<Qos>) {
        let granted = match qos {
            None => 0,
            Some(Qos::AtMostOnce) => 1,
            Some(Qos::AtLeastOnce) => 2,
            Some(Qos::ExactlyOnce) => 3,
        };
        self.0[kind as usize].store(granted, Ordering::Release);
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

/// A connection whose secret is being checked.
#[derive(Debug)]
pub(super) struct SigningIn {
    grant: Grant,
    barred: AtomicBool,
}

/// One connection of a device.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) grant: Grant,
    pub(super) heard: Heard,
    keeps_session: AtomicBool,
    taken_over: AtomicBool,
    session: Id,
    tx: Sender,
    queued_messages: AtomicUsize,
    queued_bytes: AtomicUsize,
}

/// What the broker knows of a connection's session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionKind {
    /// The device returned to a kept session.
    pub(super) present: bool,
    /// The session stays when the connection ends.
    pub(super) kept: bool,
}

/// Gives rmqtt's sender the `Debug` that it lacks.
pub(super) struct Sender(pub(super) Tx);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("closed", &self.0.is_closed()).finish()
    }
}

impl Connection {
    pub(super) fn tx(&self) -> &Tx {
        &self.tx.0
    }

    pub(super) fn session(&self) -> &Id {
        &self.session
    }

    pub(super) fn keeps_session(&self) -> bool {
        self.keeps_session.load(Ordering::Acquire)
    }

    /// Whether the device speaks through a later connection by now.
    pub(super) fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Acquire)
    }

    /// Takes room for one message in the device's queue.
    pub(super) fn reserve(&self, size_bytes: usize) -> Result<(), PublishError> {
        let messages = self.queued_messages.fetch_add(1, Ordering::AcqRel);
        let bytes = self.queued_bytes.fetch_add(size_bytes, Ordering::AcqRel);
        if messages < DEVICE_QUEUE_MAX_MESSAGES && bytes + size_bytes <= DEVICE_QUEUE_MAX_BYTES {
            return Ok(());
        }
        self.release(size_bytes);
        Err(PublishError::QueueFull)
    }

    /// Gives room back.
    pub(super) fn release(&self, size_bytes: usize) {
        let less = |value: &AtomicUsize, by: usize| {
            let _ = value
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |v| Some(v.saturating_sub(by)));
        };
        less(&self.queued_messages, 1);
        less(&self.queued_bytes, size_bytes);
    }
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    /// What the kept session of an ended connection hears, when the device returns to it.
    kept: Option<(Id, Heard)>,
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

    fn is_empty(&self) -> bool {
        [&self.main, &self.tunnel]
            .iter()
            .all(|slot| slot.connection.is_none() && slot.kept.is_none())
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    last_id: AtomicU64,
    signing_in: DashMap<Id, Arc<SigningIn>>,
    connections: DashMap<Id, Arc<Connection>>,
    devices: DashMap<DeviceKey, Slots>,
    /// Sessions that end at once although their device asked to keep them.
    forgotten: DashMap<Id, ()>,
}

impl Registry {
    /// Notes that somebody claims to be a device, so that [`Self::bar`] reaches it.
    pub(super) fn admit(&self, session: Id, grant: Grant) {
        self.signing_in
            .insert(session, Arc::new(SigningIn { grant, barred: AtomicBool::new(false) }));
    }

    pub(super) fn refuse(&self, session: &Id) {
        self.signing_in.remove(session);
    }

    pub(super) fn signing_in_count(&self) -> usize {
        self.signing_in.len()
    }

    /// The addresses of all that signed in or are about to.
    pub(super) fn peers(&self) -> HashSet<SocketAddr> {
        let signing_in = self.signing_in.iter().filter_map(|entry| entry.key().remote_addr);
        let connected = self.connections.iter().filter_map(|entry| entry.key().remote_addr);
        signing_in.chain(connected).collect()
    }

    pub(super) fn connected_count(&self) -> usize {
        self.connections.len()
    }

    /// Turns a sign-in into a connection. `None`: it was barred meanwhile, or never admitted.
    pub(super) fn connected(
        &self,
        session: &Id,
        tx: Tx,
        kind: SessionKind,
    ) -> Option<Arc<Connection>> {
        let (_, signing_in) = self.signing_in.remove(session)?;
        let grant = signing_in.grant.clone();
        let mut slots =
            self.devices.entry((grant.project_id.clone(), grant.device_id.clone())).or_default();
        // Under the device's lock, as `bar` is: one of both sees the other.
        if signing_in.barred.load(Ordering::Acquire) {
            return None;
        }
        let slot = slots.of(grant.channel);
        let heard =
            slot.kept.take().map(|(_, heard)| heard).filter(|_| kind.present).unwrap_or_default();
        let connection = Arc::new(Connection {
            id: ConnectionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1),
            heard,
            keeps_session: AtomicBool::new(kind.kept),
            taken_over: AtomicBool::new(false),
            session: session.clone(),
            tx: Sender(tx),
            queued_messages: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            grant,
        });
        slot.connection = Some(connection.clone());
        self.connections.insert(session.clone(), connection.clone());
        Some(connection)
    }

    pub(super) fn connection(&self, session: &Id) -> Option<Arc<Connection>> {
        self.connections.get(session).map(|entry| entry.value().clone())
    }

    /// Finds the connection that a new one of the same device and channel takes over.
    pub(super) fn take_over(&self, grant: &Grant) -> Option<Arc<Connection>> {
        let mut slots =
            self.devices.get_mut(&(grant.project_id.clone(), grant.device_id.clone()))?;
        let former = slots.of(grant.channel).connection.clone()?;
        former.taken_over.store(true, Ordering::Release);
        Some(former)
    }

    /// Forgets a connection; `None` when that was done before.
    pub(super) fn ended(&self, session: &Id) -> Option<Arc<Connection>> {
        let (_, connection) = self.connections.remove(session)?;
        let grant = &connection.grant;
        let key = (grant.project_id.clone(), grant.device_id.clone());
        if let Some(mut slots) = self.devices.get_mut(&key) {
            let slot = slots.of(grant.channel);
            if slot.connection.as_ref().is_some_and(|current| current.id == connection.id) {
                slot.connection = None;
                slot.kept = connection
                    .keeps_session()
                    .then(|| (session.clone(), connection.heard.copied()));
            }
        }
        self.devices.remove_if(&key, |_, slots| slots.is_empty());
        Some(connection)
    }

    /// Says that a connection's session must not be kept when it ends.
    pub(super) fn forget_session(&self, session: &Id) {
        if let Some(connection) = self.connection(session) {
            connection.keeps_session.store(false, Ordering::Release);
            self.forgotten.insert(session.clone(), ());
        }
    }

    pub(super) fn is_forgotten(&self, session: &Id) -> bool {
        self.forgotten.contains_key(session)
    }

    /// Forgets the kept session of an ended connection.
    pub(super) fn expired(&self, session: &Id, grant: &Grant) {
        self.forgotten.remove(session);
        let key = (grant.project_id.clone(), grant.device_id.clone());
        if let Some(mut slots) = self.devices.get_mut(&key) {
            let slot = slots.of(grant.channel);
            slot.kept.take_if(|(kept, _)| kept == session);
        }
        self.devices.remove_if(&key, |_, slots| slots.is_empty());
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
        let slots = self
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
        let slots = self.devices.entry((project.clone(), device.clone())).or_default();
        for signing_in in &self.signing_in {
            if &signing_in.grant.project_id == project && &signing_in.grant.device_id == device {
                signing_in.barred.store(true, Ordering::Release);
            }
        }
        let connections = [&slots.main, &slots.tunnel]
            .into_iter()
            .filter_map(|slot| slot.connection.clone())
            .collect();
        let key = slots.key().clone();
        drop(slots);
        self.devices.remove_if(&key, |_, slots| slots.is_empty());
        connections
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.connections.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Connections whose task is gone without a word: the acknowledgement of
    /// their CONNECT could not be sent.
    pub(super) fn orphans(&self) -> Vec<Arc<Connection>> {
        self.connections
            .iter()
            .filter(|entry| entry.tx().is_closed())
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// Forgets sign-ins that began before `before_ms` and ended without a word.
    pub(super) fn forget_sign_ins(&self, before_ms: i64) {
        self.signing_in.retain(|session, _| session.create_time >= before_ms);
    }
}
