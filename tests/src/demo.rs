//! The demo fleet: a real server, real agents, and an operator's afternoon.
//!
//! ```text
//!  build ─▶ server ─▶ 12 agents online ─▶ sample commands ─▶ console ─▶ everything ends
//!                                                        └─▶ --headless: one JSON line, until a signal
//! ```
//!
//! Nothing is pretended but the machines: a reboot ends the agent and starts it
//! again with another boot id ([`machines`]), a restarted service is a line in
//! a log. Everything lives in one temporary folder and goes with it.
//!
//! | module | subject |
//! | --- | --- |
//! | [`roster`] | the devices: names, types, tags, and what their owners allow |
//! | [`machines`] | what happens to a machine that reboots or is switched off |
//! | [`firmware`] | the firmware update of the guide, on a simulated flash |
//! | [`story`] | the commands that an operator finds there |

pub mod firmware;
pub mod machines;
pub mod roster;
pub mod story;

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    Fleet,
    agent::Device,
    binaries::{self, Progress},
    mqtt::Login,
};
use machines::Machines;

/// A demo fleet; everything ends when it is dropped.
#[derive(Debug)]
pub struct Demo {
    machines: Machines,
    fleet: Fleet,
}

impl Demo {
    /// Builds what has to be built, starts everything and waits until it is up.
    pub async fn start() -> Result<Self> {
        // A build takes minutes; meanwhile a signal must still be heard.
        tokio::task::spawn_blocking(|| binaries::find_with(Progress::Shown)).await??;
        eprintln!("starting the server");
        let fleet = Fleet::start().await?;
        let devices = roster::DEVICES;
        eprintln!("starting {} devices", devices.len());
        let token = fleet.enrollment_token(u32::try_from(devices.len())?).await?;
        let mut started = Vec::new();
        for spec in &devices {
            let options = spec.options(&fleet)?;
            started.push(Device::start(
                spec.id,
                fleet.folder(),
                fleet.api().base(),
                &token,
                options,
            )?);
        }
        for device in &started {
            fleet.online(device.id()).await?;
        }
        eprintln!("giving them something to do");
        story::tell(&fleet, &mut started).await?;
        Ok(Self { machines: Machines::watch(started), fleet })
    }

    /// What a program needs to use the fleet: one line of JSON.
    pub fn ready_line(&self) -> Value {
        let devices: Vec<&str> = roster::DEVICES.iter().map(|device| device.id).collect();
        json!({
            "event": "ready",
            "http": self.fleet.api().base(),
            "mqtt": self.fleet.mqtt_url(),
            "project": self.fleet.api().project(),
            "username": "admin",
            "password": self.fleet.admin_password(),
            "devices": devices,
        })
    }

    /// Opens the console on this terminal, logged in.
    pub async fn console(&self) -> Result<Child> {
        let program = &binaries::find()?.console;
        let password = self.home().join("password");
        fs::create_dir_all(self.home())?;
        fs::write(&password, self.fleet.admin_password())?;
        // A login of its own, since a bare access token ends after ten minutes.
        let login = self
            .in_our_home(program)
            .args(["login", "--username", "admin", "--password-file"])
            .arg(&password)
            .stdin(Stdio::null())
            .output()
            .await
            .context("running quarterdeck login")?;
        fs::remove_file(&password)?;
        ensure!(login.status.success(), "login: {}", String::from_utf8_lossy(&login.stderr));
        self.in_our_home(program).kill_on_drop(true).spawn().context("opening the console")
    }

    /// Ends everything and removes the folder.
    pub async fn end(self) {
        self.machines.end().await;
        drop(self.fleet);
    }

    fn home(&self) -> PathBuf {
        self.fleet.file("home")
    }

    /// The console with a home of the demo's own, so that it touches nobody's profiles.
    fn in_our_home(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.home())
            .env("QUARTERDECK_SERVER", self.fleet.api().base())
            .env_remove("QUARTERDECK_TOKEN")
            .env_remove("QUARTERDECK_PROJECT");
        for (name, folder) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
        ] {
            command.env(name, self.home().join(folder));
        }
        command
    }
}

/// How a device that runs signs in: for what is said in its name.
fn login_of(device: &Device) -> Result<Login> {
    let file = device.data_dir().join("credentials.json");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let credentials: Value = serde_json::from_str(&text)?;
    let text = |key: &str| credentials[key].as_str().context(key.to_owned());
    let (project, id, secret) = (text("project_id")?, text("device_id")?, text("device_secret")?);
    Ok(Login::new(&format!("{project}:{id}")).with_password(&format!("{project}/{id}"), secret))
}
