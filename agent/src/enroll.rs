//! How a device becomes one of the project's, once.
//!
//! ```text
//!  no credentials ─▶ nonce saved ─▶ POST /enroll ─▶ credentials saved ─▶ nonce removed
//!                       ▲   │ network, 429, 5xx: again, with full jitter
//!                       └───┘ other 4xx: over, the operator is told what to do
//! ```
//!
//! The nonce makes it safe to crash anywhere: who asks again with the same one
//! is given the same answer.

use std::{fs, io, path::PathBuf, time::Duration};

use quarterdeck_protocol::{
    api::{EnrollRequest, EnrollResponse},
    ids::{DeviceId, ProjectId},
};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    clock::{Backoff, Clock},
    config::{Config, Secret},
    data_dir::Paths,
    io::{
        durable,
        http::{self, HttpError},
        tls,
    },
};

const RETRY_FIRST_MS: u64 = 500;
const RETRY_MOST_MS: u64 = 60_000;
/// The longest answer that is read, in bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Who this device is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub server: Url,
    pub project_id: ProjectId,
    pub device_id: DeviceId,
    pub mqtt_url: Url,
    pub device_secret: String,
    pub ca_pem: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} at {}", self.project_id, self.device_id, self.server)
    }
}

/// Says why the device did not become one of the project's.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error(
        "this device is not enrolled yet: give --{missing} (a token is made with `quarterdeck enroll-token create`)"
    )]
    Missing { missing: &'static str },
    #[error(
        "the server knows a device {device_id} already: an admin must allow it to enrol anew, \
         or choose another --device-id"
    )]
    Exists { device_id: DeviceId },
    #[error("the server refuses the enrolment token ({status}): ask for a new one ({detail})")]
    Token { status: StatusCode, detail: String },
    #[error("the server refuses to enrol this device ({status}): {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the server's answer cannot be used: {what}")]
    Answer { what: String },
    #[error(
        "the data folder belongs to device {stored}, not {asked}: use another --data-dir, or remove {}",
        path.display()
    )]
    OtherDevice { stored: DeviceId, asked: DeviceId, path: PathBuf },
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the file {} is damaged: remove it and enrol anew", path.display())]
    Damaged { path: PathBuf },
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Reads the stored credentials, if the device is enrolled.
pub fn load(paths: &Paths) -> Result<Option<Credentials>, EnrollError> {
    let path = paths.credentials();
    match durable::read_if_there(&path) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|_| EnrollError::Damaged { path })
        }
        Err(source) => Err(EnrollError::Io { what: "read", path, source }),
    }
}

/// Refuses a start that could only end in asking for an option; writes nothing.
pub fn check_options(config: &Config, paths: &Paths) -> Result<(), EnrollError> {
    if load(paths)?.is_some() { Ok(()) } else { Needed::of(config).map(drop) }
}

/// What enrolling takes.
struct Needed<'a> {
    server: &'a Url,
    device_id: &'a DeviceId,
    token: &'a Secret,
}

impl<'a> Needed<'a> {
    fn of(config: &'a Config) -> Result<Self, EnrollError> {
        let missing = |missing| EnrollError::Missing { missing };
        Ok(Self {
            server: config.server.as_ref().ok_or(missing("server"))?,
            device_id: config.device_id.as_ref().ok_or(missing("device-id"))?,
            token: config.token.as_ref().ok_or(missing("token-file"))?,
        })
    }
}

/// Gives the stored credentials, or enrols; tries until the server has answered.
pub async fn ensure(
    config: &Config,
    paths: &Paths,
    clock: &dyn Clock,
) -> Result<Credentials, EnrollError> {
    if let Some(mut stored) = load(paths)? {
        if let Some(asked) = config.device_id.as_ref().filter(|asked| **asked != stored.device_id) {
            return Err(EnrollError::OtherDevice {
                stored: stored.device_id,
                asked: asked.clone(),
                path: paths.credentials(),
            });
        }
        if let Some(server) = &config.server {
            stored.server = server.clone();
        }
        stored.ca_pem = config.ca_pem.clone().or(stored.ca_pem);
        check_plaintext(&stored, config)?;
        return Ok(stored);
    }
    let Needed { server, device_id, token } = Needed::of(config)?;
    let request = EnrollRequest {
        token: token.0.clone(),
        device_id: device_id.clone(),
        csr_pem: None,
        kind: config.kind.clone(),
        tags: config.tags.clone(),
        nonce: Some(nonce(paths, clock)?),
    };
    let answer = ask_until_answered(server, config, &request, clock).await?;
    let credentials = accept(answer, server, config)?;
    let path = paths.credentials();
    let bytes = serde_json::to_vec_pretty(&credentials).expect("plain data");
    durable::write_private(&path, &bytes).map_err(|source| EnrollError::Io {
        what: "write",
        path,
        source,
    })?;
    let path = paths.nonce();
    durable::remove(&path).map_err(|source| EnrollError::Io { what: "remove", path, source })?;
    tracing::info!(project = %credentials.project_id, device = %credentials.device_id, "enrolled");
    Ok(credentials)
}

