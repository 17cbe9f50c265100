//! Where a server is: parsed once, with the rule on plaintext (chapters 1 and 9).

use std::fmt;

use quarterdeck_protocol::text;
use url::{Host, Url};

/// The server of a console that was told nothing.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8470";

/// A server's base URL: http or https, with a host, without credentials, query or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Server(Url);

/// Says why a text names no server that may be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    #[error(
        "server {value:?}: expected a URL such as https://fleet.example.com or {DEFAULT_SERVER}, {reason}"
    )]
    Malformed { value: String, reason: String },
    #[error(
        "server {value}: plain http to another machine lets anyone on the way read passwords and send commands; \
         use https, or allow it by name with --allow-plaintext"
    )]
    Plaintext { value: String },
}

impl Server {
    /// Parses a URL; refuses plain http to another machine unless `allow_plaintext`.
    pub fn new(value: &str, allow_plaintext: bool) -> Result<Self, InvalidServer> {
        // The text may hold a password by mistake, so a refusal never repeats what stands before an `@`.
        let shown = text::line(value.rsplit_once('@').map_or(value, |(_, host)| host)).into_owned();
        let malformed = |reason: &str| InvalidServer::Malformed {
            value: shown.clone(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(value).map_err(|e| malformed(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(malformed("with the scheme http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("without a user name or password; use quarterdeck login"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("without a query"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let server = Self(url);
        if server.is_plaintext() && !server.is_loopback() && !allow_plaintext {
            return Err(InvalidServer::Plaintext { value: server.to_string() });
        }
        Ok(server)
    }

    /// Whether the server is this machine.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }

    /// Whether it is spoken to in the clear.
    pub fn is_plaintext(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Builds the URL of a route under `/api/v1`; `None` when a segment is empty or only dots,
    /// because such a segment would name another route.
    pub fn route(&self, segments: &[&str]) -> Option<Url> {
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return None;
        }
        let mut url = self.0.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(["api", "v1"]).extend(segments);
        Some(url)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_for_this_machine_or_asked_for_by_name() {
        for good in [
            "http://127.0.0.1:8470",
            "http://localhost",
            "http://[::1]:80",
            "https://fleet.example",
        ] {
            assert!(Server::new(good, false).is_ok(), "{good}");
        }
        for plain in ["http://10.0.0.5:8470", "http://fleet.example", "http://localhost.evil"] {
            assert!(
                matches!(Server::new(plain, false), Err(InvalidServer::Plaintext { .. })),
                "{plain}"
            );
            assert!(Server::new(plain, true).is_ok(), "{plain}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_a_password() {
        for bad in ["https://u:hunter2@fleet.example", "https://u:hunter2@", "ftp://u:hunter2@x"] {
            let error = Server::new(bad, false).expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_route_keeps_the_prefix_and_escapes_ids() {
        let server = Server::new("https://fleet.example/qd/", false).expect("valid");
        assert_eq!(server.to_string(), "https://fleet.example/qd");
        let url = server.route(&["users", "a/b?c#d"]).expect("a route");
        assert_eq!(url.as_str(), "https://fleet.example/qd/api/v1/users/a%2Fb%3Fc%23d");
        assert!(server.route(&["users", ".."]).is_none());
        assert!(server.route(&["users", ""]).is_none());
    }
}
