//! Where load enters: a replica, or HAProxy with TLS.

use awc::{Client, Connector};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the head of an answer; nothing in a test takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// An address, and what its certificate must be.
#[derive(Clone, Debug)]
pub struct Door {
    pub base: String,
    root: Option<CertificateDer<'static>>,
}

impl Door {
    pub fn plain(address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), root: None }
    }

    /// With TLS, for `localhost`; `root` is the only certificate that is trusted.
    pub fn tls(port: u16, root: CertificateDer<'static>) -> Self {
        Self { base: format!("https://localhost:{port}"), root: Some(root) }
    }

    /// A client with connections of its own.
    pub fn client(&self) -> Client {
        let connector = Connector::new().limit(0);
        let connector = match &self.root {
            None => connector,
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root.clone()).unwrap();
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                connector.rustls_0_23(Arc::new(config))
            }
        };
        Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish()
    }
}
