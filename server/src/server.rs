//! A server from its start to its end.
//!
//! ```text
//!  start: data folder, ports, store, first start, broker, engine, routes ──▶ Running
//!  stop:  no new connections ─▶ sockets told, requests end ─▶ devices disconnected
//!         ─▶ what they said is committed ─▶ store closed; each step within a bound
//! ```

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{
        limiter::Limiter,
        password::{PasswordError, Passwords},
        tickets::Tickets,
    },
    clock::Clock,
    config::{Broker, Config},
    data_dir::{DataDir, DataDirError},
    engine::{self, Engine},
    first_start::{self, FirstStartError},
    hex,
    http::{self, App, BrokerReady, Metrics, uploads::Files},
    live::Hub,
    mqtt::{
        embedded,
        external::{self, BrokerUrl},
        link::{InboundReceiver, Link, Qos, TunnelsReceiver},
    },
    store::{Store, StoreError, audit::Auditor, idempotency, meta, sessions},
    tunnels::{self, Tunnels},
};

/// How long open requests and sockets may take to end, in milliseconds.
pub const DRAIN_TIMEOUT_MS: u64 = 5_000;
/// How long each of the other steps of stopping may take, in milliseconds.
pub const STOP_STEP_TIMEOUT_MS: u64 = 5_000;
/// How often what is too old is forgotten, in milliseconds.
const HOUSEKEEPING_PERIOD_MS: u64 = 60_000;
/// How often measures are tidied up, in milliseconds.
const METRICS_UPKEEP_MS: u64 = 5_000;
/// How long a session is remembered after its end, in seconds.
const SESSIONS_KEPT_S: i64 = 30 * 24 * 3600;

