//! `software_list` and `software_update`: by the plugin programs of the device's owner, one for
//! each kind of software (`[software]`), which are called as thin-edge's plugins are:
//!
//! | call | does |
//! | --- | --- |
//! | `PLUGIN list` | prints `NAME<tab>VERSION`, a line each |
//! | `PLUGIN prepare` | before the first change |
//! | `PLUGIN install NAME [--module-version VERSION]` | |
//! | `PLUGIN remove NAME [--module-version VERSION]` | |
//! | `PLUGIN finalize` | after the last change, also when one failed |
//!
//! Exit status 0 is success. The first change that fails is the last one that is tried.

use std::{fs::File, io::Read as _, path::Path, pin::pin};

use quarterdeck_protocol::{
    command::error_code,
    limits::RESULT_MAX_BYTES,
    payload::{SoftwareAction, SoftwareModule, SoftwareUpdate},
};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::{Context, io_failure, operation::CURRENT_SOFTWARE, owner, result, transfers};
use crate::{
    domain::command::Outcome,
    work::{Failed, Reports, WorkEnd},
};

/// The longest list of one plugin, in bytes.
const LIST_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The longest name or version that is listed, in characters.
const WORD_MAX_CHARS: usize = 255;
/// How long `finalize` may take once the command was ended, in seconds.
const FINALIZE_MAX_S: u64 = 60;
const LIST: &str = "list";
const WHOLE: &str = "software.json";

fn plugin<'a>(context: &'a Context, kind: &str) -> Result<&'a [String], Failed> {
    let known = &context.config.owned.software;
    known.get(kind).map(Vec::as_slice).ok_or_else(|| {
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let why = format!("the device's owner has set no software.{kind}; there are: {names}");
        Failed::because(error_code::UNSUPPORTED, why)
    })
}

fn line(plugin: &[String], words: &[&str]) -> Vec<String> {
    plugin.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
}

/// Lists what each plugin knows; a list that is too long to send is uploaded, and counted.
pub(super) async fn list(context: &Context, end: &CancellationToken, reports: &Reports) -> WorkEnd {
    let folder = transfers::work_folder(context, reports.id)?;
    let file = folder.join(LIST);
    let mut list = Vec::new();
    for (kind, plugin) in &context.config.owned.software {
        owner::run_into_file(context, line(plugin, &["list"]), &file, end, reports).await?;
        let (from, kind) = (file.clone(), kind.clone());
        list.push(transfers::off_the_loop(move || read_list(&kind, &from)).await?);
    }
    let whole = json!({ CURRENT_SOFTWARE: list });
    let text = whole.to_string();
    if text.len() <= RESULT_MAX_BYTES {
        return result(whole);
    }
    let file = folder.join(WHOLE);
    let saved = std::fs::write(&file, &text).and_then(|()| File::open(&file));
    let saved = saved.map_err(|error| io_failure("cannot save the list", &error))?;
    let uploaded = transfers::upload(context, reports.id, WHOLE, saved).await?;
    let count = |of_type: &Value| {
        let modules = of_type["modules"].as_array().map_or(0, Vec::len);
        json!({ "type": of_type["type"], "count": modules })
    };
    let counts: Vec<_> = list.iter().map(count).collect();
    result(json!({ "counts": counts, "uploaded": uploaded.result }))
}

/// Reads what a plugin printed: of each line a name and, after a tab, a version.
fn read_list(kind: &str, file: &Path) -> Result<Value, Failed> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(LIST_MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| io_failure("cannot read the list", &error))?;
    if bytes.len() as u64 > LIST_MAX_BYTES {
        let why = format!("the list of software.{kind} is longer than {LIST_MAX_BYTES} bytes");
        return Err(Failed::because(error_code::SCRIPT_FAILED, why));
    }
    let text = String::from_utf8_lossy(&bytes);
    let short = |word: &str| word.trim().chars().take(WORD_MAX_CHARS).collect::<String>();
    let module = |line: &str| {
        let (name, version) = line.split_once('\t').unwrap_or((line, ""));
        json!({ "name": short(name), "version": short(version) })
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(json!({ "type": kind, "modules": lines.map(module).collect::<Vec<_>>() }))
}

/// Installs and removes in the order of the list.
pub(super) async fn update(
    context: &Context,
    payload: &SoftwareUpdate,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    // Before anything is changed: whether all of it can be.
    for of_type in &payload.update_list {
        plugin(context, &of_type.kind)?;
    }
    let mut done = Vec::new();
    for of_type in &payload.update_list {
        let plugin = plugin(context, &of_type.kind)?;
        let run = async |words: &[&str]| {
            owner::run_line(context, line(plugin, words), false, end, reports).await
        };
        run(&["prepare"]).await?;
        let mut failed = None;
        for module in &of_type.modules {
            if let Err(error) = run(&words(module)).await {
                failed = Some(error);
                break;
            }
            done.push(json!({
                "type": of_type.kind, "name": module.name, "action": module.action
            }));
        }
        let finalized = finalize(context, line(plugin, &["finalize"]), end, reports).await;
        if let Some(error) = failed {
            return Err(with_done(error, &done));
        }
        finalized.map_err(|error| with_done(error, &done))?;
    }
    result(json!({ "done": done }))
}

/// Runs `finalize`, also when the command was ended: the plugin is not to stay prepared.
async fn finalize(
    context: &Context,
    line: Vec<String>,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let late = CancellationToken::new();
    let mut running = pin!(owner::run_line(context, line, false, &late, reports));
    let is_late = async {
        end.cancelled().await;
        sleep(Duration::from_secs(FINALIZE_MAX_S)).await;
    };
    tokio::select! {
        finalized = &mut running => return finalized,
        () = is_late => late.cancel(),
    }
    running.await
}

fn words(module: &SoftwareModule) -> Vec<&str> {
    let action = match module.action {
        SoftwareAction::Install => "install",
        SoftwareAction::Remove => "remove",
    };
    let version = module.version.iter().flat_map(|version| ["--module-version", version.as_str()]);
    [action, module.name.as_str()].into_iter().chain(version).collect()
}

/// Says beside a failure what was changed before it.
fn with_done(error: Failed, done: &[Value]) -> Failed {
    let (failure, outcome) = error.into_parts();
    Failed::new(failure, Outcome { result: Some(json!({ "done": done })), ..outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_list_is_read_line_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        std::fs::write(&file, b"nginx\t1.2\n\n bare \nodd\xff\t3\tmore\n").expect("written");
        let list = read_list("apt", &file).expect("it can be read");
        assert_eq!(list["type"], "apt");
        assert_eq!(
            list["modules"],
            json!([
                {"name": "nginx", "version": "1.2"},
                {"name": "bare", "version": ""},
                {"name": "odd\u{fffd}", "version": "3\tmore"},
            ])
        );
    }

    #[test]
    fn a_module_is_given_to_its_plugin_as_arguments() {
        let module = |version: Option<&str>, action| SoftwareModule {
            name: "nginx".to_owned(),
            version: version.map(str::to_owned),
            action,
        };
        let install = module(Some("1.2"), SoftwareAction::Install);
        assert_eq!(words(&install), ["install", "nginx", "--module-version", "1.2"]);
        assert_eq!(words(&module(None, SoftwareAction::Remove)), ["remove", "nginx"]);
    }
}
