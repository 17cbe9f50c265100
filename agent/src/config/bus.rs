//! The settings of the device's bus.

use url::Url;

use super::{ConfigError, Secret};
use crate::{
    io::tls,
    runner::bus::{Scope, mqtt::Broker},
    workflow::topic::is_plain,
};

const DEFAULT_ROOT: &str = "te";
const DEFAULT_TARGET: &str = "device/main//";
/// The longest target: a command's topic has room for more behind it.
const TARGET_MAX_BYTES: usize = 1024;
/// Segments of a target.
const TARGET_SEGMENTS: usize = 4;

/// Reads the broker's URL.
pub(super) fn parse_url(
    text: &str,
    allow_plaintext: bool,
    has_ca: bool,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Url, ConfigError> {
    let expected = "a URL such as mqtt://127.0.0.1:1883";
    let url: Url = text.parse().map_err(|_| wrong("bus", expected))?;
    let is_good = matches!(url.scheme(), "mqtt" | "mqtts")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_good {
        return Err(wrong("bus", expected));
    }
    let is_tls = url.scheme() == "mqtts";
    if !is_tls && !tls::is_loopback(&url) && !allow_plaintext {
        return Err(wrong("bus", "mqtts, since it is another host; or ask for allow_plaintext"));
    }
    if is_tls && !has_ca {
        return Err(wrong("bus", "a ca_file beside it, to know an mqtts broker by"));
    }
    Ok(url)
}

/// Says where the broker is and as whom to connect; a password of its own wins over the URL's.
pub(super) fn broker(mut url: Url, password: Option<Secret>, ca_pem: Option<String>) -> Broker {
    let in_url = url.password().map(|password| Secret(unescaped(password)));
    let username = unescaped(url.username());
    // What is left of it may be logged.
    if url.set_password(None).is_err() || url.set_username("").is_err() {
        tracing::debug!("the bus's URL cannot hold a user");
    }
    Broker { url, username, password: password.or(in_url), ca_pem }
}

fn unescaped(text: &str) -> String {
    let pairs = format!("v={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(pairs.as_bytes());
    pairs.next().map_or_else(String::new, |(_, value)| value.into_owned())
}

/// Checks the topics' root and this agent's target; the children come later.
pub(super) fn scope(
    root: Option<String>,
    target: Option<String>,
    wrong: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Scope, ConfigError> {
    let root = root.unwrap_or_else(|| DEFAULT_ROOT.to_owned());
    if root.is_empty() || root.starts_with('/') || root.ends_with('/') || !is_plain(&root) {
        return Err(wrong("bus_root", "a topic's beginning such as te, without + and #"));
    }
    let target = target.unwrap_or_else(|| DEFAULT_TARGET.to_owned());
    if !is_target(&target) {
        return Err(wrong("target", "four segments such as device/main//, without + and #"));
    }
    Ok(Scope { root, target, children: Vec::new() })
}

/// Whether a text can stand for a target in topics.
pub(super) fn is_target(text: &str) -> bool {
    let has_room = text.len() <= TARGET_MAX_BYTES;
    text.split('/').count() == TARGET_SEGMENTS && text != "///" && is_plain(text) && has_room
}
