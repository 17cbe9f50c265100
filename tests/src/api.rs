//! A typed client of the HTTP interface, and [`Api::request`] for what no honest client says.

use std::sync::Once;

use anyhow::{Context, Result, bail, ensure};
use quarterdeck_protocol::{
    api::{
        CancelledCommands, Command, CreateCommands, CreateEnrollmentToken, CreateUser,
        CreatedCommands, Device, EnrollmentToken, LoginRequest, Page, Problem, Role, Targets,
        TimelineEntry, Tokens,
    },
    command::CommandStatus,
    ids::CommandId,
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    clock,
    wait::{Look, wait_for},
};

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads a success.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("{}: {} {}", self.asked, self.status, self.text());
        }
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body).with_context(|| format!("{}: {}", self.asked, self.text()))
    }

    /// Reads a refusal, and that it is a well-formed one.
    pub fn problem(&self) -> Result<Problem> {
        let kind = self.header("content-type");
        if !kind.starts_with("application/problem+json") {
            bail!("{}: {} as {kind:?}: {}", self.asked, self.status, self.text());
        }
        let problem: Problem = serde_json::from_slice(&self.body).context(self.text())?;
        if problem.status != self.status || problem.code.is_empty() {
            bail!("{}: {} with {problem:?}", self.asked, self.status);
        }
        Ok(problem)
    }

    /// Reads a refusal with this status.
    pub fn refused(&self, status: u16) -> Result<Problem> {
        if self.status != status {
            bail!("{}: expected {status}, got {} {}", self.asked, self.status, self.text());
        }
        self.problem()
    }
}

/// Somebody at the API, in one project.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT`
    base: String,
    token: Option<String>,
    project: String,
}

