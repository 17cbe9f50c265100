//! The engine: everything that changes the state of devices and commands.
//!
//! ```text
//!  HTTP ── submit, cancel, retry, change_device … ──┐
//!  MQTT ── Inbound ──▶ ingest (kept, then decided) ─┤   load rows, domain::…::step,
//!  time ── sweep, each second, by due time ─────────┤   write, audit: one transaction
//!  link ── delivery (the outbox) ───────────────────┘             │
//!                                                               commit
//!                                                                 │
//!               acknowledgements to devices, changes() ◀──────────┴─▶ publish, cancel
//! ```
//!
//! Save, then act: an effect runs after the commit that asked for it, and may
//! run twice. The decisions themselves are in [`crate::domain`].
//!
//! Never here: SQL (in `store/`), MQTT packets (in `mqtt/`), rights (in `http/`).

pub mod changes;
pub mod refused;

pub mod alerts;

mod apply;
mod cancel;
mod delivery;
mod devices;
mod enroll;
pub(crate) mod ingest;
mod submit;
mod sweep;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use quarterdeck_protocol::{
    api::{
        Alert, CancelCommands, CancelledCommands, ChangeDevice, Command, CreateCommands,
        CreatedCommands, Device, EnrollRequest, EnrollResponse,
    },
    ids::{CommandId, DeviceId, ProjectId},
    live::Listing,
    time::Timestamp,
};
use tokio::sync::broadcast;

pub use self::{
    changes::{Change, Changes},
    enroll::token_hash,
    refused::Refused,
};
pub use crate::store::audit::{Actor, Auditor};
use crate::{
    clock::{Anchor, Clock},
    mqtt::link::{InboundReceiver, Link},
    store::{Store, StoreError, Tx, meta},
};

/// What the engine tells devices of their server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where devices connect: `mqtt://127.0.0.1:8471`.
    pub mqtt_url: String,
    /// The certificate authority that devices trust, where there is one.
    pub ca_pem: Option<String>,
}

/// The engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    auditor: Auditor,
    settings: Mutex<Settings>,
    announcer: changes::Announcer,
    delivery: delivery::Delivery,
    progress: ingest::Progress,
    last_event_seq: AtomicI64,
    /// Whether devices can be heard, so that their silence means something.
    hears: AtomicBool,
}

/// What is to be done once a transaction is committed; without the commit, drop it.
#[derive(Debug, Default)]
#[must_use = "hand it to Engine::after_commit, once the transaction is committed"]
pub struct After {
    changes: Vec<Change>,
    deliver: Vec<(ProjectId, DeviceId)>,
    send: Option<delivery::Outbound>,
    cancels: Vec<(ProjectId, DeviceId, CommandId)>,
    taken: Vec<((ProjectId, DeviceId), String)>,
    disconnect: Vec<(ProjectId, DeviceId)>,
}

impl After {
    /// The audit trail of a project has grown.
    pub fn audited(&mut self, project: &ProjectId) {
        self.changed(project, Listing::Audit, "");
    }

    /// A row is new, differs or is gone.
    pub fn changed(&mut self, project: &ProjectId, listing: Listing, key: impl Into<String>) {
        self.changes.push(Change { project: project.clone(), listing, key: key.into() });
    }
}

/// The tasks of a running engine.
#[derive(Debug)]
pub struct Running {
    stop: tokio_util::sync::CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Ends all tasks: what was received is committed and acknowledged first.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(%error, "a task of the engine panicked");
            }
        }
    }
}

impl Engine {
    /// Makes an engine that takes requests; devices are heard after [`Engine::run`].
    pub fn new(store: Store, clock: Clock, auditor: Auditor, settings: Settings) -> Self {
        Self(Arc::new(Shared {
            store,
            clock,
            auditor,
            settings: Mutex::new(settings),
            announcer: changes::Announcer::default(),
            delivery: delivery::Delivery::default(),
            progress: ingest::Progress::default(),
            last_event_seq: AtomicI64::new(0),
            hears: AtomicBool::new(false),
        }))
    }

