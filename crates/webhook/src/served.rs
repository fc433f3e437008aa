//! The certificate that new TLS connections get.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::x509::provider;

/// Holds the certificate; clones share it. Replacing it touches no connection that is open.
///
/// An `ArcSwap` rather than a lock, because a handshake reads it in rustls's own synchronous code.
#[derive(Clone, Default)]
pub struct Served(Arc<ArcSwapOption<CertifiedKey>>);

impl Served {
    /// Serves this one from the next handshake on.
    pub fn replace(&self, certificate: Arc<CertifiedKey>) {
        self.0.store(Some(certificate));
    }

    /// The certificate and its intermediates, if there is one yet.
    pub fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.0.load().as_ref().map(|current| current.cert.clone())
    }

    /// The certificate in DER, if there is one yet.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let current = self.0.load();
        Some(current.as_ref()?.end_entity_cert().ok()?.to_vec())
    }

    /// TLS 1.2 and 1.3, HTTP/1.1 only: API servers offer webhooks nothing else, so that their requests spread over the
    /// replicas (kubernetes#75791), and what is not spoken can't be attacked.
    pub fn tls(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // API servers keep connections, not sessions. A resumed session would also go by the certificate of its time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("certificate", &self.0.load().is_some()).finish()
    }
}
