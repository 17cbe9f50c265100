//! The HTTP interface (chapter 2): routes, and what all of them share.
//!
//! ```text
//!  server (accept, limits) ─▶ request id, log, panics ─▶ problem::render ─▶ headers ─▶ route
//!                                                          extract: who, and may they?
//!                                                          json, query: is it valid?
//!                                                          engine or store, one transaction
//! ```
//!
//! A handler reads, asks the engine or the store, and answers; each change is
//! recorded in the transaction that makes it. Routes and their documentation
//! are one list: what is not documented is not served.
//!
//! Never here: SQL, decisions of the domain.

pub mod actions;
pub mod extract;
pub mod head;
pub mod idempotency;
pub mod json;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod query;
pub mod server;
pub mod socket;

mod alerts;
pub mod audit;
mod auth;
mod commands;
mod configuration;
mod devices;
mod enrollment;
mod members;
pub mod operations;
mod output;
mod overview;
mod projects;
mod recordings;
mod service_tokens;
mod status;
mod tickets;
pub(crate) mod tunnel_rights;
mod tunnels;
pub mod uploads;
mod users;
pub mod websocket;

use std::{pin::Pin, sync::Arc};

use quarterdeck_protocol::{ids::ProjectId, live::Listing};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{keys::Keys, limiter::Limiter, password::Passwords, tickets::Tickets},
    clock::Clock,
    engine::{Change, Engine},
    live::Hub,
    store::{
        Store, Tx,
        audit::{Auditor, SERVER_CHAIN},
    },
    tunnels::Tunnels,
};

pub use self::{
    metrics::Metrics,
    openapi::router,
    recordings::views::{VIEW_PAUSE_MS, VIEWS_MAX, Views},
    service_tokens::Uses as TokenUses,
    status::Readiness,
};

/// Whether the way to the devices works: asked by `/readyz`.
pub type BrokerReady = Box<dyn Fn() -> bool + Send + Sync>;

/// What the routes work with.
pub struct App {
    pub store: Store,
    pub engine: Engine,
    pub clock: Clock,
    pub auditor: Auditor,
    pub keys: Keys,
    pub passwords: Passwords,
    pub limiter: Limiter,
    pub tickets: Tickets,
    pub token_uses: service_tokens::Uses,
    pub files: uploads::Files,
    pub views: Views,
    pub live: Hub,
    pub tunnels: Tunnels,
    pub metrics: Metrics,
    pub broker_ready: BrokerReady,
    pub readiness: Readiness,
    pub stopping: CancellationToken,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// Work in a transaction.
pub type Job<'t, T> = Pin<Box<dyn Future<Output = problem::Result<T>> + Send + 't>>;

impl App {
    /// Runs `job` in the next commit; an error of its own rolls it back.
    pub async fn write<T, F>(&self, job: F) -> problem::Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> Job<'t, T> + Send + 'static,
    {
        self.store.write(job).await?
    }

    /// Tells live windows that a row of a project is new, differs or is gone; and its audit trail with it.
    pub fn changed(&self, project: &ProjectId, listing: Listing, key: &str) {
        self.engine.announce(Change { project: project.clone(), listing, key: key.to_owned() });
        self.audit_changed_of(project);
    }

    /// Tells live windows of a change that belongs to no project.
    pub fn changed_server(&self, listing: Listing, key: &str) {
        self.changed(&server_chain(), listing, key);
    }

    /// Tells live windows that a project's trail has grown.
    pub fn audit_changed_of(&self, project: &ProjectId) {
        self.engine.announce(Change {
            project: project.clone(),
            listing: Listing::Audit,
            key: String::new(),
        });
    }
}

/// The chain of what belongs to no project.
pub fn server_chain() -> ProjectId {
    ProjectId::new(SERVER_CHAIN).expect("a constant name")
}

/// What handlers are given.
pub type Shared = axum::extract::State<Arc<App>>;
