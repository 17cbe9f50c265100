//! `backup` and `restore`: SQLite, the files of commands and recordings, in one folder.
//!
//! ```text
//!  backup   intake ─▶ database (one consistent snapshot, while the server writes on) ─▶ its files ─▶ rename
//!  restore  checked ─▶ copied beside ─▶ what is there is set aside ─▶ rename
//! ```
//!
//! The intake goes first: what is decided meanwhile is then in the database,
//! which says so, and nothing that was acknowledged before is in neither.
//!
//! A file of a command never changes, and its row is written after it: so the
//! files that the snapshot names are all there, and are copied after it. A recording
//! that goes on may be copied with a piece of a chunk at its end, as a crash would
//! leave it: the server takes that off when it starts.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::{
    auth::keys::Seeds,
    config::Config,
    data_dir::{DataDir, TUNNELS, UPLOADS},
    store::{Location, Store, audit, intake},
};

const DATABASE: &str = "quarterdeck.db";
/// How long the database may be locked by the server, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 10_000;

#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// The new folder
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// A folder that `backup` made
    folder: PathBuf,
}

pub(super) async fn backup(config: Config, options: Backup) -> anyhow::Result<()> {
    let source = sqlite_of(&config)?;
    if !source.exists() {
        bail!("there is no database {}", source.display());
    }
    let target = std::path::absolute(&options.folder)?;
    if target.exists() {
        bail!("{} is there already; expected the path of a new folder", target.display());
    }
    let partial = target.with_file_name(format!(
        ".{}.partial-{}",
        target.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&partial)
        .with_context(|| partial.display().to_string())?;
    let done = copy_out(&source, &config.data_dir, &partial).await;
    let done = done
        .and_then(|()| Ok(fs::rename(&partial, &target)?))
        .and_then(|()| sync_folder_of(&target));
    if done.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    done?;
    println!("backed up to {}", target.display());
    Ok(())
}

async fn copy_out(source: &Path, data_dir: &Path, into: &Path) -> anyhow::Result<()> {
    let copy = into.join(DATABASE);
    let intake = intake::file_beside(source);
    if intake.exists() {
        copy_database(&intake, &intake::file_beside(&copy)).await?;
    }
    copy_database(source, &copy).await?;
    copy_named(&copy, data_dir, into).await
}

/// Copies the files that a database names.
async fn copy_named(database: &Path, from: &Path, into: &Path) -> anyhow::Result<()> {
    let mut connection = connect(database, false).await?;
    let files: Vec<(String, String)> =
        sqlx::query_as("SELECT id, sha256 FROM uploads").fetch_all(&mut connection).await?;
    let recordings: Vec<(String,)> =
        sqlx::query_as("SELECT tunnel_id FROM recordings").fetch_all(&mut connection).await?;
    connection.close().await?;
    for folder in [UPLOADS, TUNNELS] {
        private_folder(&into.join(folder))?;
    }
    copy_files(&files, &from.join(UPLOADS), &into.join(UPLOADS))?;
    for (tunnel,) in recordings {
        copy_log(&tunnel, &from.join(TUNNELS), &into.join(TUNNELS))
            .with_context(|| format!("the recording of tunnel {tunnel}"))?;
    }
    Ok(())
}

async fn copy_database(source: &Path, copy: &Path) -> anyhow::Result<()> {
    let mut connection = connect(source, false).await?;
    sqlx::query("VACUUM INTO $1")
        .bind(copy.to_str().context("the folder's path is not UTF-8")?)
        .execute(&mut connection)
        .await
        .context("the database cannot be copied")?;
    connection.close().await?;
    sync_file(copy)
}

pub(super) async fn restore(config: Config, options: Restore) -> anyhow::Result<()> {
    let target = sqlite_of(&config)?;
    let source = options.folder.join(DATABASE);
    if !source.is_file() {
        bail!(
            "{} is no folder that `backup` made: there is no {DATABASE}",
            options.folder.display()
        );
    }
    let data_dir = DataDir::open(&config.data_dir).context("stop the server first")?;
    let incoming = data_dir.path().join(format!("{DATABASE}.incoming"));
    remove_if_there(&incoming)?;
    fs::copy(&source, &incoming)?;
    sync_file(&incoming)?;
    let checked = check(&incoming).await;
    // To look at it, it was opened as a server's, which keeps an intake beside.
    remove_database(&intake::file_beside(&incoming))?;
    if let Err(error) = checked {
        remove_database(&incoming)?;
        return Err(error.context(format!("{} cannot be restored", source.display())));
    }
    copy_named(&incoming, &options.folder, data_dir.path()).await?;
    for present in [target.clone(), intake::file_beside(&target)] {
        if present.exists() {
            set_aside(&present).await?;
        }
    }
    restore_intake(&intake::file_beside(&source), &intake::file_beside(&target)).await?;
    fs::rename(&incoming, &target)?;
    sync_folder_of(&target)?;
    println!("restored from {}; start the server", options.folder.display());
    Ok(())
}

/// Puts what was acknowledged and not decided in place, before the database that is to decide it.
async fn restore_intake(source: &Path, target: &Path) -> anyhow::Result<()> {
    remove_if_there(target)?;
    if !source.exists() {
        return Ok(());
    }
    let mut incoming = target.as_os_str().to_owned();
    incoming.push(".incoming");
    let incoming = PathBuf::from(incoming);
    remove_if_there(&incoming)?;
    fs::copy(source, &incoming)?;
    check_integrity(&incoming)
        .await
        .with_context(|| format!("{} cannot be restored", source.display()))?;
    sync_file(&incoming)?;
    Ok(fs::rename(&incoming, target)?)
}

/// Whether a copy is whole, of a version that this program knows, and its audit trail holds.
async fn check(database: &Path) -> anyhow::Result<()> {
    check_integrity(database).await?;
    let store = Store::open(&Location::Sqlite(database.to_owned())).await?;
    let mut tx = store.read().await?;
    let seeds = Seeds::get(&mut tx).await?.context("it is of a server that was never started")?;
    let auditor = audit::Auditor::new(seeds.keys()?.audit);
    for project in audit::chains(&mut tx).await? {
        if let Err(error) = auditor.verify(&mut tx, &project).await {
            // Restored all the same: a trail that was tampered with is evidence.
            eprintln!("quarterdeck-server: warning: {error}");
        }
    }
    drop(tx);
    store.close().await;
    // One file again: what is renamed must be all of it.
    let mut connection = connect(database, true).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await?;
    sync_file(database)
}

async fn check_integrity(database: &Path) -> anyhow::Result<()> {
    let mut connection = connect(database, false).await?;
    let (said,): (String,) =
        sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await?;
    connection.close().await?;
    if said != "ok" {
        bail!("it is damaged: {said}");
    }
    Ok(())
}

/// Moves the present database out of the way, whole.
async fn set_aside(database: &Path) -> anyhow::Result<()> {
    let mut connection = connect(database, true).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await?;
    for number in 1_u32.. {
        let aside = PathBuf::from(format!("{}.before-restore-{number}", database.display()));
        if aside.exists() {
            continue;
        }
        fs::hard_link(database, &aside).context("the present database cannot be set aside")?;
        println!("the database that was there is kept as {}", aside.display());
        break;
    }
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&PathBuf::from(format!("{}{suffix}", database.display())))?;
    }
    Ok(())
}

