//! The real program, in a home of its own.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

pub(crate) struct Program {
    pub(crate) home: tempfile::TempDir,
    pub(crate) env: Vec<(&'static str, String)>,
}

pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("one JSON array on stdout, {e}: {:?}", self.stdout))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder"), env: Vec::new() }
    }

    /// With a token in the environment, as a script has it.
    pub(crate) fn with_token(server: &str) -> Self {
        let env = vec![
            ("QUARTERDECK_SERVER", server.to_owned()),
            ("QUARTERDECK_TOKEN", "service-token-1".to_owned()),
        ];
        Self { env, ..Self::new() }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quarterdeck"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "").await
    }

    pub(crate) async fn run_with(&self, args: &[&str], stdin: &str) -> Ended {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("starts");
        let mut input = child.stdin.take().expect("piped");
        // A program that does not read closes the pipe.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.expect("ends");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub(crate) fn profile(&self, name: &str) -> PathBuf {
        self.home.path().join("state/quarterdeck/profiles").join(format!("{name}.toml"))
    }

    pub(crate) fn profile_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.profile(name)).expect("a profile")
    }

    pub(crate) fn profile_mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.profile(name)).expect("a profile").permissions().mode() & 0o777
    }
}
