//! A server in a temporary folder, and somebody who asks it.

use std::sync::Once;

use quarterdeck_server::{
    Running, Server,
    clock::Clock,
    config::{Broker, Config},
    store::Location,
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

pub(crate) const ADMIN_PASSWORD: &str = "correct horse battery";

/// A running server and its folder.
pub(crate) struct Fixture {
    pub(crate) running: Running,
    pub(crate) clock: Clock,
    pub(crate) client: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// Expects a status, and gives the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }

    /// Expects a problem with a status and a code, and gives it.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert!(body["request_id"].is_string(), "{body}");
        body
    }
}

pub(crate) fn http_client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    });
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

pub(crate) fn config(folder: &tempfile::TempDir) -> Config {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let data_dir = folder.path().join("data");
    Config {
        http: loopback,
        broker: Broker::Embedded { listen: loopback },
        database: Location::Sqlite(data_dir.join("quarterdeck.db")),
        data_dir,
        mqtt_url: None,
        admin_password: Some(ADMIN_PASSWORD.to_owned()),
        tunnels: quarterdeck_server::tunnels::Settings::default(),
    }
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with_clock(Clock::system(None)).await
    }

    pub(crate) async fn with_clock(clock: Clock) -> Self {
        Self::with(clock, |_| {}).await
    }

    pub(crate) async fn with(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(&folder);
        change(&mut config);
        let running = Server::start(config, Some(clock.clone())).await.expect("started");
        Self { running, clock, client: http_client(), folder }
    }

    /// Stops the server and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Self { running, clock, client, folder } = self;
        running.shutdown().await;
        let running = Server::start(config(&folder), Some(clock.clone())).await.expect("started");
        Self { running, clock, client, folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let base = &self.running.http;
        if path.starts_with("/api") || ["/healthz", "/readyz", "/metrics"].contains(&path) {
            format!("{base}{path}")
        } else {
            format!("{base}/api/v1{path}")
        }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        token: &str,
    ) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        send(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path, token).json(body)).await
    }

    pub(crate) async fn post_with_key(
        &self,
        path: &str,
        token: &str,
        body: &Value,
        key: &str,
    ) -> Answer {
        let request = self.request(Method::POST, path, token);
        send(request.header("idempotency-key", key).json(body)).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = self.request(method, path, token);
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub(crate) async fn login(&self, username: &str, password: &str) -> Answer {
        self.post("/auth/login", "", &json!({ "username": username, "password": password })).await
    }

    /// Signs in, and gives the access token.
    pub(crate) async fn token(&self, username: &str, password: &str) -> String {
        let tokens = self.login(username, password).await.expect(200);
        tokens["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn admin(&self) -> String {
        self.token("admin", ADMIN_PASSWORD).await
    }

    /// Makes a user with a role in a project, and signs them in.
    pub(crate) async fn member(
        &self,
        admin: &str,
        username: &str,
        project: &str,
        role: &str,
    ) -> String {
        let password = format!("password of {username}");
        self.post("/users", admin, &json!({ "username": username, "password": password }))
            .await
            .expect(201);
        let path = format!("/projects/{project}/members/{username}");
        self.call(Method::PUT, &path, admin, Some(&json!({ "role": role }))).await.expect(200);
        self.token(username, &password).await
    }

    pub(crate) async fn project(&self, admin: &str, id: &str) {
        self.post("/projects", admin, &json!({ "id": id })).await.expect(201);
    }

    /// Enrols a device, and gives its secret.
    pub(crate) async fn device(&self, admin: &str, project: &str, id: &str) -> String {
        let path = format!("/projects/{project}/enrollment-tokens");
        let token = self.post(&path, admin, &json!({})).await.expect(201);
        let enrolled =
            self.post("/enroll", "", &json!({ "token": token["token"], "device_id": id })).await;
        enrolled.expect(201)["device_secret"].as_str().expect("a secret").to_owned()
    }

    /// Submits one command to one device, and gives its id.
    pub(crate) async fn command(
        &self,
        token: &str,
        project: &str,
        device: &str,
        kind: &str,
        payload: Value,
    ) -> String {
        let body = json!({ "targets": { "devices": [device] }, "type": kind, "payload": payload });
        let created =
            self.post(&format!("/projects/{project}/commands"), token, &body).await.expect(201);
        created["commands"][0]["id"].as_str().expect("an id").to_owned()
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a body");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, body, text }
}
