//! `run_script`: the script in a private file, read by any interpreter.
//!
//! The environment is a small one, the same whatever the agent itself was
//! started with; nothing of the agent's own (its token least of all) is in it:
//!
//! | variable | value |
//! | --- | --- |
//! | `PATH` | `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` |
//! | `HOME`, `USER`, `LOGNAME`, `SHELL` | of the user it runs as |
//! | `LANG` | `C.UTF-8` |
//! | `TMPDIR` | absent: `/tmp` |
//! | `QUARTERDECK_COMMAND_ID` | the command; by it its processes are found again |
//!
//! `env` of the payload is laid over that. It runs in `cwd`, else in `/`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
};

use nix::unistd::{Uid, User};
use quarterdeck_protocol::{command::error_code, ids::CommandId, payload::RunScript};
use tokio_util::sync::CancellationToken;

use super::{Context, fail, io_failure, program_end};
use crate::{
    io::{durable, process, procfs::COMMAND_VARIABLE, supervisor::Spec},
    work::{Failed, Reports, WorkEnd},
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn run(
    context: &Context,
    payload: &RunScript,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let user = match &payload.user {
        Some(name) => match find_user(name) {
            Ok(user) => Some(user),
            Err(refusal) => return fail(error_code::REJECTED, refusal),
        },
        None => None,
    };
    let file = write_script(context, reports.id, &payload.script, user.as_ref())?;
    let mut argv = vec![payload.interpreter.clone(), file.display().to_string()];
    argv.extend(payload.args.iter().cloned());
    let mut env = base_environment(reports.id, user.as_ref());
    env.extend(payload.env.clone());
    let spec = Spec {
        argv,
        env,
        cwd: Some(payload.cwd.as_ref().map_or_else(|| "/".into(), PathBuf::from)),
        user: payload.user.clone(),
        memory_max_bytes: context.config.limits.script_memory_bytes,
        grace_ms: context.config.limits.script_grace_ms,
        outlives_agent: false,
    };
    program_end("the script", process::run(&context.launcher, &spec, end, reports).await)
}

fn find_user(name: &str) -> Result<User, String> {
    let user = User::from_name(name)
        .map_err(|errno| format!("payload.user: cannot look up {name:?}: {}", errno.desc()))?
        .ok_or_else(|| format!("payload.user: there is no user {name:?} on this device"))?;
    let me = Uid::effective();
    if me.is_root() || me == user.uid {
        Ok(user)
    } else {
        Err(format!("payload.user: the agent does not run as root and cannot become {name:?}"))
    }
}

/// Writes the script where only the agent, and the user it runs as, can read it.
fn write_script(
    context: &Context,
    id: CommandId,
    script: &str,
    user: Option<&User>,
) -> Result<PathBuf, Failed> {
    let failed = |error| io_failure("cannot write the script", &error);
    let other = user.filter(|user| user.uid != Uid::effective());
    let folder = match other {
        // The data folder is closed to other users.
        Some(_) => std::env::temp_dir().join(format!("quarterdeck-{id}")),
        None => context.paths.work_of(id),
    };
    durable::private_folder(&folder).map_err(failed)?;
    let file = folder.join("script");
    fs::write(&file, script).map_err(failed)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    if let Some(user) = other {
        for path in [&file, &folder] {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(failed)?;
        }
    }
    Ok(file)
}

/// What every program of the agent finds in its environment.
pub fn base_environment(id: CommandId, user: Option<&User>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        (COMMAND_VARIABLE.to_owned(), id.to_string()),
    ]);
    let own = User::from_uid(Uid::effective()).ok().flatten();
    if let Some(user) = user.or(own.as_ref()) {
        env.insert("HOME".to_owned(), user.dir.display().to_string());
        env.insert("USER".to_owned(), user.name.clone());
        env.insert("LOGNAME".to_owned(), user.name.clone());
        env.insert("SHELL".to_owned(), user.shell.display().to_string());
    }
    env
}
