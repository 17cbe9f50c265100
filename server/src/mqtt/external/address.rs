//! Where an external broker is, who we are there, and whom we trust.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

/// `mqtt(s)://user:pass@host[:port]`, read.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub credentials: Option<(String, String)>,
}

/// Says what is wrong with the way to the broker. Shows no password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("broker URL: expected mqtt://user:pass@host[:port] or mqtts://…, {reason}")]
    Url { reason: String },
    #[error("mqtts needs the certificates that it may trust")]
    NoTrust,
    #[error("CA certificates: {reason}")]
    Ca { reason: String },
}

impl BrokerUrl {
    /// Reads a URL; the password may instead come from a file and be set in `credentials`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::Url { reason: reason.to_owned() };
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        let tls = match url.scheme() {
            "mqtt" => false,
            "mqtts" => true,
            other => return Err(refuse(&format!("not {other}://"))),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| refuse("without a host"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("with nothing after the port"));
        }
        let decode =
            |part: &str| percent_decoded(part).ok_or_else(|| refuse("with credentials in UTF-8"));
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        // An IPv6 host stands in brackets in a URL, and resolves without them.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, credentials })
    }
}

impl std::fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    // A form decodes the same but for '+', which means itself in a URL's user.
    let text = text.replace('+', "%2B");
    let pair = format!("v={text}");
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    (!value.contains('\u{FFFD}')).then(|| value.into_owned())
}

/// Trusts the CAs of a PEM file, and them alone.
pub fn trust(ca_pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
    let refuse = |reason: String| ConfigError::Ca { reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("none found".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_url_names_host_port_and_credentials() {
        let url = BrokerUrl::parse("mqtt://user:p%40ss+w@broker.example").expect("valid");
        assert_eq!((url.tls, url.host.as_str(), url.port), (false, "broker.example", 1883));
        assert_eq!(url.credentials, Some(("user".into(), "p@ss+w".into())));
        let url = BrokerUrl::parse("mqtts://[::1]:9000/").expect("valid");
        assert_eq!(
            (url.tls, url.host.as_str(), url.port, &url.credentials),
            (true, "::1", 9000, &None)
        );
    }

    #[test]
    fn a_wrong_broker_url_is_refused_and_no_password_shown() {
        for text in [
            "",
            "broker",
            "http://h",
            "mqtt://",
            "mqtt://u:secret@h/path",
            "mqtt://u:secret@h?x=1",
            "tcp://u:secret@h",
        ] {
            let error = BrokerUrl::parse(text).expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let url = BrokerUrl::parse("mqtt://u:secret@h").expect("valid");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn trust_needs_a_certificate() {
        assert!(matches!(trust(b""), Err(ConfigError::Ca { .. })));
        assert!(matches!(
            trust(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(ConfigError::Ca { .. })
        ));
    }
}
