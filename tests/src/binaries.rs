//! Where the real programs are.
//!
//! `QUARTERDECK_BIN_DIR` names their folder. Without it they are built, once
//! per process, in the profile that the running program was built in, so that
//! a test never runs yesterday's server.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};

/// The three programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub server: PathBuf,
    pub agent: PathBuf,
    pub console: PathBuf,
}

/// Whether a build says what it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Quiet,
    Shown,
}

/// Finds the programs, building them if need be.
pub fn find() -> Result<&'static Binaries> {
    find_with(Progress::Quiet)
}

/// As [`find`]; with [`Progress::Shown`], cargo's progress goes to stderr.
pub fn find_with(progress: Progress) -> Result<&'static Binaries> {
    static FOUND: OnceLock<Result<Binaries, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| locate(progress).map_err(|error| format!("{error:#}")));
    found.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Looks a program up as a shell would.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Servers are often not on the path of a plain user.
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn locate(progress: Progress) -> Result<Binaries> {
    if let Some(folder) = env::var_os("QUARTERDECK_BIN_DIR") {
        return in_folder(Path::new(&folder)).context("QUARTERDECK_BIN_DIR");
    }
    let build = Build::like_this_program()?;
    build.run(progress)?;
    in_folder(&build.target_dir.join(&build.folder))
}

fn in_folder(folder: &Path) -> Result<Binaries> {
    let program = |name: &str| {
        let file = folder.join(name);
        if file.is_file() { Ok(file) } else { bail!("{} is missing", file.display()) }
    };
    Ok(Binaries {
        server: program("quarterdeck-server")?,
        agent: program("quarterdeck-agent")?,
        console: program("quarterdeck")?,
    })
}

/// How cargo is told to build what stands beside the running program.
#[derive(Debug, PartialEq, Eq)]
struct Build {
    target_dir: PathBuf,
    /// `debug`, `release`, or a profile's name.
    folder: String,
}

impl Build {
    fn like_this_program() -> Result<Self> {
        let program = env::current_exe().context("finding the running program")?;
        Self::of(&program).with_context(|| format!("{} is in no target folder", program.display()))
    }

    /// From `target/debug/demo` or `target/debug/deps/test-0123`.
    fn of(program: &Path) -> Option<Self> {
        let mut folder = program.parent()?;
        if folder.ends_with("deps") || folder.ends_with("examples") {
            folder = folder.parent()?;
        }
        let name = folder.file_name()?.to_str()?.to_owned();
        Some(Self { target_dir: folder.parent()?.to_owned(), folder: name })
    }

    fn profile(&self) -> &str {
        if self.folder == "debug" { "dev" } else { &self.folder }
    }

    fn run(&self, progress: Progress) -> Result<()> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("this package has no folder above it")?;
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--workspace", "--bins", "--profile", self.profile()])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .current_dir(workspace)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (name, _) in env::vars_os() {
            // Of the package whose test we are; another's build script must not see them.
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
                command.env_remove(name);
            }
        }
        if progress == Progress::Quiet {
            command.arg("--quiet");
        } else {
            eprintln!("building the server, the agent and the console");
        }
        let status = command.status().context("running cargo build")?;
        if !status.success() {
            bail!(
                "cargo build failed: {status}; set QUARTERDECK_BIN_DIR to use programs built elsewhere"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_that_of_the_running_program() {
        for (program, target, profile) in [
            ("/w/target/debug/demo", "/w/target", "dev"),
            ("/w/target/debug/deps/commands-0a1b", "/w/target", "dev"),
            ("/t/release/deps/fanout-9", "/t", "release"),
            ("/t/fast/demo", "/t", "fast"),
        ] {
            let build = Build::of(Path::new(program)).expect("in a target folder");
            assert_eq!((build.target_dir.as_path(), build.profile()), (Path::new(target), profile));
        }
    }

    #[test]
    fn a_program_is_found_as_a_shell_would() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }
}
