//! The one place that decides whom the agent believes, and what may go in plaintext.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::{Host, Url};

/// Says why a connection is not made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the CA certificate is not valid PEM")]
    Ca,
    #[error("TLS cannot be set up")]
    Setup { source: rustls::Error },
}

/// Trusts the given CA and nobody else.
pub fn client_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|_| TlsError::Ca)?;
        roots.add(certificate).map_err(|_| TlsError::Ca)?;
    }
    if ca_pem.is_some() && roots.is_empty() {
        return Err(TlsError::Ca);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Whether a URL names this very host: only there plaintext needs no permission.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // `mqtt:` is not one of URL's special schemes: its addresses come as names.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:80", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("mqtt://127.0.0.1:1883", true),
            ("mqtt://localhost", true),
            ("http://localhost.example.org", false),
            ("http://10.0.0.1", false),
            ("mqtt://broker", false),
        ] {
            assert_eq!(is_loopback(&url.parse().expect(url)), expected, "{url}");
        }
    }

    #[test]
    fn a_wrong_ca_is_refused() {
        assert!(client_config(None).is_ok());
        assert!(client_config(Some("no pem")).is_err());
    }
}
