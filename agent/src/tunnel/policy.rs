//! What the device's owner allows tunnels to do: `[tunnels]` of the configuration.

use std::net::{IpAddr, SocketAddr};

/// The owner's word on tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub is_enabled: bool,
    /// Tunnels open at once.
    pub tunnels_max: usize,
    /// The shell of terminals that name no program; the user's own when absent.
    pub shell: Option<String>,
    /// Users other than the agent's own that programs may run as.
    pub users: Vec<String>,
    /// Where connections may go.
    pub connect: Vec<Place>,
    /// Where connections may be taken.
    pub listen: Vec<Place>,
}

impl Default for Policy {
    fn default() -> Self {
        let loopback =
            || ["127.0.0.1:*", "[::1]:*"].map(|text| Place::parse(text).expect("a place")).to_vec();
        Self {
            is_enabled: true,
            tunnels_max: 10,
            shell: None,
            users: Vec::new(),
            connect: loopback(),
            listen: loopback(),
        }
    }
}

/// A host and a port, either of which may be any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Address(IpAddr),
    Name(String),
}

impl Place {
    /// Reads `host:port`; `*` stands for any, an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port != 0)?),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bracketed, host) {
            (Some(inner), _) => Host::Address(IpAddr::V6(inner.parse().ok()?)),
            (None, "*") => Host::Any,
            (None, host) if host.contains(':') || host.is_empty() => return None,
            (None, host) => match host.parse() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(host.to_ascii_lowercase()),
            },
        };
        Some(Self { host, port })
    }

    /// Whether it takes in `address`, which `name` was asked for as.
    fn covers(&self, name: &str, address: SocketAddr) -> bool {
        let is_host = match &self.host {
            Host::Any => true,
            // A name that leads to an allowed address is as good as the address.
            Host::Address(allowed) => *allowed == address.ip().to_canonical(),
            Host::Name(allowed) => name.eq_ignore_ascii_case(allowed),
        };
        is_host && self.port.is_none_or(|port| port == address.port())
    }
}

/// Of the addresses that `name` leads to, those that one of `places` allows.
pub fn allowed(places: &[Place], name: &str, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_allowed = |address: &SocketAddr| places.iter().any(|place| place.covers(name, *address));
    addresses.into_iter().filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_owner_names_is_allowed() {
        let loopback = Policy::default().connect;
        let places = ["10.0.0.5:22", "db.local:5432", "*:8080", "[fe80::1]:1"]
            .map(|text| Place::parse(text).expect(text));
        for (places, name, address, expected) in [
            (&loopback[..], "localhost", "127.0.0.1:22", true),
            (&loopback[..], "localhost", "[::1]:22", true),
            (&loopback[..], "localhost", "[::ffff:127.0.0.1]:22", true),
            (&loopback[..], "evil", "10.0.0.5:22", false),
            (&loopback[..], "127.0.0.2", "127.0.0.2:22", false),
            (&places[..], "10.0.0.5", "10.0.0.5:22", true),
            (&places[..], "10.0.0.5", "10.0.0.5:23", false),
            (&places[..], "DB.local", "10.9.9.9:5432", true),
            (&places[..], "other", "10.9.9.9:5432", false),
            (&places[..], "other", "10.9.9.9:8080", true),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(!allowed(places, name, vec![address]).is_empty(), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "a", ":1", "a:", "a:0", "a:70000", "::1:22", "[::1:22", "[a]:1"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
