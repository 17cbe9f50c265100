//! What an administrator of the machine may do without signing in: users and the schema.
//!
//! It works on the database itself, also while the server runs; each change is
//! recorded in the audit trail as done here.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quarterdeck_protocol::api::AuditOutcome;
use serde_json::json;

use crate::{
    auth::{check_username, keys::Seeds, password},
    clock::Clock,
    config::{Config, ConfigError},
    data_dir::DataDir,
    engine::Engine,
    first_start,
    http::server_chain,
    store::{
        Location, Store, StoreError,
        audit::{Actor, Auditor, NewEntry},
        sessions,
        users::{self, NewUser, StoredUser},
    },
};

/// Where a subcommand takes a password from.
#[derive(Debug, clap::Args)]
struct PasswordFrom {
    /// File with the password; without it a random one is made and printed
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateUser {
    username: String,
    /// Let them manage users and projects, with every role everywhere
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    password: PasswordFrom,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResetPassword {
    username: String,
    #[command(flatten)]
    password: PasswordFrom,
}

/// A database, opened beside a server that may run.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) auditor: Auditor,
}

/// Opens the database of a server that was started before.
pub(super) async fn open(config: &Config) -> anyhow::Result<Opened> {
    if let Location::Sqlite(path) = &config.database
        && !path.exists()
    {
        bail!(
            "there is no database {}: start the server, or `quarterdeck-server migrate`, first",
            path.display()
        );
    }
    let store = Store::open(&config.database).await?;
    let clock = Engine::restore_clock(&store).await?;
    let mut tx = store.read().await?;
    let seeds = Seeds::get(&mut tx).await?;
    drop(tx);
    let seeds = seeds.context("the server was never started on this database: start it, or `quarterdeck-server migrate`, first")?;
    let auditor = Auditor::new(seeds.keys()?.audit);
    Ok(Opened { store, clock, auditor })
}

/// Brings the schema up to date and does what a first start does.
pub(super) async fn migrate(config: Config) -> anyhow::Result<()> {
    // Another version of the server must not be at work meanwhile.
    let _data_dir = DataDir::open(&config.data_dir)?;
    let store = Store::open(&config.database).await?;
    let clock = Engine::restore_clock(&store).await?;
    first_start::keys(&store, &clock, config.admin_password, first_start::print_password).await?;
    store.close().await;
    println!("the database is up to date");
    Ok(())
}

pub(super) async fn create_user(config: Config, options: CreateUser) -> anyhow::Result<()> {
    let CreateUser { username, admin, password } = options;
    check_username(&username).map_err(|expected| ConfigError {
        key: "username".to_owned(),
        value: format!("{username:?}"),
        expected: expected.to_owned(),
    })?;
    let opened = open(&config).await?;
    let (password, is_random) = password.take(&opened.clock)?;
    let now = opened.clock.wall();
    let new = NewUser {
        id: opened.clock.new_uuid().to_string(),
        username: username.clone(),
        password_hash: password::hash_now(&opened.clock, password.as_bytes())?,
        is_admin: admin,
        created_at: now,
    };
    let auditor = opened.auditor;
    let is_new = opened
        .store
        .write(move |tx| {
            Box::pin(async move {
                if !users::insert(tx, &new).await? {
                    return Ok(false);
                }
                let entry = NewEntry {
                    project: &server_chain(),
                    at: now,
                    actor: &local_actor(),
                    action: "user.create",
                    object: format!("user:{}", new.username),
                    outcome: AuditOutcome::Ok,
                    detail: json!({ "admin": new.is_admin }),
                };
                auditor.append(tx, entry).await?;
                Ok::<_, StoreError>(true)
            })
        })
        .await??;
    opened.store.close().await;
    if !is_new {
        bail!("there is a user {username} already");
    }
    report(&username, &password, is_random);
    Ok(())
}

pub(super) async fn reset_password(config: Config, options: ResetPassword) -> anyhow::Result<()> {
    let ResetPassword { username, password } = options;
    let opened = open(&config).await?;
    let (password, is_random) = password.take(&opened.clock)?;
    let password_hash = password::hash_now(&opened.clock, password.as_bytes())?;
    let (auditor, now, name) = (opened.auditor, opened.clock.wall(), username.clone());
    let is_known = opened
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(user) = users::by_name(tx, &name).await? else { return Ok(false) };
                sessions::revoke_all(tx, &user.id, None, now).await?;
                // Who resets a password wants to get in.
                users::update(tx, &StoredUser { password_hash, disabled: false, ..user }).await?;
                let entry = NewEntry {
                    project: &server_chain(),
                    at: now,
                    actor: &local_actor(),
                    action: "user.reset_password",
                    object: format!("user:{name}"),
                    outcome: AuditOutcome::Ok,
                    detail: json!({}),
                };
                auditor.append(tx, entry).await?;
                Ok::<_, StoreError>(true)
            })
        })
        .await??;
    opened.store.close().await;
    if !is_known {
        bail!("there is no user {username}");
    }
    report(&username, &password, is_random);
    Ok(())
}

impl PasswordFrom {
    /// The password, and whether it was made up.
    fn take(self, clock: &Clock) -> anyhow::Result<(String, bool)> {
        let Some(path) = self.password_file else {
            return Ok((URL_SAFE_NO_PAD.encode(clock.random::<18>()), true));
        };
        let text = fs::read_to_string(&path)
            .with_context(|| format!("--password-file {}: cannot be read", path.display()))?;
        let password = text.trim_end_matches(['\n', '\r']).to_owned();
        password::check_new(&password).map_err(|expected| {
            anyhow::anyhow!("--password-file {}: {expected}", path.display())
        })?;
        Ok((password, false))
    }
}

fn report(username: &str, password: &str, is_random: bool) {
    if is_random {
        println!("user {username} has the password {password}");
    } else {
        println!("user {username} has the password of the file");
    }
}

/// Whoever may read the database's file.
fn local_actor() -> Actor {
    Actor { name: format!("local:{}", nix::unistd::getuid()), from: "local".to_owned() }
}