/// Says why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("cannot listen for HTTP on {address}, as --http says")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot use the folder of uploaded files: {0}")]
    Files(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    FirstStart(#[from] FirstStartError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Broker(#[from] embedded::StartError),
    #[error(transparent)]
    External(#[from] external::ConfigError),
}

/// Starts servers.
#[derive(Debug, Clone, Copy)]
pub struct Server;

/// A server at work.
#[derive(Debug)]
pub struct Running {
    /// `http://127.0.0.1:8470`
    pub http: String,
    /// Where devices connect: `mqtt://127.0.0.1:8471`, or the external broker without its password.
    pub mqtt: String,
    pub http_address: SocketAddr,
    app: Arc<App>,
    link: Arc<dyn Link>,
    engine: engine::Running,
    stop: CancellationToken,
    requests: TaskTracker,
    tasks: Vec<JoinHandle<()>>,
    _data_dir: DataDir,
}

impl Server {
    /// Starts a server; without a clock, on the machine's own, continued from the last run.
    pub async fn start(config: Config, clock: Option<Clock>) -> Result<Running, StartError> {
        let metrics = Metrics::install();
        let data_dir = DataDir::open(&config.data_dir)?;
        let listen = |source| StartError::Listen { address: config.http, source };
        let listener = TcpListener::bind(config.http).await.map_err(listen)?;
        let http_address = listener.local_addr().map_err(listen)?;
        // What can be refused is, before anything is made that only a first start makes.
        let broker = BrokerAt::take(config.broker)?;
        let store = Store::open(&config.database).await?;
        let clock = match clock {
            Some(clock) => clock,
            None => Engine::restore_clock(&store).await?,
        };
        let keys =
            first_start::keys(&store, &clock, config.admin_password, first_start::print_password)
                .await?;
        let auditor = Auditor::new(Arc::clone(&keys.audit));
        let passwords = {
            let clock = clock.clone();
            let made = tokio::task::spawn_blocking(move || Passwords::new(&clock)).await;
            made.map_err(|_| PasswordError::Hash)??
        };
        let files = Files::open(data_dir.uploads()).map_err(StartError::Files)?;

        let settings =
            |mqtt_url: &str| engine::Settings { mqtt_url: mqtt_url.to_owned(), ca_pem: None };
        // The broker asks the engine who may connect; the engine tells devices the broker's address.
        let engine = Engine::new(store.clone(), clock.clone(), auditor.clone(), settings(""));
        let Way { link, inbound, tunnels: of_tunnels, is_broker_up, url, is_ready } =
            open_way(broker, &store, &clock, &engine).await?;
        engine.set_settings(settings(config.mqtt_url.as_ref().unwrap_or(&url)));
        engine.begin_unheard().await?;
        let engine_running = engine.run(Arc::clone(&link), inbound);

        let tunnels = Tunnels::new(tunnels::Parts {
            store: store.clone(),
            engine: engine.clone(),
            clock: clock.clone(),
            auditor: auditor.clone(),
            settings: config.tunnels,
            folder: data_dir.tunnels(),
            key: recordings_key(&store, &clock).await?,
            link: Arc::clone(&link),
            is_broker_up,
        });
        if let Some(inbound) = of_tunnels {
            tunnels.run(inbound).await?;
        }

        let stop = CancellationToken::new();
        let app = Arc::new(App {
            store,
            engine,
            clock,
            auditor,
            keys,
            passwords,
            limiter: Limiter::default(),
            tickets: Tickets::default(),
            token_uses: http::TokenUses::default(),
            files,
            views: http::Views::default(),
            live: Hub::default(),
            tunnels,
            metrics,
            broker_ready: is_ready,
            readiness: http::Readiness::default(),
            stopping: stop.clone(),
        });
        let requests = TaskTracker::new();
        let router = http::router(Arc::clone(&app));
        let tasks = vec![
            tokio::spawn(http::server::serve(listener, router, stop.clone(), requests.clone())),
            tokio::spawn(housekeeping(Arc::clone(&app))),
            tokio::spawn(upkeep(Arc::clone(&app))),
        ];
        tracing::info!(http = %http_address, mqtt = url, "serving");
        Ok(Running {
            http: format!("http://{http_address}"),
            mqtt: url,
            http_address,
            app,
            link,
            engine: engine_running,
            stop,
            requests,
            tasks,
            _data_dir: data_dir,
        })
    }
}

impl Running {
    /// What the routes work with: for tests that look inside.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops within a bounded time; what was acknowledged to anybody is durable.
    pub async fn shutdown(self) {
        let Self { app, link, engine, stop, requests, tasks, .. } = self;
        tracing::info!("stopping");
        stop.cancel();
        requests.close();
        let drained = async {
            requests.wait().await;
            app.live.drained().await;
        };
        within("requests and sockets did not end in time", DRAIN_TIMEOUT_MS, drained).await;
        within("tunnels did not end in time", STOP_STEP_TIMEOUT_MS, app.tunnels.stop()).await;
        within("devices' connections did not end in time", STOP_STEP_TIMEOUT_MS, link.shutdown())
            .await;
        within("the engine did not end in time", STOP_STEP_TIMEOUT_MS, engine.stop()).await;
        for task in tasks {
            task.abort();
        }
        within("the store did not close in time", STOP_STEP_TIMEOUT_MS, app.store.clone().close())
            .await;
        tracing::info!("stopped");
    }
}

async fn within(said: &'static str, limit_ms: u64, step: impl Future<Output = ()>) {
    if tokio::time::timeout(Duration::from_millis(limit_ms), step).await.is_err() {
        tracing::warn!(limit_ms, "{said}");
    }
}

/// The way to the devices, open.
struct Way {
    link: Arc<dyn Link>,
    inbound: InboundReceiver,
    /// What is of tunnels, apart from the rest.
    tunnels: Option<TunnelsReceiver>,
    /// Of an external broker: whether its connection stands.
    is_broker_up: Option<bool>,
    url: String,
    is_ready: BrokerReady,
}

/// Where the broker is: at a port that is taken already, or at another's URL.
enum BrokerAt {
    Embedded(embedded::Port),
    External { url: BrokerUrl, tls: Option<Arc<rustls::ClientConfig>>, qos_max: Qos },
}

impl BrokerAt {
    fn take(broker: Broker) -> Result<Self, StartError> {
        Ok(match broker {
            Broker::Embedded { listen } => Self::Embedded(embedded::bind(listen)?),
            Broker::External { url, ca_pem, qos_max } => {
                let tls = ca_pem.as_deref().map(external::trust).transpose()?;
                Self::External { url, tls, qos_max }
            }
        })
    }
}

async fn open_way(
    broker: BrokerAt,
    store: &Store,
    clock: &Clock,
    engine: &Engine,
) -> Result<Way, StartError> {
    match broker {
        BrokerAt::Embedded(port) => {
            let (broker, inbound, tunnels) =
                embedded::start_with_tunnels(port, Arc::new(engine.clone()));
            let url = format!("mqtt://{}", broker.address());
            Ok(Way {
                link: Arc::new(broker),
                inbound,
                tunnels: Some(tunnels),
                is_broker_up: None,
                url,
                is_ready: Box::new(|| true),
            })
        }
        BrokerAt::External { url: broker, tls, qos_max } => {
            let client_id = client_id(store, clock).await?;
            let host = if broker.host.contains(':') {
                format!("[{}]", broker.host)
            } else {
                broker.host.clone()
            };
            let scheme = if broker.tls { "mqtts" } else { "mqtt" };
            let url = format!("{scheme}://{host}:{}", broker.port);
            let config = external::Config { broker, client_id, tls, qos_max, random };
            let (client, inbound) = external::start(config)?;
            let tunnels = client.tunnels();
            let is_broker_up = Some(client.is_up());
            let client = Arc::new(client);
            let asked = Arc::clone(&client);
            Ok(Way {
                link: client,
                inbound,
                tunnels,
                is_broker_up,
                url,
                is_ready: Box::new(move || asked.is_up()),
            })
        }
    }
}

/// What the logs of sessions are sealed with: made once, kept with the server's other keys.
async fn recordings_key(store: &Store, clock: &Clock) -> Result<[u8; 32], StoreError> {
    const NAME: &str = "key.recordings";
    let corrupt = || StoreError::Corrupt { what: NAME.to_owned() };
    let kept = meta::get(&mut store.read().await?, NAME).await?;
    if let Some(text) = kept {
        return hex::decode(&text).and_then(|key| key.try_into().ok()).ok_or_else(corrupt);
    }
    let key = clock.random();
    store
        .write(move |tx| {
            Box::pin(async move {
                meta::put(tx, NAME, &hex::encode(&key)).await?;
                Ok::<_, StoreError>(key)
            })
        })
        .await?
}

/// This server's name at an external broker: the same over restarts.
async fn client_id(store: &Store, clock: &Clock) -> Result<String, StoreError> {
    const NAME: &str = "mqtt.client_id";
    let mut tx = store.read().await?;
    if let Some(id) = meta::get(&mut tx, NAME).await? {
        return Ok(id);
    }
    drop(tx);
    let id = format!("quarterdeck-server-{}", clock.new_uuid().simple());
    store
        .write(move |tx| {
            Box::pin(async move {
                meta::put(tx, NAME, &id).await?;
                Ok::<_, StoreError>(id)
            })
        })
        .await?
}

/// Spreads reconnects; nothing secret hangs on it.
fn random() -> f64 {
    let mut bytes = [0; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Forgets what is too old to be asked for.
async fn housekeeping(app: Arc<App>) {
    loop {
        let now = app.clock.wall();
        let swept = app
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let answers = idempotency::sweep(tx, now).await?;
                    let sessions = sessions::sweep(tx, now.plus_seconds(-SESSIONS_KEPT_S)).await?;
                    Ok::<_, StoreError>((answers, sessions))
                })
            })
            .await;
        match swept {
            Ok(Ok((answers, sessions))) => {
                tracing::debug!(answers, sessions, "forgot what is too old");
            }
            Ok(Err(error)) | Err(error) => tracing::warn!(%error, "housekeeping failed"),
        }
        if let Err(error) = app.tunnels.sweep_recordings().await {
            tracing::warn!(%error, "recordings that have expired could not be deleted");
        }
        tokio::time::sleep(Duration::from_millis(HOUSEKEEPING_PERIOD_MS)).await;
    }
}

async fn upkeep(app: Arc<App>) {
    loop {
        tokio::time::sleep(Duration::from_millis(METRICS_UPKEEP_MS)).await;
        app.metrics.upkeep();
    }
}
