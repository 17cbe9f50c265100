//! The first start: keys, project `default`, user `admin`; all of them or none.
//!
//! A random password is printed *before* the commit: a server that is killed in
//! between makes another one at its next start, and one that is killed after it
//! has shown the right one. (`reset-password` is there for who lost it.)

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quarterdeck_protocol::{api::AuditOutcome, ids::ProjectId};
use serde_json::Value;

use crate::{
    auth::{
        keys::{Keys, Seeds},
        password::{PasswordError, hash_now},
    },
    clock::Clock,
    store::{
        Store, StoreError,
        audit::{Actor, Auditor, NewEntry, SERVER_CHAIN},
        projects,
        users::{self, NewUser},
    },
};

/// The user that the first start makes.
pub const ADMIN: &str = "admin";

/// Says why the first start failed.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the admin's password could not be hashed: {0}")]
    Password(#[from] PasswordError),
}

/// Reads the server's keys; before that, does what the first start does, once.
///
/// `announce` is given a password that was made up, to show it.
pub async fn keys(
    store: &Store,
    clock: &Clock,
    given_password: Option<String>,
    announce: impl FnOnce(&str),
) -> Result<Keys, FirstStartError> {
    let mut tx = store.read().await?;
    if let Some(seeds) = Seeds::get(&mut tx).await? {
        return Ok(seeds.keys()?);
    }
    drop(tx);
    let password = given_password.unwrap_or_else(|| {
        let random = URL_SAFE_NO_PAD.encode(clock.random::<18>());
        announce(&random);
        random
    });
    let hashing = clock.clone();
    let password_hash =
        tokio::task::spawn_blocking(move || hash_now(&hashing, password.as_bytes()))
            .await
            .map_err(|_| PasswordError::Hash)??;
    let seeds = Seeds::random(clock);
    let now = clock.wall();
    let admin = NewUser {
        id: clock.new_uuid().to_string(),
        username: ADMIN.to_owned(),
        password_hash,
        is_admin: true,
        created_at: now,
    };
    let seeds = store
        .write(move |tx| {
            Box::pin(async move {
                // Another server on the same database was first.
                if let Some(seeds) = Seeds::get(tx).await? {
                    tracing::warn!(
                        "another server did the first start: its admin's password holds"
                    );
                    return Ok(seeds);
                }
                let auditor = Auditor::new(seeds.keys()?.audit);
                let project = ProjectId::new(SERVER_CHAIN).expect("a constant name");
                seeds.put(tx).await?;
                projects::insert(tx, &project, "Default", now).await?;
                users::insert(tx, &admin).await?;
                let actor = Actor::server();
                for (action, object) in [
                    ("project.create", format!("project:{project}")),
                    ("user.create", format!("user:{ADMIN}")),
                ] {
                    let outcome = AuditOutcome::Ok;
                    let entry = NewEntry {
                        project: &project,
                        at: now,
                        actor: &actor,
                        action,
                        object,
                        outcome,
                        detail: Value::Null,
                    };
                    auditor.append(tx, entry).await?;
                }
                Ok::<_, StoreError>(seeds)
            })
        })
        .await??;
    Ok(seeds.keys()?)
}

/// Shows a password that was made up, once, where a person looks and no program parses.
pub fn print_password(password: &str) {
    eprintln!(
        "quarterdeck-server: first start. User {ADMIN} has the password {password} (shown only now; \
         `quarterdeck-server reset-password {ADMIN}` makes another)"
    );
}
