//! One request: credentials, retries, bounds, and what an answer means.
//!
//! Only what may be repeated is repeated: `GET`, and a `POST` with an
//! `Idempotency-Key`. A refused access token is renewed once per request. No
//! redirect is followed, so a token goes nowhere but to its server.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use quarterdeck_protocol::{
    api::{Problem, RefreshRequest, Tokens},
    text,
};
use reqwest::{Method, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use super::{
    auth::{Credentials, GivenToken},
    call::Call,
    clock,
    error::ApiError,
    profile::{DEFAULT_PROFILE, Secret},
    server::Server,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one attempt may take, downloads apart.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts after the first one.
const RETRIES_MAX: u32 = 3;
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_CAP: Duration = Duration::from_secs(2);
/// The longest `Retry-After` that is waited for; a longer one is for the caller to know.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// The longest answer that is read into memory, in bytes.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;
/// The longest problem that is read, in bytes.
const PROBLEM_MAX_BYTES: usize = 64 * 1024;

/// How a client is made.
#[derive(Debug)]
pub struct ClientOptions {
    pub server: Server,
    pub credentials: Credentials,
    /// A certificate authority in PEM that is trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The profile that a login is remembered in, for hints.
    pub profile: String,
}

/// A client of one server; cheap to clone, and clones share connections and credentials.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    /// For WebSockets, which begin as HTTP/1.1; made when the first one is opened.
    http1: OnceLock<reqwest::Client>,
    recipe: Recipe,
    server: Server,
    credentials: Credentials,
    profile: String,
}

/// How HTTP clients are made.
#[derive(Debug)]
struct Recipe {
    authorities: Vec<reqwest::Certificate>,
    server: Server,
}

impl Recipe {
    fn build(&self, is_http1_only: bool) -> Result<reqwest::Client, ApiError> {
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("quarterdeck/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none());
            if is_http1_only {
                builder = builder.http1_only();
            }
            if self.server.is_loopback() {
                builder = builder.no_proxy();
            }
            builder
        };
        // Without the system's authorities: plaintext needs none, and a machine may have none.
        let ours_alone = || builder().tls_certs_only(self.authorities.clone()).build();
        let built = if self.server.is_plaintext() {
            ours_alone()
        } else {
            match builder().tls_certs_merge(self.authorities.clone()).build() {
                Err(_) if !self.authorities.is_empty() => ours_alone(),
                built => built,
            }
        };
        built.map_err(|e| ApiError::Setup(chain(&e)))
    }
}

impl Client {
    pub fn new(options: ClientOptions) -> Result<Self, ApiError> {
        // The first to come decides for the process; all of Quarterdeck decides alike.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authorities = options.ca_file.as_deref().map_or(Ok(Vec::new()), |path| {
            let wrong = |reason: String| {
                ApiError::Setup(format!("certificate authority {}: {reason}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            match reqwest::Certificate::from_pem_bundle(&pem) {
                Ok(found) if found.is_empty() => {
                    Err(wrong("expected certificates in PEM".to_owned()))
                }
                found => found.map_err(|e| wrong(chain(&e))),
            }
        })?;
        let recipe = Recipe { authorities, server: options.server.clone() };
        Ok(Self {
            inner: Arc::new(Inner {
                http: recipe.build(false)?,
                http1: OnceLock::new(),
                recipe,
                server: options.server,
                credentials: options.credentials,
                profile: options.profile,
            }),
        })
    }

    pub fn server(&self) -> &Server {
        &self.inner.server
    }

    /// Whether a login that has ended may begin anew while this client lives: that of a profile,
    /// when somebody signs in with it again.
    pub fn may_sign_in_again(&self) -> bool {
        matches!(&self.inner.credentials, Credentials::Session(session) if session.is_kept())
    }

    /// Waits until the profile holds another login than the one that has ended, and takes it up;
    /// for ever where there is no profile.
    pub(super) async fn signed_in_again(&self) {
        match &self.inner.credentials {
            Credentials::Session(session) => session.signed_in_again().await,
            Credentials::None | Credentials::Token(_) => std::future::pending().await,
        }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    pub(super) fn http1(&self) -> Result<&reqwest::Client, ApiError> {
        if let Some(client) = self.inner.http1.get() {
            return Ok(client);
        }
        let client = self.inner.recipe.build(true)?;
        Ok(self.inner.http1.get_or_init(|| client))
    }

    /// Sends a request and reads its JSON answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ApiError> {
        let name = call.name();
        let body = self.body_of(call).await?;
        serde_json::from_slice(&body)
            .map_err(|e| self.unexpected(&name, &format!("its JSON is not as agreed, {e}")))
    }

    /// Sends a request whose answer has nothing to tell.
    pub(super) async fn call_empty(&self, call: Call<'_>) -> Result<(), ApiError> {
        self.body_of(call).await.map(drop)
    }

    async fn body_of(&self, call: Call<'_>) -> Result<Vec<u8>, ApiError> {
        let mut attempt = 0;
        loop {
            let (error, wait) = match self.attempt(&call).await {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let Some(wait) = wait.filter(|_| attempt < RETRIES_MAX && call.may_be_repeated())
            else {
                return Err(error);
            };
            tracing::debug!(call = call.name(), attempt, %error, "trying again");
            tokio::time::sleep(wait + clock::backoff(attempt, RETRY_BASE, RETRY_CAP)).await;
            attempt += 1;
        }
    }

    /// One attempt; with the error comes the least wait before another one, where another makes sense.
    async fn attempt(&self, call: &Call<'_>) -> Result<Vec<u8>, (ApiError, Option<Duration>)> {
        let whole = async {
            let response = self.open(call).await?;
            let name = call.name();
            read(response, ANSWER_MAX_BYTES).await.map_err(|e| match e {
                ReadError::TooLong => (self.unexpected(&name, "it is too long"), None),
                ReadError::Broken(e) => (self.unreachable(call, &e), Some(Duration::ZERO)),
            })
        };
        tokio::time::timeout(ATTEMPT_TIMEOUT, whole).await.unwrap_or_else(|_| {
            let error = ApiError::Unreachable {
                server: self.inner.server.to_string(),
                reason: format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
                may_be_done: call.method != Method::GET,
            };
            Err((error, Some(Duration::ZERO)))
        })
    }

    /// Sends a request and gives the response once it is known to be a good one.
    pub(super) async fn open(
        &self,
        call: &Call<'_>,
    ) -> Result<Response, (ApiError, Option<Duration>)> {
        let mut refused = None;
        loop {
            let token = if call.open {
                None
            } else {
                Some(self.access(refused.as_ref()).await.map_err(|e| (e, None))?)
            };
            let request = self.request(call, token.as_ref()).map_err(|e| (e, None))?;
            let response = request
                .send()
                .await
                .map_err(|e| (self.unreachable(call, &e), Some(Duration::ZERO)))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !call.open {
                let is_session = matches!(self.inner.credentials, Credentials::Session(_));
                if is_session && refused.is_none() {
                    refused = token;
                    continue;
                }
                return Err((self.not_accepted(&self.refusal(call, response).await), None));
            }
            let wait = retry_wait(&response);
            return Err((self.refusal(call, response).await, wait));
        }
    }

    pub(super) fn request(
        &self,
        call: &Call<'_>,
        token: Option<&Secret>,
    ) -> Result<reqwest::RequestBuilder, ApiError> {
        let bad_id = || {
            let is_bad = |segment: &&&str| matches!(**segment, "" | "." | "..");
            let bad = call.segments.iter().find(is_bad).copied().unwrap_or_default();
            ApiError::BadId(bad.to_owned())
        };
        let url = self.inner.server.route(&call.segments).ok_or_else(bad_id)?;
        let mut request = self.inner.http.request(call.method.clone(), url);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token.reveal());
        }
        Ok(request)
    }

    pub(super) async fn access(&self, refused: Option<&Secret>) -> Result<Secret, ApiError> {
        match &self.inner.credentials {
            Credentials::None => Err(self.signed_out("not signed in")),
            Credentials::Token(given) => Ok(given.token.clone()),
            Credentials::Session(session) => {
                let client = self.clone();
                let refresh = async move |refresh_token| client.refresh(refresh_token).await;
                session.access(refused, refresh).await
            }
        }
    }

    async fn refresh(&self, refresh_token: Secret) -> Result<Tokens, ApiError> {
        let body = RefreshRequest { refresh_token: refresh_token.reveal().to_owned() };
        let key = refresh_key(&refresh_token);
        let call = Call::post(&["auth", "refresh"]).json(&body).key(&key).without_credentials();
        // The token is good once, but the server answers its repetition with the same key alike for
        // a moment, so that an answer lost on the way ends no session.
        let mut answer = self.attempt_open(&call).await;
        if answer.as_ref().is_err_and(ApiError::is_network) {
            tokio::time::sleep(clock::jitter(RETRY_CAP)).await;
            answer = self.attempt_open(&call).await;
        }
        match answer {
            Err(error) if matches!(error.status(), Some(400 | 401 | 403 | 422)) => {
                Err(self.signed_out("the login has ended"))
            }
            answer => answer,
        }
    }

    /// One attempt of a call that needs no credentials.
    async fn attempt_open<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        let whole = async {
            let request = self.request(call, None)?;
            let response = request.send().await.map_err(|e| self.unreachable(call, &e))?;
            if !response.status().is_success() {
                return Err(self.refusal(call, response).await);
            }
            let body = read(response, PROBLEM_MAX_BYTES)
                .await
                .map_err(|_| self.unexpected(&call.name(), "it broke off or is too long"))?;
            serde_json::from_slice(&body).map_err(|e| {
                // The body holds tokens: say where it is wrong, not what it says.
                let place = format!("its JSON is not as agreed at column {}", e.column());
                self.unexpected(&call.name(), &place)
            })
        };
        tokio::time::timeout(ATTEMPT_TIMEOUT, whole).await.unwrap_or_else(|_| {
            Err(ApiError::Unreachable {
                server: self.inner.server.to_string(),
                reason: format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
                may_be_done: false,
            })
        })
    }

    /// Sends a call that needs no credentials, once.
    pub(super) async fn call_open<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<T, ApiError> {
        self.attempt_open(&call.without_credentials()).await
    }

    pub(super) async fn refusal(&self, call: &Call<'_>, response: Response) -> ApiError {
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = read(response, PROBLEM_MAX_BYTES).await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(mut problem) => {
                if let Some(wait) = retry_after.filter(|_| status == StatusCode::TOO_MANY_REQUESTS)
                {
                    let again = format!("try again in {} s", wait.as_secs().max(1));
                    problem.detail = match problem.detail.as_str() {
                        "" => again,
                        said => format!("{said} ({again})"),
                    };
                }
                if let Some(what) = problem.detail.strip_prefix("no such ")
                    && let Some(id) = call.id_of(what)
                {
                    problem.detail = format!("no such {what}: {id}");
                }
                ApiError::Refused(Box::new(problem))
            }
            // Something on the way answered, or nothing of ours.
            Err(_) => self.unexpected(&call.name(), &format!("status {status} without a reason")),
        }
    }

    /// The command line that signs in here again.
    fn login_line(&self) -> String {
        let profile = match self.inner.profile.as_str() {
            DEFAULT_PROFILE => String::new(),
            name => format!("--profile {name} "),
        };
        format!("quarterdeck login {profile}--server {}", self.inner.server)
    }

    pub(super) fn signed_out(&self, reason: &str) -> ApiError {
        let what_now = format!("sign in with: {}", self.login_line());
        ApiError::SignedOut { reason: reason.to_owned(), what_now }
    }

    /// The server does not know who this is, or no more: `refusal` is what it said.
    pub(super) fn not_accepted(&self, refusal: &ApiError) -> ApiError {
        let Credentials::Token(GivenToken { from, .. }) = &self.inner.credentials else {
            return self.signed_out("the server does not accept this login any more");
        };
        let has_expired = refusal.code() == Some("token_expired");
        let reason = if has_expired {
            format!("the token of {from} has expired")
        } else {
            format!("the server does not accept the token of {from}")
        };
        let login = self.login_line();
        let what_now = format!("put a fresh one there, or take it away and sign in with: {login}");
        ApiError::SignedOut { reason, what_now }
    }

    pub(super) fn unexpected(&self, call: &str, reason: &str) -> ApiError {
        ApiError::Unexpected {
            server: self.inner.server.to_string(),
            call: call.to_owned(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn unreachable(&self, call: &Call<'_>, error: &reqwest::Error) -> ApiError {
        ApiError::Unreachable {
            server: self.inner.server.to_string(),
            reason: chain(error),
            may_be_done: call.method != Method::GET && !error.is_connect(),
        }
    }
}

enum ReadError {
    TooLong,
    Broken(reqwest::Error),
}

/// The `Idempotency-Key` of a refresh: the same for the same token, also after a crash of this program.
fn refresh_key(token: &Secret) -> String {
    let mut hasher = DefaultHasher::new();
    token.reveal().hash(&mut hasher);
    format!("refresh-{:016x}", hasher.finish())
}

async fn read(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(ReadError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How long to wait at least before another attempt; `None` when another would bring the same.
fn retry_wait(response: &Response) -> Option<Duration> {
    match response.status().as_u16() {
        429 => retry_after(response).filter(|wait| *wait <= RETRY_AFTER_MAX),
        502..=504 => {
            let wait = retry_after(response).unwrap_or_default();
            (wait <= RETRY_AFTER_MAX).then_some(wait)
        }
        _ => None,
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds =
        response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes, without the URL: it stands in the sentence already.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // The outermost text of reqwest says which request failed, its causes say why.
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if causes.last() != Some(&said) {
            causes.push(said);
        }
        next = cause.source();
    }
    match causes.last() {
        // "client error (Connect): tcp connect error: Connection refused": the last one is the reason.
        Some(reason) => text::line(reason).into_owned(),
        None => text::line(&error.to_string()).into_owned(),
    }
}