    /// Continues the steady clock where the server before left it: the way to make the clock of a server.
    pub async fn restore_clock(store: &Store) -> Result<Clock, StoreError> {
        let kept = meta::get(&mut store.read().await?, sweep::ANCHOR).await?;
        let anchor: Option<Anchor> = kept.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Clock::system(anchor.as_ref()))
    }

    /// Says anew what devices are told: with port 0 the address is known only when the broker listens.
    pub fn set_settings(&self, settings: Settings) {
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> Settings {
        self.0.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number for an event of a device's timeline, above all before it.
    fn next_event_seq(&self, at: Timestamp) -> i64 {
        let least = at.as_millis() << 12;
        let next = |last: i64| Some((last + 1).max(least));
        let last = self
            .0
            .last_event_seq
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|last| last);
        (last + 1).max(least)
    }

    /// Takes nobody for heard who was so before this start: to be called before anybody can ask.
    pub async fn begin_unheard(&self) -> Result<(), StoreError> {
        ingest::deaf(self).await
    }

    /// Starts to hear and serve the devices, and to watch the time.
    pub fn run(&self, link: Arc<dyn Link>, inbound: InboundReceiver) -> Running {
        let stop = tokio_util::sync::CancellationToken::new();
        self.0.delivery.connect(link);
        // What a crash left is decided before anything else.
        self.0.progress.expect_one();
        let tasks = vec![
            tokio::spawn(ingest::run(self.clone(), inbound, stop.clone())),
            tokio::spawn(delivery::run(self.clone(), stop.clone())),
            tokio::spawn(sweep::run(self.clone(), stop.clone())),
        ];
        Running { stop, tasks }
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Hears what changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changes> {
        self.0.announcer.subscribe()
    }

    /// Announces a change that was made beside the engine (users, tokens, projects).
    pub fn announce(&self, change: Change) {
        self.0.announcer.announce(vec![change]);
    }

    // --- commands -------------------------------------------------------------

    /// Creates a batch of commands, one for each device (chapter 3).
    pub async fn submit(
        &self,
        actor: &Actor,
        project: &ProjectId,
        request: CreateCommands,
    ) -> Result<CreatedCommands, Refused> {
        let (engine, actor, project) = (self.clone(), actor.clone(), project.clone());
        self.write(move |tx| {
            Box::pin(async move { engine.submit_in(tx, &actor, &project, &request).await })
        })
        .await
    }

    /// [`Engine::submit`] inside of a transaction of the caller's.
    pub async fn submit_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        project: &ProjectId,
        request: &CreateCommands,
    ) -> Result<(CreatedCommands, After), Refused> {
        submit::submit(self, tx, actor, project, request).await
    }

    /// Creates the next attempt of a command that has ended.
    pub async fn retry(
        &self,
        actor: &Actor,
        project: &ProjectId,
        id: CommandId,
        confirm: bool,
    ) -> Result<Command, Refused> {
        let (engine, actor, project) = (self.clone(), actor.clone(), project.clone());
        self.write(move |tx| {
            Box::pin(async move { engine.retry_in(tx, &actor, &project, id, confirm).await })
        })
        .await
    }

    /// [`Engine::retry`] inside of a transaction of the caller's. A dangerous operation needs `confirm` again.
    pub async fn retry_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        project: &ProjectId,
        id: CommandId,
        confirm: bool,
    ) -> Result<(Command, After), Refused> {
        submit::retry(self, tx, actor, project, id, confirm).await
    }

    /// Cancels a command: at once when it is not with its device yet, else on the device's word.
    ///
    /// One that has ended is refused as a conflict `already_finished`.
    pub async fn cancel(
        &self,
        actor: &Actor,
        project: &ProjectId,
        id: CommandId,
    ) -> Result<Command, Refused> {
        let (engine, actor, project) = (self.clone(), actor.clone(), project.clone());
        self.write(move |tx| {
            Box::pin(async move { cancel::one(&engine, tx, &actor, &project, id).await })
        })
        .await
    }

    /// Cancels many, by id or by batch.
    pub async fn cancel_many(
        &self,
        actor: &Actor,
        project: &ProjectId,
        request: CancelCommands,
    ) -> Result<CancelledCommands, Refused> {
        let (engine, actor, project) = (self.clone(), actor.clone(), project.clone());
        self.write(move |tx| {
            Box::pin(async move { cancel::many(&engine, tx, &actor, &project, &request).await })
        })
        .await
    }

    // --- devices --------------------------------------------------------------

    /// Changes a device's tags or type.
    pub async fn change_device(
        &self,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
        change: ChangeDevice,
    ) -> Result<Device, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, device) = (project.clone(), device.clone());
        self.write(move |tx| {
            Box::pin(async move {
                devices::change(&engine, tx, &actor, &project, &device, &change).await
            })
        })
        .await
    }

    /// Takes a device out of service: its open commands are cancelled, and it cannot sign in
    /// until an admin allows it to enrol again. It stays connected until [`Engine::disconnect`].
    pub async fn retire(
        &self,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
    ) -> Result<Device, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, device) = (project.clone(), device.clone());
        self.write(move |tx| {
            Box::pin(async move { devices::retire(&engine, tx, &actor, &project, &device).await })
        })
        .await
    }

    /// Ends the connections of a device.
    pub fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        self.0.delivery.disconnect(project, device);
    }

    /// Lets a device that exists, or is retired, enrol once more.
    pub async fn allow_enroll_again(
        &self,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
    ) -> Result<Device, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, device) = (project.clone(), device.clone());
        self.write(move |tx| {
            Box::pin(async move {
                devices::allow_enroll_again(&engine, tx, &actor, &project, &device).await
            })
        })
        .await
    }

    /// Takes note that somebody has seen to a failed service (chapter 6).
    pub async fn clear_service_failed(
        &self,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
    ) -> Result<Device, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, device) = (project.clone(), device.clone());
        self.write(move |tx| {
            Box::pin(async move {
                devices::clear_service_failed(&engine, tx, &actor, &project, &device).await
            })
        })
        .await
    }

    /// Makes a device one of the project that its token is of, and gives it its secret.
    ///
    /// `from` is the address that asks. A wrong, used up, expired or revoked token is
    /// [`Refused::Unauthorized`] `invalid_token`; a device that exists is a conflict
    /// `device_exists`, unless an admin allowed it anew or it repeats its own request.
    pub async fn enroll(
        &self,
        from: &str,
        request: EnrollRequest,
    ) -> Result<EnrollResponse, Refused> {
        let (engine, from) = (self.clone(), from.to_owned());
        self.write(move |tx| Box::pin(async move { engine.enroll_in(tx, &from, &request).await }))
            .await
    }

    /// [`Engine::enroll`] inside of a transaction of the caller's.
    pub async fn enroll_in(
        &self,
        tx: &mut Tx,
        from: &str,
        request: &EnrollRequest,
    ) -> Result<(EnrollResponse, After), Refused> {
        enroll::enroll(self, tx, from, request).await
    }

    /// Makes or renews a secret for a device that cannot run the agent; the device is made when it is unknown.
    pub async fn issue_credentials(
        &self,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
    ) -> Result<EnrollResponse, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, device) = (project.clone(), device.clone());
        self.write(move |tx| {
            Box::pin(
                async move { engine.issue_credentials_in(tx, &actor, &project, &device).await },
            )
        })
        .await
    }

    /// [`Engine::issue_credentials`] inside of a transaction of the caller's.
    pub async fn issue_credentials_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        project: &ProjectId,
        device: &DeviceId,
    ) -> Result<(EnrollResponse, After), Refused> {
        enroll::issue(self, tx, actor, project, device).await
    }

    /// Checks `{project}/{device}` and its secret, over MQTT as over HTTP's Basic authentication.
    pub async fn authenticate_device(
        &self,
        user: &str,
        secret: &[u8],
    ) -> Result<crate::mqtt::link::DeviceIdentity, crate::mqtt::link::Denied> {
        enroll::authenticate(self, user, secret).await
    }

    // --- alerts ---------------------------------------------------------------

    /// Takes note that somebody looks after an alert.
    pub async fn acknowledge_alert(
        &self,
        actor: &Actor,
        project: &ProjectId,
        id: &str,
    ) -> Result<Alert, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, id) = (project.clone(), id.to_owned());
        self.write(move |tx| {
            Box::pin(async move { alerts::acknowledge(&engine, tx, &actor, &project, &id).await })
        })
        .await
    }

    /// Keeps an alert quiet for a while, at most [`alerts::SILENCE_MAX_S`].
    pub async fn silence_alert(
        &self,
        actor: &Actor,
        project: &ProjectId,
        id: &str,
        duration_s: u64,
    ) -> Result<Alert, Refused> {
        let (engine, actor) = (self.clone(), actor.clone());
        let (project, id) = (project.clone(), id.to_owned());
        self.write(move |tx| {
            Box::pin(async move {
                alerts::silence(&engine, tx, &actor, &project, &id, duration_s).await
            })
        })
        .await
    }

    // --- the shape of all of them -----------------------------------------------

    /// Does what a committed transaction asked for: announces, publishes, disconnects.
    pub fn after_commit(&self, after: After) {
        let After { changes, deliver, send, cancels, taken, disconnect } = after;
        self.0.announcer.announce(changes);
        self.0.delivery.taken(taken);
        for (project, device) in &disconnect {
            self.0.delivery.disconnect(project, device);
        }
        if let Some(outbound) = send {
            self.0.delivery.send_at_once(&outbound, self.clock().wall());
        }
        self.0.delivery.cancel(cancels);
        self.0.delivery.wake(deliver);
    }

    async fn write<T, F>(&self, job: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(
                &'t mut Tx,
            ) -> std::pin::Pin<
                Box<dyn Future<Output = Result<(T, After), Refused>> + Send + 't>,
            > + Send
            + 'static,
    {
        let (value, after) = self.0.store.write(job).await??;
        self.after_commit(after);
        Ok(value)
    }
}

#[async_trait::async_trait]
impl crate::mqtt::link::Authenticator for Engine {
    async fn authenticate(
        &self,
        user: &str,
        secret: &[u8],
        _client_id: &str,
    ) -> Result<crate::mqtt::link::DeviceIdentity, crate::mqtt::link::Denied> {
        self.authenticate_device(user, secret).await
    }
}