impl Api {
    /// Nobody yet, in project `default`.
    pub fn new(base: &str) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Fails only when there is one already, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        // A connection for each request: one kept from before a crash would fail the test, not the server.
        let http = client(0)?;
        Ok(Self { http, base: base.to_owned(), token: None, project: "default".to_owned() })
    }

    /// The same, over connections that are kept: for benchmarks.
    pub fn with_kept_connections(&self) -> Result<Self> {
        Ok(Self { http: client(usize::MAX)?, ..self.clone() })
    }

    /// The same server, signed in as somebody.
    pub async fn login(&self, username: &str, password: &str) -> Result<Self> {
        let login = LoginRequest { username: username.to_owned(), password: password.to_owned() };
        let tokens: Tokens =
            self.request(Method::POST, "/auth/login", &json!(login)).await?.read()?;
        Ok(self.with_token(&tokens.access_token))
    }

    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    #[must_use]
    pub fn in_project(&self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self.clone() }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub fn project(&self) -> &str {
        &self.project
    }

    // --- anything ---------------------------------------------------------------

    /// Asks for a path under `/api/v1`, or under the project when it begins with `@/`; a `null` body is none.
    pub async fn request(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        let mut request = self.builder(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        send(request).await
    }

    /// A request to be completed and given to [`send`].
    pub fn builder(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    pub fn url(&self, path: &str) -> String {
        if path == "/metrics" {
            return format!("{}{path}", self.base);
        }
        match path.strip_prefix('@') {
            Some(rest) => format!("{}/api/v1/projects/{}{rest}", self.base, self.project),
            None => format!("{}/api/v1{path}", self.base),
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.request(Method::GET, path, &Value::Null).await?.read()
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.request(Method::POST, path, &serde_json::to_value(body)?).await?.read()
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.request(Method::PUT, path, &serde_json::to_value(body)?).await?.read()
    }

    /// All items of a listing, page by page.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let mut request = self.builder(Method::GET, path).query(&[("limit", "1000")]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page<T> = send(request).await?.read()?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// How many items of a listing match.
    pub async fn count(&self, path: &str) -> Result<u64> {
        let page: Page<Value> =
            send(self.builder(Method::GET, path).query(&[("limit", "1")])).await?.read()?;
        Ok(page.total)
    }

    // --- people -------------------------------------------------------------------

    /// Makes a user with a role in this project, and signs in as them.
    pub async fn member(&self, username: &str, role: Role) -> Result<Self> {
        let password = format!("pw-{}", clock::unique());
        let user =
            CreateUser { username: username.to_owned(), password: password.clone(), admin: false };
        self.post::<Value>("/users", &user).await?;
        self.put::<Value>(&format!("@/members/{username}"), &json!({ "role": role })).await?;
        self.login(username, &password).await
    }

    // --- devices --------------------------------------------------------------------

    pub async fn enrollment_token(&self, token: &CreateEnrollmentToken) -> Result<String> {
        let made: EnrollmentToken = self.post("@/enrollment-tokens", token).await?;
        made.token.context("the answer has no token")
    }

    pub async fn device(&self, id: &str) -> Result<Device> {
        self.get(&format!("@/devices/{id}")).await
    }

    /// Waits until the server says so of a device.
    pub async fn wait_device(
        &self,
        id: &str,
        what: &str,
        is_it: impl Fn(&Device) -> bool,
    ) -> Result<Device> {
        let path = format!("@/devices/{id}");
        wait_for(&format!("{id} to be {what}"), || async {
            let answer = self.request(Method::GET, &path, &Value::Null).await?;
            if answer.status == 404 {
                return Ok(Look::not_yet("no such device"));
            }
            let device: Device = answer.read()?;
            Ok(if is_it(&device) { Look::Ready(device) } else { Look::not_yet(json!(device)) })
        })
        .await
    }

    // --- commands -------------------------------------------------------------------

    /// Brings a file to the server, for devices to fetch; gives its id.
    pub async fn upload(&self, bytes: Vec<u8>) -> Result<String> {
        let id = clock::new_uuid().to_string();
        let path = format!("/uploads/{id}?project={}", self.project);
        let request = self.builder(Method::PUT, &path).body(bytes);
        ensure!(send(request).await?.status < 300, "the upload is refused");
        Ok(id)
    }

    /// Submits; see [`submission`] for what to submit.
    pub async fn submit(&self, create: &CreateCommands) -> Result<CreatedCommands> {
        self.post("@/commands", create).await
    }

    /// Submits to one device.
    pub async fn send(&self, device: &str, kind: &str, payload: Value) -> Result<CommandId> {
        let created = self.submit(&submission(&[device], kind, payload)).await?;
        Ok(created.commands.first().context("a batch without commands")?.id)
    }

    /// Has one device run a script.
    pub async fn script(&self, device: &str, script: &str) -> Result<CommandId> {
        self.send(device, "run_script", json!({ "script": script })).await
    }

    pub async fn command(&self, id: CommandId) -> Result<Command> {
        self.get(&format!("@/commands/{id}")).await
    }

    pub async fn timeline(&self, id: CommandId) -> Result<Vec<TimelineEntry>> {
        self.list(&format!("@/commands/{id}/timeline")).await
    }

    pub async fn cancel(&self, id: CommandId) -> Result<Command> {
        self.post(&format!("@/commands/{id}/cancel"), &Value::Null).await
    }

    pub async fn cancel_many(&self, ids: &[CommandId]) -> Result<CancelledCommands> {
        self.post("@/commands/cancel", &json!({ "ids": ids })).await
    }

    pub async fn retry(&self, id: CommandId) -> Result<Command> {
        self.post(&format!("@/commands/{id}/retry"), &Value::Null).await
    }

    pub async fn wait_command(
        &self,
        id: CommandId,
        what: &str,
        is_it: impl Fn(&Command) -> bool,
    ) -> Result<Command> {
        wait_for(&format!("command {id} to be {what}"), || async {
            let command = self.command(id).await?;
            Ok(if is_it(&command) { Look::Ready(command) } else { Look::not_yet(json!(command)) })
        })
        .await
    }

    /// Waits until a command has reached a status, or ended in another.
    pub async fn wait_status(&self, id: CommandId, status: CommandStatus) -> Result<Command> {
        let command = self
            .wait_command(id, status.as_str(), |c| c.status == status || c.status.is_terminal())
            .await?;
        if command.status != status {
            bail!("waited for {status}; it ended as {}", json!(command));
        }
        Ok(command)
    }

    /// Waits until a command has ended, however.
    pub async fn wait_end(&self, id: CommandId) -> Result<Command> {
        self.wait_command(id, "at its end", |command| command.status.is_terminal()).await
    }
}

fn client(idle_connections: usize) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(idle_connections);
    client.build().context("making a client")
}

/// Sends a request made with [`Api::builder`].
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer> {
    let (client, request) = request.build_split();
    let request = request.context("making a request")?;
    let asked = format!("{} {}", request.method(), request.url());
    let answer = client.execute(request).await.with_context(|| asked.clone())?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await.with_context(|| asked.clone())?.to_vec();
    Ok(Answer { asked, status, headers, body })
}

/// A submission with everything else left to its default.
pub fn submission(devices: &[&str], kind: &str, payload: Value) -> CreateCommands {
    CreateCommands {
        targets: Targets {
            devices: devices.iter().map(|&id| id.to_owned()).collect(),
            groups: Vec::new(),
        },
        kind: kind.to_owned(),
        payload,
        priority: None,
        timeout_s: None,
        expires_in_s: None,
        notes: String::new(),
        confirm: true,
    }
}
