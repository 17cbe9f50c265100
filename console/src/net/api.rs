//! The routes of chapter 2, typed: one function, one route.
//!
//! What is read comes as an [`Item`]: the value, and the text that the server
//! sent, so that `--output json` passes on also what this version does not know.

use std::ops::Deref;

use quarterdeck_protocol::{
    api::{
        Alert, CancelCommands, CancelledCommands, ChangeDevice, ChangeUser, Command,
        CreateCommands, CreateEnrollmentToken, CreateProject, CreateServiceToken, CreateTicket,
        CreateTunnel, CreateUser, CreatedCommands, CreatedTunnel, Device, DeviceHealth,
        EnrollmentToken, LoginRequest, Me, Member, Project, ProjectSettings, Recording,
        RecordingCheck, RecordingUse, Role, ServiceToken, SetMember, SilenceAlert, Ticket,
        TicketFor, Tokens, Tunnel, User,
    },
    ids::{CommandId, DeviceId, ProjectId, TunnelId},
    tunnel::session::Mode,
};
use reqwest::Method;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    auth::{self, Credentials},
    call::Call,
    client::Client,
    clock,
    error::ApiError,
    files::{Download, Upload},
    pages::Pages,
    profile::{SavedTokens, Secret},
};

/// What the server sent, parsed and as it was.
#[derive(Debug, Clone)]
pub struct Item<T> {
    pub value: T,
    pub raw: Box<RawValue>,
}

impl<T> Deref for Item<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Self { value, raw })
    }
}

/// Filters and the order of a listing, as its query parameters.
pub type Query = Vec<(String, String)>;

impl Client {
    /// Signs in. The password goes nowhere else.
    pub async fn login(&self, username: &str, password: &Secret) -> Result<SavedTokens, ApiError> {
        let body =
            LoginRequest { username: username.to_owned(), password: password.reveal().to_owned() };
        let tokens: Tokens = self.call_open(Call::post(&["auth", "login"]).json(&body)).await?;
        Ok(auth::saved(tokens))
    }

    /// Ends the session at the server.
    pub async fn logout(&self) -> Result<(), ApiError> {
        self.call_empty(Call::post(&["auth", "logout"])).await
    }

    pub async fn me(&self) -> Result<Item<Me>, ApiError> {
        self.call(Call::get(&["auth", "me"])).await
    }

    /// Whether there is something to sign a request with.
    pub fn has_credentials(&self) -> bool {
        !matches!(self.credentials(), Credentials::None)
    }

    pub fn users(&self, limit: Option<u64>) -> Pages<'_> {
        Pages::new(self, &["users"], Query::new(), limit)
    }

    pub async fn create_user(&self, user: &CreateUser) -> Result<Item<User>, ApiError> {
        self.call(Call::post(&["users"]).json(user).key(&clock::fresh_key())).await
    }

    pub async fn change_user(
        &self,
        username: &str,
        change: &ChangeUser,
    ) -> Result<Item<User>, ApiError> {
        self.call(Call::new(Method::PATCH, &["users", username]).json(change)).await
    }

    pub fn projects(&self, limit: Option<u64>) -> Pages<'_> {
        Pages::new(self, &["projects"], Query::new(), limit)
    }

    pub async fn create_project(&self, project: &CreateProject) -> Result<Item<Project>, ApiError> {
        self.call(Call::post(&["projects"]).json(project).key(&clock::fresh_key())).await
    }

    pub fn service_tokens(&self, limit: Option<u64>) -> Pages<'_> {
        Pages::new(self, &["service-tokens"], Query::new(), limit)
    }

    pub async fn create_service_token(
        &self,
        token: &CreateServiceToken,
    ) -> Result<Item<ServiceToken>, ApiError> {
        self.call(Call::post(&["service-tokens"]).json(token).key(&clock::fresh_key())).await
    }

    pub async fn revoke_service_token(&self, id: &str) -> Result<(), ApiError> {
        self.call_empty(Call::new(Method::DELETE, &["service-tokens", id])).await
    }

    /// The routes under one project.
    pub const fn project<'a>(&'a self, id: &'a ProjectId) -> InProject<'a> {
        InProject { client: self, id }
    }
}

