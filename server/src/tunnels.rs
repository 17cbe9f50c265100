//! Tunnels: the server's part of sessions with devices (chapter 7).
//!
//! ```text
//!  console ⇄ console ⇄ relay ⇄────────────────────┐
//!                 ⇅                               way ⇄ broker ⇄ device
//!            terminal ⇄ log (disk)  ◀── pump ─────┘
//!                 ⇅
//!            session: its life ⇄ store
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | `session` | the task that owns one tunnel's life |
//! | `hearing` | what comes from the devices and the broker |
//! | `way` | frames to and from one device |
//! | `terminal`, `recent`, `modes` | a terminal's output, which ends here |
//! | `relay` | all other streams, which are passed on |
//! | `log` | the session's log, which is the recording too |
//! | `console` | one WebSocket |
//! | `cast` | what a recording is exported as |
//! | [`limits`] | the bounds |
//!
//! Never here: who may do what (`http/tunnels.rs`), the rules of a tunnel's life
//! (`domain/tunnel.rs`).

pub(crate) mod cast;
pub(crate) mod console;
mod hearing;
pub mod limits;
pub(crate) mod log;
mod modes;
mod recent;
mod relay;
pub(crate) mod session;
mod terminal;
mod way;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use quarterdeck_protocol::{
    api::{AuditOutcome, TunnelKind},
    ids::{DeviceId, ProjectId, TunnelId},
    live::Listing,
    topics::Channel,
    tunnel::{close::CloseCode, control::Control},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    log::{Cap, Header, Log, LogError, Place},
    session::Session,
    terminal::{Past, Terminal},
    way::Way,
};
use crate::{
    clock::Clock,
    domain::tunnel::Limits as LifeLimits,
    engine::{Change, Engine},
    mqtt::link::{ConnectionId, Link, PublishError, TunnelsReceiver},
    store::{
        Store, StoreError,
        audit::{Actor, Auditor, NewEntry},
        doubt::Looks,
        recordings,
        tunnels::{self as stored, Served},
    },
};

/// Ends of tunnels that are said again when an external broker can be reached again.
const TOLD_MAX: usize = 256;
/// Recordings that one sweep deletes at most.
const SWEEP_MAX_RECORDINGS: u32 = 100;

/// What is configured of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Open at once: of a user, and to a device.
    pub per_user: u64,
    pub per_device: u64,
    pub life: LifeLimits,
    /// Kept of a terminal's output that is not recorded, in bytes; the oldest goes first.
    pub log_max_bytes: u64,
    /// The longest recording, in bytes; over it the tunnel is closed.
    pub recording_max_bytes: u64,
}

impl Settings {
    pub const DEFAULT: Self = Self {
        per_user: 3,
        per_device: 10,
        life: LifeLimits {
            open_ms: 20_000,
            idle_ms: 10 * 60_000,
            duration_ms: 2 * 3_600_000,
            away_ms: 15 * 60_000,
            alone_ms: 60_000,
        },
        log_max_bytes: 64 * 1024 * 1024,
        recording_max_bytes: 2 * 1024 * 1024 * 1024,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// All tunnels of this server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tunnels(Arc<Shared>);

/// What the sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Store,
    engine: Engine,
    clock: Clock,
    auditor: Auditor,
    settings: Settings,
    /// The folder of the logs, and what opens them.
    folder: PathBuf,
    key: [u8; 32],
    link: Arc<dyn Link>,
    state: Mutex<State>,
    /// A tunnel is stored that could not be read to be served.
    missed: Notify,
    /// One that was not yet among the sessions is, or will not be.
    started: Notify,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

type DeviceKey = (ProjectId, DeviceId);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<TunnelId, Arc<Session>>,
    /// Not yet among the sessions.
    starting: HashSet<TunnelId>,
    ways: HashMap<DeviceKey, Weak<Way>>,
    /// On which connections the devices hear frames; with an external broker nobody tells.
    hearing: HashMap<DeviceKey, HashMap<Channel, ConnectionId>>,
    /// The connection to an external broker, when there is one.
    is_broker_up: Option<bool>,
    /// With one: which tunnels' ends were said last.
    told: VecDeque<(ProjectId, DeviceId, Control)>,
}

/// What came of beginning to serve a tunnel.
enum Start {
    /// It is served, or there is nothing to serve.
    Done,
    /// Somebody else serves it or is beginning to.
    Others,
}

/// One that is being taken up; however that ends, who waits for it is told.
struct Starting<'a> {
    shared: &'a Shared,
    id: TunnelId,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.shared.lock().starting.remove(&self.id);
        self.shared.started.notify_waiters();
    }
}