/// Reads the nonce of an enrolment under way, or saves a new one.
fn nonce(paths: &Paths, clock: &dyn Clock) -> Result<String, EnrollError> {
    let path = paths.nonce();
    if let Ok(stored) = fs::read_to_string(&path)
        && !stored.is_empty()
    {
        return Ok(stored);
    }
    let nonce = format!("{}{}", clock.random_id().simple(), clock.random_id().simple());
    durable::write_private(&path, nonce.as_bytes()).map_err(|source| EnrollError::Io {
        what: "write",
        path,
        source,
    })?;
    Ok(nonce)
}

async fn ask_until_answered(
    server: &Url,
    config: &Config,
    request: &EnrollRequest,
    clock: &dyn Clock,
) -> Result<EnrollResponse, EnrollError> {
    let client = http::client(config.ca_pem.as_deref())?;
    let url = api(server, "enroll");
    let mut backoff = Backoff::new(RETRY_FIRST_MS, RETRY_MOST_MS);
    loop {
        let why = match client.post(url.clone()).json(request).send().await {
            Err(error) => http::describe(&error),
            Ok(response) => {
                let status = response.status();
                let body = read_capped(response).await;
                match body {
                    Ok(body) if status.is_success() => {
                        return serde_json::from_slice(&body)
                            .map_err(|error| EnrollError::Answer { what: error.to_string() });
                    }
                    Ok(body) if !is_temporary(status) => {
                        return Err(refusal(status, &body, &request.device_id));
                    }
                    Ok(_) => format!("the server answered {status}"),
                    Err(why) => why,
                }
            }
        };
        let wait_ms = backoff.next_ms(clock);
        tracing::warn!(server = %url, why, wait_ms, "cannot enrol yet");
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

async fn read_capped(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| http::describe(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX_BYTES {
            return Err("the answer is too long".to_owned());
        }
    }
    Ok(body)
}

fn refusal(status: StatusCode, body: &[u8], device_id: &DeviceId) -> EnrollError {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = ["detail", "title", "code"]
        .iter()
        .find_map(|key| problem[key].as_str())
        .unwrap_or("no reason given");
    let detail = quarterdeck_protocol::text::line(detail).chars().take(300).collect();
    match status {
        StatusCode::CONFLICT => EnrollError::Exists { device_id: device_id.clone() },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => EnrollError::Token { status, detail },
        _ => EnrollError::Refused { status, detail },
    }
}

fn accept(
    answer: EnrollResponse,
    server: &Url,
    config: &Config,
) -> Result<Credentials, EnrollError> {
    let unusable = |what: &str| EnrollError::Answer { what: what.to_owned() };
    let credentials = Credentials {
        server: server.clone(),
        project_id: answer.project_id,
        device_id: answer.device_id,
        mqtt_url: answer.mqtt_url.parse().map_err(|_| unusable("mqtt_url is no URL"))?,
        device_secret: answer.device_secret.ok_or_else(|| unusable("it has no device_secret"))?,
        ca_pem: config.ca_pem.clone().or(answer.ca_pem),
    };
    check_plaintext(&credentials, config)?;
    Ok(credentials)
}

/// A secret goes in plaintext to this host only, unless the owner asked for it.
fn check_plaintext(credentials: &Credentials, config: &Config) -> Result<(), EnrollError> {
    let is_open = |url: &Url, safe: &str| url.scheme() != safe && !tls::is_loopback(url);
    let url = &credentials.mqtt_url;
    if !matches!(url.scheme(), "mqtt" | "mqtts") || url.host().is_none() {
        return Err(EnrollError::Answer { what: format!("{url} is no mqtt or mqtts URL") });
    }
    if config.allow_plaintext {
        return Ok(());
    }
    for (url, safe) in [(url, "mqtts"), (&credentials.server, "https")] {
        if is_open(url, safe) {
            return Err(EnrollError::Answer {
                what: format!("{url} is plaintext to another host; --allow-plaintext permits that"),
            });
        }
    }
    Ok(())
}

/// Names a route of the server's API.
pub fn api(server: &Url, route: &str) -> Url {
    let mut url = server.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/api/v1/{route}"));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_stand_under_the_servers_own_path() {
        for (server, expected) in [
            ("http://h:1", "http://h:1/api/v1/enroll"),
            ("http://h:1/", "http://h:1/api/v1/enroll"),
            ("http://h:1/deck/", "http://h:1/deck/api/v1/enroll"),
        ] {
            assert_eq!(api(&server.parse().unwrap(), "enroll").as_str(), expected);
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let device = DeviceId::new("pi-1").unwrap();
        let exists = refusal(StatusCode::CONFLICT, b"{}", &device).to_string();
        assert!(exists.contains("pi-1") && exists.contains("admin"), "{exists}");
        let token =
            refusal(StatusCode::UNAUTHORIZED, br#"{"detail":"used up"}"#, &device).to_string();
        assert!(token.contains("used up") && token.contains("new one"), "{token}");
    }
}