/// The routes under `/projects/{p}`.
#[derive(Debug, Clone, Copy)]
pub struct InProject<'a> {
    client: &'a Client,
    id: &'a ProjectId,
}

impl<'a> InProject<'a> {
    pub const fn id(&self) -> &'a ProjectId {
        self.id
    }

    fn pages(&self, listing: &'a str, query: Query, limit: Option<u64>) -> Pages<'a> {
        Pages::new(self.client, &["projects", self.id.as_str(), listing], query, limit)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: impl FnOnce(&[&'a str]) -> Call<'a>,
        rest: &[&'a str],
    ) -> Result<T, ApiError> {
        self.client.call(call(&self.segments(rest))).await
    }

    fn segments(&self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["projects", self.id.as_str()], rest].concat()
    }

    // --- devices ------------------------------------------------------------

    pub fn devices(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("devices", query, limit)
    }

    pub async fn device(&self, id: &'a DeviceId) -> Result<Item<Device>, ApiError> {
        self.call(Call::get, &["devices", id.as_str()]).await
    }

    /// Sets a device's tags or type.
    pub async fn change_device(
        &self,
        id: &'a DeviceId,
        change: &ChangeDevice,
    ) -> Result<Item<Device>, ApiError> {
        let call = |s: &[&'a str]| Call::new(Method::PATCH, s).json(change);
        self.call(call, &["devices", id.as_str()]).await
    }

    /// Takes a device out of service.
    pub async fn retire_device(&self, id: &'a DeviceId) -> Result<Item<Device>, ApiError> {
        self.call(Call::post, &["devices", id.as_str(), "retire"]).await
    }

    /// Lets a device that exists, or is retired, enrol once more.
    pub async fn enroll_again(&self, id: &'a DeviceId) -> Result<Item<Device>, ApiError> {
        self.call(Call::post, &["devices", id.as_str(), "enroll-again"]).await
    }

    pub async fn device_health(&self, id: &'a DeviceId) -> Result<Item<DeviceHealth>, ApiError> {
        self.call(Call::get, &["devices", id.as_str(), "health"]).await
    }

    pub fn device_commands(&self, id: &'a DeviceId, query: Query, limit: Option<u64>) -> Pages<'a> {
        let segments = self.segments(&["devices", id.as_str(), "commands"]);
        Pages::new(self.client, &segments, query, limit)
    }

    pub fn device_timeline(&self, id: &'a DeviceId, limit: Option<u64>) -> Pages<'a> {
        let segments = self.segments(&["devices", id.as_str(), "timeline"]);
        Pages::new(self.client, &segments, Query::new(), limit)
    }

    pub async fn clear_service_failed(&self, id: &'a DeviceId) -> Result<Item<Device>, ApiError> {
        self.call(Call::post, &["devices", id.as_str(), "clear_service_failed"]).await
    }

    // --- commands -----------------------------------------------------------

    pub fn commands(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("commands", query, limit)
    }

    /// Submits; all attempts with the same `key` make one submission.
    pub async fn create_commands(
        &self,
        create: &CreateCommands,
        key: &str,
    ) -> Result<Item<CreatedCommands>, ApiError> {
        self.call(|s| Call::post(s).json(create).key(key), &["commands"]).await
    }

    pub async fn command(&self, id: CommandId) -> Result<Item<Command>, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "commands", id.as_str()];
        self.client.call(Call::get(&segments)).await
    }

    pub async fn cancel_command(&self, id: CommandId) -> Result<Item<Command>, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "commands", id.as_str(), "cancel"];
        self.client.call(Call::post(&segments)).await
    }

    /// Cancels many, by id or by batch.
    pub async fn cancel_commands(
        &self,
        cancel: &CancelCommands,
    ) -> Result<Item<CancelledCommands>, ApiError> {
        self.call(|s| Call::post(s).json(cancel), &["commands", "cancel"]).await
    }

    /// Submits the same again; the new command names the old one as `retry_of`.
    pub async fn retry_command(
        &self,
        id: CommandId,
        confirm: bool,
        key: &str,
    ) -> Result<Item<Command>, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "commands", id.as_str(), "retry"];
        let body = serde_json::json!({ "confirm": confirm });
        self.client.call(Call::post(&segments).json(&body).key(key)).await
    }

    /// Sends a file that a `file_push` will take, under an id of its own.
    pub async fn upload(&self, id: Uuid, upload: &Upload) -> Result<(), ApiError> {
        let id = id.as_hyphenated().to_string();
        let query =
            vec![("name".to_owned(), upload.name()), ("project".to_owned(), self.id.to_string())];
        let call = Call::new(Method::PUT, &["uploads", id.as_str()]).query(query);
        self.client.upload(call, upload).await
    }

    /// Opens what a command brought.
    pub async fn command_output(&self, id: CommandId) -> Result<Download, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "commands", id.as_str(), "output"];
        self.client.download(Call::get(&segments)).await
    }

    /// Reads a command's timeline.
    pub async fn command_timeline<T: DeserializeOwned>(
        &self,
        id: CommandId,
        limit: Option<u64>,
    ) -> Result<Vec<T>, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "commands", id.as_str(), "timeline"];
        Pages::new(self.client, &segments, Query::new(), limit).all().await
    }

    pub fn operations(&self, limit: Option<u64>) -> Pages<'a> {
        self.pages("operations", Query::new(), limit)
    }

    // --- alerts, audit --------------------------------------------------------

    pub fn alerts(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("alerts", query, limit)
    }

    pub async fn acknowledge_alert(&self, id: &'a str) -> Result<Item<Alert>, ApiError> {
        self.call(Call::post, &["alerts", id, "acknowledge"]).await
    }

    pub async fn silence_alert(
        &self,
        id: &'a str,
        duration_s: u64,
    ) -> Result<Item<Alert>, ApiError> {
        let body = SilenceAlert { duration_s };
        self.call(|s| Call::post(s).json(&body), &["alerts", id, "silence"]).await
    }

    pub fn audit(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("audit", query, limit)
    }

    // --- the project itself ---------------------------------------------------

    pub fn members(&self, limit: Option<u64>) -> Pages<'a> {
        self.pages("members", Query::new(), limit)
    }

    pub async fn set_member(
        &self,
        username: &'a str,
        role: Role,
    ) -> Result<Item<Member>, ApiError> {
        let call = |s: &[&'a str]| Call::new(Method::PUT, s).json(&SetMember { role });
        self.call(call, &["members", username]).await
    }

    pub async fn remove_member(&self, username: &'a str) -> Result<(), ApiError> {
        let segments = self.segments(&["members", username]);
        self.client.call_empty(Call::new(Method::DELETE, &segments)).await
    }

    pub async fn settings(&self) -> Result<Item<ProjectSettings>, ApiError> {
        self.call(Call::get, &["settings"]).await
    }

    pub async fn change_settings(
        &self,
        settings: &ProjectSettings,
    ) -> Result<Item<ProjectSettings>, ApiError> {
        self.call(|s| Call::new(Method::PUT, s).json(settings), &["settings"]).await
    }

    pub fn enrollment_tokens(&self, limit: Option<u64>) -> Pages<'a> {
        self.pages("enrollment-tokens", Query::new(), limit)
    }

    pub async fn create_enrollment_token(
        &self,
        token: &CreateEnrollmentToken,
    ) -> Result<Item<EnrollmentToken>, ApiError> {
        let key = clock::fresh_key();
        self.call(|s| Call::post(s).json(token).key(&key), &["enrollment-tokens"]).await
    }

    pub async fn revoke_enrollment_token(&self, id: &'a str) -> Result<(), ApiError> {
        let segments = self.segments(&["enrollment-tokens", id]);
        self.client.call_empty(Call::new(Method::DELETE, &segments)).await
    }

    /// Asks for a ticket that opens one live connection, soon.
    pub async fn live_ticket(&self) -> Result<Ticket, ApiError> {
        let body = CreateTicket { purpose: TicketFor::Live, tunnel_id: None, mode: None };
        self.call(|s| Call::post(s).json(&body), &["tickets"]).await
    }

    // --- tunnels, recordings ----------------------------------------------------

    pub fn tunnels(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("tunnels", query, limit)
    }

    /// Opens a tunnel; all attempts with the same `key` make one.
    pub async fn create_tunnel(
        &self,
        create: &CreateTunnel,
        key: &str,
    ) -> Result<Item<CreatedTunnel>, ApiError> {
        self.call(|s| Call::post(s).json(create).key(key), &["tunnels"]).await
    }

    pub async fn tunnel(&self, id: TunnelId) -> Result<Item<Tunnel>, ApiError> {
        let id = id.to_string();
        self.client.call(Call::get(&["projects", self.id.as_str(), "tunnels", id.as_str()])).await
    }

    /// Ends a tunnel: one's own, or any for an admin.
    pub async fn close_tunnel(&self, id: TunnelId) -> Result<Item<Tunnel>, ApiError> {
        let id = id.to_string();
        let segments = ["projects", self.id.as_str(), "tunnels", id.as_str(), "close"];
        self.client.call(Call::post(&segments)).await
    }

    /// Asks for a ticket that attaches to a tunnel, soon.
    pub async fn tunnel_ticket(&self, id: TunnelId, mode: Mode) -> Result<Ticket, ApiError> {
        let body = CreateTicket {
            purpose: TicketFor::Tunnel,
            tunnel_id: Some(id.to_string()),
            mode: Some(mode),
        };
        self.call(|s| Call::post(s).json(&body), &["tickets"]).await
    }

    pub fn recordings(&self, query: Query, limit: Option<u64>) -> Pages<'a> {
        self.pages("recordings", query, limit)
    }

    pub async fn recording(&self, id: &'a str) -> Result<Item<Recording>, ApiError> {
        self.call(Call::get, &["recordings", id]).await
    }

    /// What was shown and when; who asks is written down.
    pub fn recording_events(&self, id: &'a str, limit: Option<u64>) -> Pages<'a> {
        let segments = self.segments(&["recordings", id, "events"]);
        Pages::new(self.client, &segments, Query::new(), limit)
    }

    /// Opens a recording as an asciicast file, or as the bytes that were shown; what for is
    /// written down.
    pub async fn recording_file(
        &self,
        id: &'a str,
        file: RecordingFile,
    ) -> Result<Download, ApiError> {
        let (name, query) = match file {
            RecordingFile::Cast(RecordingUse::Export) => ("cast", Query::new()),
            RecordingFile::Cast(purpose) => {
                ("cast", vec![("purpose".to_owned(), purpose.as_str().to_owned())])
            }
            RecordingFile::Bytes => ("bytes", Query::new()),
        };
        let call = Call::get(&self.segments(&["recordings", id, name])).query(query);
        self.client.download(call).await
    }

    /// Lets the server check a recording against what was written.
    pub async fn check_recording(&self, id: &'a str) -> Result<Item<RecordingCheck>, ApiError> {
        self.call(Call::get, &["recordings", id, "verify"]).await
    }

    pub async fn delete_recording(&self, id: &'a str) -> Result<(), ApiError> {
        let segments = self.segments(&["recordings", id]);
        self.client.call_empty(Call::new(Method::DELETE, &segments)).await
    }
}

/// How a recording may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingFile {
    /// asciicast v2, for any player of it.
    Cast(RecordingUse),
    /// The output, byte for byte.
    Bytes,
}
