//! One real `quarterdeck-agent` process: a device.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    binaries,
    process::{Process, descendants, kill_all_9},
};

/// How a device is made.
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    pub kind: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// Where its data are; in the harness's folder when `None`.
    pub data_dir: Option<PathBuf>,
    /// Further lines of its configuration.
    pub config: String,
    pub env: Vec<(String, String)>,
    /// Another server URL than the fleet's: a proxy's.
    pub server: Option<String>,
}

/// A device, running or killed.
#[derive(Debug)]
pub struct Device {
    id: String,
    folder: PathBuf,
    logs: PathBuf,
    data_dir: PathBuf,
    options: DeviceOptions,
    server: String,
    token: String,
    process: Option<Process>,
}

impl Device {
    /// Starts an agent that enrols with `token` at its first start.
    pub fn start(
        id: &str,
        fleet_folder: &Path,
        server: &str,
        token: &str,
        options: DeviceOptions,
    ) -> Result<Self> {
        let folder = fleet_folder.join("devices").join(id);
        let data_dir = options.data_dir.clone().unwrap_or_else(|| folder.join("data"));
        fs::create_dir_all(&data_dir)?;
        fs::create_dir_all(&folder)?;
        let mut device = Self {
            id: id.to_owned(),
            logs: fleet_folder.join("logs"),
            server: options.server.clone().unwrap_or_else(|| server.to_owned()),
            token: token.to_owned(),
            process: None,
            folder,
            data_dir,
            options,
        };
        device.set_boot_id("boot-1")?;
        device.start_again()?;
        Ok(device)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// A folder of the device's own, for scripts to write in; not the agent's data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// What the device says is its boot: another one after each reboot.
    pub fn set_boot_id(&mut self, boot_id: &str) -> Result<()> {
        fs::write(self.boot_id_file(), boot_id).context("writing the boot id")
    }

    /// Kills the agent alone, at once; what it started may live on, as in a crash.
    pub fn kill_9(&mut self) {
        self.process = None;
    }

    /// Kills the agent and all that it started, at once, as a power cut would.
    pub fn power_cut(&mut self) {
        if let Some(process) = &mut self.process {
            let started = descendants(process.pid());
            process.kill_9();
            kill_all_9(&started);
        }
        self.process = None;
    }

    /// Asks the agent to stop and waits until it has.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop().await?;
        }
        Ok(())
    }

    pub fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let config = self.folder.join("agent.toml");
        fs::write(&config, self.config()?)?;
        let mut command = Command::new(&binaries::find()?.agent);
        command
            .arg("--config")
            .arg(&config)
            .args(["--server", &self.server, "--device-id", &self.id])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .env("QUARTERDECK_AGENT_TOKEN", &self.token)
            .env("QUARTERDECK_AGENT_BOOT_ID_FILE", self.boot_id_file())
            .env("QUARTERDECK_AGENT_FILES_ALLOW", serde_json::to_string(&[&self.folder])?)
            .env("RUST_BACKTRACE", "1")
            .envs(self.options.env.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start(&self.id, &command, &self.logs)?);
        Ok(())
    }

    /// For what the next start should differ in.
    pub fn options(&mut self) -> &mut DeviceOptions {
        &mut self.options
    }

    fn boot_id_file(&self) -> PathBuf {
        self.folder.join("boot_id")
    }

    fn config(&self) -> Result<String> {
        let mut config = String::new();
        if let Some(kind) = &self.options.kind {
            writeln!(config, "type = {}", serde_json::to_string(kind)?)?;
        }
        config.push_str(&self.options.config);
        if !self.options.tags.is_empty() {
            config.push_str("\n[tags]\n");
            for (key, value) in &self.options.tags {
                writeln!(
                    config,
                    "{} = {}",
                    serde_json::to_string(key)?,
                    serde_json::to_string(value)?
                )?;
            }
        }
        Ok(config)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.power_cut();
    }
}
