//! The HTTP client: made when it is needed and dropped after, since an idle
//! device needs none; many transfers at once share it.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use super::tls::{self, TlsError};

/// How long a connection may take to be made, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// How long a transfer may stand still, in milliseconds.
const READ_TIMEOUT_MS: u64 = 30_000;

/// Says why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot make an HTTP client")]
    Client { source: reqwest::Error },
}

/// Gives a client that believes `ca_pem` alone, follows no redirect and uses no proxy.
pub fn client(ca_pem: Option<&str>) -> Result<Arc<reqwest::Client>, HttpError> {
    static SHARED: Mutex<(Option<String>, Weak<reqwest::Client>)> = Mutex::new((None, Weak::new()));
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.0.as_deref() == ca_pem
        && let Some(client) = shared.1.upgrade()
    {
        return Ok(client);
    }
    let client = Arc::new(make(ca_pem)?);
    *shared = (ca_pem.map(str::to_owned), Arc::downgrade(&client));
    Ok(client)
}

fn make(ca_pem: Option<&str>) -> Result<reqwest::Client, HttpError> {
    let tls = tls::client_config(ca_pem)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .user_agent(concat!("quarterdeck-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|source| HttpError::Client { source })
}

/// Says of an error what its sources say too: reqwest's own text is only "error sending request".
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