fn sqlite_of(config: &Config) -> anyhow::Result<PathBuf> {
    match &config.database {
        Location::Sqlite(path) => Ok(path.clone()),
        Location::Postgres(_) => bail!(
            "the database is PostgreSQL: use its own tools (pg_dump, pg_restore, or continuous archiving), \
             and copy the folders {} and {} beside it",
            config.data_dir.join(UPLOADS).display(),
            config.data_dir.join(TUNNELS).display()
        ),
    }
}

async fn connect(path: &Path, as_wal: bool) -> anyhow::Result<SqliteConnection> {
    let mut options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS));
    if as_wal {
        options = options.journal_mode(SqliteJournalMode::Wal);
    }
    options.connect().await.with_context(|| format!("cannot open {}", path.display()))
}

fn copy_files(files: &[(String, String)], from: &Path, into: &Path) -> anyhow::Result<()> {
    for (id, sha256) in files {
        let name = format!("{id}-{sha256}");
        let target = into.join(&name);
        if target.exists() {
            continue;
        }
        let partial = into.join(format!(".incoming-{name}"));
        fs::copy(from.join(&name), &partial).with_context(|| format!("the file {name}"))?;
        sync_file(&partial)?;
        fs::rename(&partial, &target)?;
    }
    fs::File::open(into)?.sync_all()?;
    Ok(())
}

/// Copies the log of a session; what is there already stays.
fn copy_log(tunnel: &str, from: &Path, into: &Path) -> anyhow::Result<()> {
    let target = into.join(tunnel);
    if target.exists() {
        return Ok(());
    }
    let segments = match fs::read_dir(from.join(tunnel)) {
        // It was deleted meanwhile, or lost before: `recordings verify` tells.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        segments => segments?,
    };
    let partial = into.join(format!(".incoming-{tunnel}"));
    private_folder(&partial)?;
    for segment in segments {
        let segment = segment?;
        let copy = partial.join(segment.file_name());
        match fs::copy(segment.path(), &copy) {
            // The oldest of a long session goes while it goes on.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            copied => copied?,
        };
        sync_file(&copy)?;
    }
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, &target)?;
    fs::File::open(into)?.sync_all()?;
    Ok(())
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_file(path: &Path) -> anyhow::Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
}

fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("a path has a folder")?;
    Ok(fs::File::open(folder)?.sync_all()?)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        remove_if_there(&PathBuf::from(format!("{}{suffix}", path.display())))?;
    }
    Ok(())
}
