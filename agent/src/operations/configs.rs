//! `config_snapshot`, `config_update`, `update_config` and `log_upload`: files that the device's
//! owner has named (`[configs]`, `[configuration]`, `[logs]`).
//!
//! ```text
//!  fetched ─▶ the old file kept ─▶ the new one in place ─▶ apply ─▶ done
//!                                                            │ fails
//!                                                            ▼
//!                          the old one in place again ─▶ apply once more ─▶ failed
//! ```

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use quarterdeck_protocol::{
    command::error_code,
    ids::CommandId,
    payload::{ConfigSnapshot, ConfigUpdate, LogUpload},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Context, io_failure, owner, result,
    transfers::{self, Content, Target},
};
use crate::{
    config::Applied,
    domain::command::{Failure, Outcome},
    work::{Failed, Reports, WorkEnd},
};

const BEFORE: &str = "before";
const VERSION: &str = "version";
/// Of a file that was not there.
const MODE_DEFAULT: u32 = 0o644;

/// Finds what the owner has named so.
fn named<'a, T>(
    table: &str,
    known: &'a std::collections::BTreeMap<String, T>,
    name: &str,
) -> Result<&'a T, Failed> {
    known.get(name).ok_or_else(|| {
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let why = format!("the device's owner has set no {table}.{name}; there are: {names}");
        Failed::because(error_code::UNSUPPORTED, why)
    })
}

fn target_of(path: &Path) -> Target {
    Target { allowed: vec![path.to_owned()], path: path.to_owned() }
}

pub(super) async fn snapshot(
    context: &Context,
    payload: &ConfigSnapshot,
    id: CommandId,
) -> WorkEnd {
    let file = named("configs", &context.config.owned.configs, &payload.kind)?;
    transfers::upload_from(context, vec![file.path.clone()], file.path.clone(), id).await
}

pub(super) async fn collect_log(context: &Context, payload: &LogUpload, id: CommandId) -> WorkEnd {
    let path = named("logs", &context.config.owned.logs, &payload.kind)?;
    transfers::collect_log(context, path.clone(), payload, id).await
}

/// Finds the file that a `config_update` is for.
pub(super) fn file_of<'a>(
    context: &'a Context,
    payload: &ConfigUpdate,
) -> Result<&'a Applied, Failed> {
    named("configs", &context.config.owned.configs, &payload.kind)
}

/// Brings what is to be written, and checks it.
pub(super) async fn fetch(context: &Context, payload: &ConfigUpdate, id: CommandId) -> WorkEnd {
    let file = file_of(context, payload)?;
    let content = Content {
        text: payload.content.as_deref(),
        base64: payload.content_base64.as_deref(),
        upload_id: payload.upload_id,
        sha256: payload.sha256.as_deref(),
    };
    transfers::fetch_content(context, content, target_of(&file.path), id).await
}

/// Finds where what the server holds for this device goes.
pub(super) fn own_file(context: &Context) -> Result<&Applied, Failed> {
    context.config.owned.configuration.as_ref().ok_or_else(|| {
        let why = "the device's owner has set no configuration.path";
        Failed::because(error_code::UNSUPPORTED, why)
    })
}

/// Takes what the server holds for this device.
pub(super) async fn fetch_own(context: &Context, id: CommandId) -> WorkEnd {
    own_file(context)?;
    let fetched = transfers::fetched_of(context, id)?;
    let taken = context.server()?.configuration().await;
    let taken = taken.map_err(|error| transfers::transfer_failure(&error))?;
    let text = serde_json::to_string_pretty(&taken.configuration).expect("plain data") + "\n";
    let version = fetched.with_file_name(VERSION);
    let saved =
        fs::write(&fetched, text).and_then(|()| fs::write(version, taken.version.to_string()));
    saved.map_err(|error| io_failure("cannot save the configuration", &error))?;
    Ok(Outcome::default())
}

/// Puts what was fetched in place and has it take effect; if that fails, the old file is put back.
pub(super) async fn apply(
    context: &Context,
    file: &Applied,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let id = reports.id;
    let fetched = transfers::fetched_of(context, id)?;
    let before = fetched.with_file_name(BEFORE);
    let version = fs::read_to_string(fetched.with_file_name(VERSION)).ok();
    let mode = keep(file.path.clone(), before.clone()).await?;
    let target = target_of(&file.path);
    let mode_of = mode.unwrap_or(MODE_DEFAULT);
    let installed = transfers::install_file(fetched, target.clone(), mode_of, id).await?;
    if let Some(line) = &file.apply
        && let Err(error) = owner::run_line(context, line.clone(), false, end, reports).await
    {
        let (failure, outcome) = error.into_parts();
        let back = match mode {
            Some(mode) => put_back(context, line, before, target, mode, reports).await,
            None => "; there was no file before it".to_owned(),
        };
        let failure = Failure::new(failure.code, failure.message + &back);
        return Err(Failed::new(failure, outcome));
    }
    result(json!({
        "path": file.path, "size_bytes": installed.size_bytes, "sha256": installed.sha256,
        "version": version.and_then(|version| version.parse::<u64>().ok()),
    }))
}

/// Copies the file as it is; gives its permissions, or nothing where there is none.
async fn keep(path: PathBuf, before: PathBuf) -> Result<Option<u32>, Failed> {
    transfers::off_the_loop(move || {
        let mode = match fs::metadata(&path) {
            Ok(data) => data.permissions().mode() & 0o777,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_failure("cannot read the old file", &error)),
        };
        let copied = fs::copy(&path, &before);
        copied.map_err(|error| io_failure("cannot keep the old file", &error))?;
        Ok(Some(mode))
    })
    .await
}

/// Puts the old file back; says how that went. It is done also when the command was ended.
async fn put_back(
    context: &Context,
    line: &[String],
    before: PathBuf,
    target: Target,
    mode: u32,
    reports: &Reports,
) -> String {
    if let Err(error) = transfers::install_file(before, target, mode, reports.id).await {
        let (failure, _) = error.into_parts();
        return format!("; the old file could not be put back: {}", failure.message);
    }
    let never = CancellationToken::new();
    match owner::run_line(context, line.to_vec(), false, &never, reports).await {
        Ok(_) => "; the old file is in place again".to_owned(),
        Err(error) => {
            let (failure, _) = error.into_parts();
            format!("; the old file is in place again, and was not applied: {}", failure.message)
        }
    }
}