/// What [`Tunnels`] are made of.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub engine: Engine,
    pub clock: Clock,
    pub auditor: Auditor,
    pub settings: Settings,
    pub folder: PathBuf,
    pub key: [u8; 32],
    pub link: Arc<dyn Link>,
    /// Of an external broker: whether its connection stands.
    pub is_broker_up: Option<bool>,
}

impl Tunnels {
    /// Makes them; none is served before [`Tunnels::run`].
    pub fn new(parts: Parts) -> Self {
        let Parts { store, engine, clock, auditor, settings, folder, key, link, is_broker_up } =
            parts;
        Self(Arc::new(Shared {
            store,
            engine,
            clock,
            auditor,
            settings,
            folder,
            key,
            link,
            state: Mutex::new(State { is_broker_up, ..State::default() }),
            missed: Notify::new(),
            started: Notify::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Takes up what was open before a restart, and hears the devices from now on.
    pub async fn run(&self, inbound: TunnelsReceiver) -> Result<(), StoreError> {
        let open = self
            .0
            .store
            .write(|tx| Box::pin(async move { stored::begin_life(tx).await }))
            .await??;
        self.sweep_folders().await?;
        for about in open {
            self.serve(about).await;
        }
        inbound.pass_frames_to(hearing::Hearing(Arc::downgrade(&self.0)));
        self.0.tasks.spawn(hearing::hear(self.clone(), inbound));
        self.0.tasks.spawn(self.clone().look_again());
        Ok(())
    }

    /// Deletes logs to which nothing leads: a crash came between a session's end and their own.
    async fn sweep_folders(&self) -> Result<(), StoreError> {
        let folder = self.0.folder.clone();
        let listed = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<TunnelId>> {
            std::fs::create_dir_all(&folder)?;
            let mut ids = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let name = entry?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse::<TunnelId>().ok()));
            }
            Ok(ids)
        });
        let ids = match listed.await {
            Ok(Ok(ids)) => ids,
            Ok(Err(error)) => {
                tracing::error!(%error, "the folder of sessions' logs cannot be read");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let mut tx = self.0.store.read().await?;
        let mut lost = Vec::new();
        for id in ids {
            let is_needed = stored::served(&mut tx, id).await?.is_some()
                || recordings::is_of_tunnel(&mut tx, id).await?;
            if !is_needed {
                lost.push(self.place(id));
            }
        }
        drop(tx);
        delete_all(lost).await;
        Ok(())
    }

    /// Deletes the recordings that were kept for as long as they are to be.
    pub async fn sweep_recordings(&self) -> Result<(), StoreError> {
        let now = self.0.clock.wall();
        let expired =
            recordings::expired(&mut self.0.store.read().await?, now, SWEEP_MAX_RECORDINGS).await?;
        for (project, id) in expired {
            let (Ok(project), Ok(tunnel)) = (ProjectId::new(&project), id.parse::<TunnelId>())
            else {
                continue;
            };
            let (auditor, chain) = (self.0.auditor.clone(), project.clone());
            let deleted = self.0.store.write(move |tx| {
                Box::pin(async move {
                    if recordings::delete(tx, &id).await? {
                        let entry = NewEntry {
                            project: &chain,
                            at: now,
                            actor: &Actor::server(),
                            action: "recording.delete",
                            object: format!("recording:{id}"),
                            outcome: AuditOutcome::Ok,
                            detail: serde_json::json!({ "reason": "expired" }),
                        };
                        auditor.append(tx, entry).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            });
            deleted.await??;
            delete_all(vec![self.place(tunnel)]).await;
            self.0.changed(&project, Listing::Recordings, "");
            self.0.changed(&project, Listing::Audit, "");
        }
        Ok(())
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How many are served.
    pub fn count(&self) -> usize {
        self.0.lock().sessions.len()
    }

    /// Serves a tunnel that was just stored; one that is served already, or over, is left alone.
    /// One that cannot be read now is served later.
    pub(crate) async fn start(&self, id: TunnelId) {
        if let Err(error) = self.try_start(id).await {
            self.missed(id, &error);
        }
    }

    async fn try_start(&self, id: TunnelId) -> Result<Start, StoreError> {
        // Read after it is known that nobody serves it: what was over by then is seen to be.
        if !self.0.lock().begin(id) {
            return Ok(Start::Others);
        }
        let _starting = Starting { shared: &self.0, id };
        // No reader is held while it is begun: that waits for disks.
        let about = stored::served(&mut self.0.store.read().await?, id).await?;
        if let Some(about) = about {
            self.serve(about).await;
        }
        Ok(Start::Done)
    }

    fn missed(&self, id: TunnelId, error: &StoreError) {
        tracing::warn!(tunnel_id = %id, %error, "a tunnel that is stored could not be read; it is tried again");
        self.0.missed.notify_one();
    }

    /// Serves what is stored and that nobody was told of: its commit was not confirmed, or the
    /// store could not be read then.
    async fn look_again(self) {
        let mut doubts = self.0.store.doubts();
        let stopping = self.0.stopping.clone();
        let clock = &self.0.clock;
        let looking = async {
            let mut looks = Looks::default();
            loop {
                let now_ms = clock.steady();
                let due_ms = looks.due_ms().map(|due_ms| (due_ms - now_ms).max(0) as u64);
                tokio::select! {
                    Ok(()) = doubts.changed() => looks.doubt(clock.steady()),
                    () = self.0.missed.notified() => looks.doubt(clock.steady()),
                    () = clock.sleep_ms(due_ms.unwrap_or(0)), if due_ms.is_some() => {
                        looks.taken(clock.steady());
                        if let Err(error) = self.start_missed().await {
                            tracing::warn!(%error, "stored tunnels cannot be looked at");
                            looks.doubt(clock.steady());
                        }
                    }
                }
            }
        };
        stopping.run_until_cancelled(looking).await;
    }

    async fn start_missed(&self) -> Result<(), StoreError> {
        let open = stored::open_ids(&mut self.0.store.read().await?).await?;
        for id in open {
            self.try_start(id).await?;
        }
        Ok(())
    }

    /// The session of a tunnel that is not over.
    pub(crate) fn session(&self, id: TunnelId) -> Option<Arc<Session>> {
        self.0.lock().sessions.get(&id).cloned()
    }

    /// The same, and of one that is stored and was not served yet, whoever begins to.
    pub(crate) async fn session_or_start(
        &self,
        id: TunnelId,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        loop {
            let mut started = pin!(self.0.started.notified());
            started.as_mut().enable();
            if let Some(session) = self.session(id) {
                return Ok(Some(session));
            }
            match self.try_start(id).await {
                Ok(Start::Done) => return Ok(self.session(id)),
                Ok(Start::Others) => started.await,
                Err(error) => {
                    self.missed(id, &error);
                    return Err(error);
                }
            }
        }
    }

    /// The sessions that somebody asks for.
    pub(crate) fn sessions_where(&self, is_wanted: impl Fn(&Served) -> bool) -> Vec<Arc<Session>> {
        let state = self.0.lock();
        state.sessions.values().filter(|session| is_wanted(&session.about)).cloned().collect()
    }

    /// Ends all tunnels to a device that is retired.
    pub(crate) async fn close_all(&self, project: &ProjectId, device: &DeviceId) {
        let is_of = |about: &Served| about.project == *project && about.device == *device;
        for session in self.sessions_where(is_of) {
            session.close(CloseCode::Killed, "the device was retired".to_owned(), None).await;
        }
    }

    /// Where the recording of a tunnel lies.
    pub(crate) fn place(&self, id: TunnelId) -> Place {
        Place::new(&self.0.folder, &self.0.key, id)
    }

    /// Stops serving; what is open goes on when the server is back.
    pub async fn stop(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    async fn serve(&self, about: Served) {
        let way = self.0.way(&about.project, &about.device);
        let id = about.id;
        let output = if about.kind == TunnelKind::Terminal {
            match self.open_log(&about, &way).await {
                Ok(output) => Some(output),
                Err(error) => {
                    tracing::error!(tunnel_id = %id, %error, "a session's log cannot be opened");
                    return self.give_up(about, way, &error).await;
                }
            }
        } else {
            None
        };
        let session = Session::start(&self.0, about, way, output);
        self.0.lock().sessions.insert(id, session);
    }

    async fn open_log(
        &self,
        about: &Served,
        way: &Arc<Way>,
    ) -> Result<(Arc<Terminal>, Log), LogError> {
        let (place, clock) = (self.place(about.id), self.0.clock.clone());
        let settings = self.0.settings;
        let cap = match about.recording_id {
            Some(_) => Cap::All { bytes: settings.recording_max_bytes },
            None => Cap::Newest { bytes: settings.log_max_bytes },
        };
        let header = Header {
            started_at: about.created_at.as_millis(),
            started_ms: clock.steady(),
            size: session::size(about),
            term: session::term(about),
            argv: about.request.argv.clone(),
        };
        // A tunnel that was asked for just before a crash has no log yet.
        let is_new = about.life == 1 || !about.was_open;
        let found = place.clone();
        let opened = tokio::task::spawn_blocking(move || {
            if is_new {
                found.delete()?;
                return Ok((Log::create(found, clock, cap, header)?, Past::default()));
            }
            let log = Log::open(found.clone(), clock, cap)?;
            let past = Past::read(&found)?;
            Ok::<_, LogError>((log, past))
        });
        let (log, past) =
            opened.await.unwrap_or_else(|error| Err(LogError::Io(std::io::Error::other(error))))?;
        let records_typed = about.recording_id.is_some() && about.request.record_input;
        let terminal =
            Terminal::new(about.handle, Arc::clone(way), place, &log, past, records_typed);
        Ok((Arc::new(terminal), log))
    }

    /// Ends a tunnel whose log cannot be had.
    async fn give_up(&self, about: Served, way: Arc<Way>, error: &LogError) {
        let reason = match (&about.recording_id, error.is_disk_full()) {
            (Some(_), _) => CloseCode::RecordingFailed,
            (None, true) => CloseCode::DiskFull,
            (None, false) => CloseCode::Internal,
        };
        let message = format!("the session's log cannot be opened: {error}");
        let session = Session::start(&self.0, about, way, None);
        session.close(reason, message, None).await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to a device, which all its sessions share.
    fn way(&self, project: &ProjectId, device: &DeviceId) -> Arc<Way> {
        let key = (project.clone(), device.clone());
        let mut state = self.lock();
        if let Some(way) = state.ways.get(&key).and_then(Weak::upgrade) {
            return way;
        }
        let is_up = state.is_up(&key);
        let way = Way::new(project.clone(), device.clone(), Arc::clone(&self.link), is_up);
        state.ways.retain(|_, way| way.strong_count() > 0);
        state.ways.insert(key, Arc::downgrade(&way));
        way
    }

    /// Whether the device hears, as far as is known.
    fn is_up(&self, project: &ProjectId, device: &DeviceId) -> bool {
        self.lock().is_up(&(project.clone(), device.clone()))
    }

    /// Tells a device that a tunnel is over, if it is there; else it hears that when it is back. Not
    /// lost behind what else it is sent: a program that says nothing would run on.
    fn tell(&self, way: &Arc<Way>, close: Control) {
        self.lock().remember_told(way, &close);
        // At once if it can be: a device that is retired is disconnected in the next moment.
        if way.say(&close) == Err(PublishError::QueueFull) {
            self.say_over(Arc::clone(way), close);
        }
    }

    /// With an external broker nobody says whether a device has heard it, or that the device is
    /// back: what was said last is said again when the broker can be reached again.
    fn tell_again(&self) {
        let told: Vec<_> = self.lock().told.iter().cloned().collect();
        for (project, device, close) in told {
            self.say_over(self.way(&project, &device), close);
        }
    }

    fn say_over(&self, way: Arc<Way>, close: Control) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = way.say_when_possible(&close) => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    fn changed(&self, project: &ProjectId, listing: Listing, key: &str) {
        self.engine.announce(Change { project: project.clone(), listing, key: key.to_owned() });
    }

    /// Forgets a session that is over; what is not recorded of it is deleted.
    fn forget(&self, session: &Arc<Session>) {
        let about = &session.about;
        session.way.remove(about.handle);
        self.lock().sessions.remove(&about.id);
        if session.is_terminal() && about.recording_id.is_none() {
            tokio::spawn(delete_all(vec![Place::new(&self.folder, &self.key, about.id)]));
        }
    }
}

impl State {
    /// Whether a tunnel is to be served, which nobody does.
    fn begin(&mut self, id: TunnelId) -> bool {
        !self.sessions.contains_key(&id) && self.starting.insert(id)
    }

    fn remember_told(&mut self, way: &Way, close: &Control) {
        if self.is_broker_up.is_none() {
            return;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        let (project, device) = way.device();
        self.told.push_back((project.clone(), device.clone(), close.clone()));
    }

    fn is_up(&self, key: &DeviceKey) -> bool {
        self.is_broker_up
            .unwrap_or_else(|| self.hearing.get(key).is_some_and(|channels| !channels.is_empty()))
    }

    fn sessions_of(&self, key: &DeviceKey) -> Vec<Arc<Session>> {
        let is_of = |session: &&Arc<Session>| {
            session.about.project == key.0 && session.about.device == key.1
        };
        self.sessions.values().filter(is_of).cloned().collect()
    }
}

/// Deletes logs; one that cannot be is found again at the next start.
async fn delete_all(places: Vec<Place>) {
    let deleting = tokio::task::spawn_blocking(move || {
        for place in places {
            if let Err(error) = place.delete() {
                tracing::warn!(%error, "a session's log could not be deleted");
            }
        }
    });
    // Deleting does not panic; nothing hangs on it.
    let _ = deleting.await;
}
