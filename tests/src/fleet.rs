//! A server and its devices: where most tests begin.
//!
//! ```no_run
//! # use quarterdeck_tests::Fleet;
//! # async fn test() -> anyhow::Result<()> {
//! let fleet = Fleet::start().await?;
//! let device = fleet.device("pi-1").await?;
//! let id = fleet.api().script(device.id(), "echo hello").await?;
//! assert_eq!(fleet.api().wait_end(id).await?.stdout.as_deref(), Some("hello\n"));
//! # Ok(()) }
//! ```
//!
//! All processes and the folder go with the guard.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use quarterdeck_protocol::{
    api::{CreateEnrollmentToken, EnrollRequest, EnrollResponse},
    device::DeviceStatus,
    ids::DeviceId,
};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agent::{Device, DeviceOptions},
    api::Api,
    mqtt::Login,
    server::{Server, ServerOptions},
};

/// A fleet under test.
#[derive(Debug)]
pub struct Fleet {
    // Before the folder, so that processes end before their files go.
    server: Server,
    api: Api,
    folder: TempDir,
}

impl Fleet {
    /// A server with its embedded broker and SQLite.
    pub async fn start() -> Result<Self> {
        Self::start_with(ServerOptions::default()).await
    }

    pub async fn start_with(options: ServerOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("quarterdeck-fleet-").tempdir()?;
        let server = Server::start(folder.path(), options).await?;
        let api = server.admin().await?;
        Ok(Self { server, api, folder })
    }

    /// The admin at the API, in project `default`.
    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// `mqtt://127.0.0.1:PORT`
    pub fn mqtt_url(&self) -> &str {
        self.server.mqtt()
    }

    pub fn mqtt_port(&self) -> Result<u16> {
        self.server.mqtt_port()
    }

    pub fn http_port(&self) -> Result<u16> {
        self.server.http_port()
    }

    pub fn admin_password(&self) -> &str {
        self.server.admin_password()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the fleet's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Kills the server, starts it again, and waits until it serves. Sessions outlive it.
    pub async fn restart_server(&mut self) -> Result<()> {
        self.server.kill_9_and_start_again().await
    }

    /// A real device that the server says is online.
    pub async fn device(&self, id: &str) -> Result<Device> {
        self.device_with(id, DeviceOptions::default()).await
    }

    pub async fn device_with(&self, id: &str, options: DeviceOptions) -> Result<Device> {
        let token = self.enrollment_token(1).await?;
        let device = Device::start(id, self.folder(), self.server.http(), &token, options)?;
        // It is online when it connects, and says a moment later what it can do.
        let said = |device: &quarterdeck_protocol::api::Device| {
            device.status == DeviceStatus::Online && !device.capabilities.is_empty()
        };
        self.api.wait_device(id, "online with its capabilities", said).await?;
        Ok(device)
    }

    /// Waits until the server says that a device is online, and has heard so itself.
    pub async fn online(&self, id: &str) -> Result<()> {
        self.api
            .wait_device(id, "online", |device| {
                device.status == DeviceStatus::Online && device.unheard_since.is_none()
            })
            .await?;
        Ok(())
    }

    pub async fn offline(&self, id: &str) -> Result<()> {
        self.api
            .wait_device(id, "offline", |device| device.status == DeviceStatus::Offline)
            .await?;
        Ok(())
    }

    pub async fn enrollment_token(&self, uses: u32) -> Result<String> {
        self.api
            .enrollment_token(&CreateEnrollmentToken {
                uses,
                expires_in_s: 3600,
                tags: BTreeMap::new(),
            })
            .await
    }

    /// Enrols a device that no agent stands for; says how it signs in on MQTT.
    pub async fn enroll(&self, id: &str) -> Result<Login> {
        let token = self.enrollment_token(1).await?;
        enroll(&self.api, &token, id).await
    }
}

/// Enrols `id` with a token, as an agent does.
pub async fn enroll(api: &Api, token: &str, id: &str) -> Result<Login> {
    let request = EnrollRequest {
        token: token.to_owned(),
        device_id: DeviceId::new(id)?,
        csr_pem: None,
        kind: Some("SIMULATED".to_owned()),
        tags: BTreeMap::new(),
        nonce: None,
    };
    let answer: EnrollResponse =
        api.without_token().request(Method::POST, "/enroll", &json!(request)).await?.read()?;
    let secret = answer.device_secret.unwrap_or_default();
    let project = answer.project_id;
    Ok(Login::new(&format!("{project}:{id}")).with_password(&format!("{project}/{id}"), &secret))
}

/// How long a device may need to come back after its server was away: its longest pause and then some.
pub const RECONNECT_DEADLINE: Duration = Duration::from_secs(90);
