//! What one port makes of its Secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::config::{Inbound, Protocol};
use outrigger_api::tls::{ClientCertificateMode, TlsSpec};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, client};

use crate::secrets::Held;
use crate::tls::secret::{self, Served, TlsError};

/// Sessions of TLS 1.2 that clients without tickets may resume, of one port. Each takes about 200 bytes.
const KEPT_SESSIONS: usize = 1024;

/// The name of HTTP/2 in ALPN, RFC 9113 section 3.1.
const HTTP2: &[u8] = b"h2";

/// What clients' handshakes on one port go by.
#[derive(Debug)]
pub(crate) struct Terminator {
    config: Arc<ServerConfig>,
    /// The same without HTTP/2.
    http1: Arc<ServerConfig>,
    /// When the certificate of each Secret ends, in seconds since the Unix epoch.
    pub(crate) not_after: Vec<(String, i64)>,
    spec: TlsSpec,
    http: bool,
    secrets: PathBuf,
    fingerprint: u64,
}

impl Held for Terminator {
    type Of = Inbound;
    type Error = TlsError;

    fn load(inbound: &Inbound, secrets: &Path) -> Option<Result<Self, TlsError>> {
        let spec = inbound.tls.clone()?;
        Some(Self::read(spec, inbound.protocol != Protocol::Tcp, secrets))
    }

    fn renewed(&self) -> Option<Result<Self, TlsError>> {
        if fingerprint(&self.spec, &self.secrets) == self.fingerprint {
            return None;
        }
        let renewed = Self::read(self.spec.clone(), self.http, &self.secrets);
        Some(renewed.map(|mut renewed| {
            // Clients go on with the sessions that they have.
            let mut config = ServerConfig::clone(&renewed.config);
            config.ticketer = Arc::clone(&self.config.ticketer);
            config.session_storage = Arc::clone(&self.config.session_storage);
            renewed.http1 = without_http2(&config);
            renewed.config = Arc::new(config);
            renewed
        }))
    }

    fn is_of(&self, inbound: &Inbound) -> bool {
        inbound.tls.as_ref() == Some(&self.spec) && (inbound.protocol != Protocol::Tcp) == self.http
    }
}

impl Terminator {
    fn read(spec: TlsSpec, http: bool, secrets: &Path) -> Result<Self, TlsError> {
        // Before the files are read: a change meanwhile is then found by the next look.
        let fingerprint = fingerprint(&spec, secrets);
        let provider = Arc::new(default_provider());
        let mut keys = Vec::new();
        let mut not_after = Vec::new();
        for name in [&spec.secret_name].into_iter().chain(&spec.more_secret_names) {
            let Served { key, not_after: end } = secret::served(&secrets.join(name), &provider)?;
            keys.push(key);
            not_after.push((name.clone(), end));
        }
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(secret::versions(spec.min_version))
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(verifier(&spec, secrets)?);
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(keys)));
        if http {
            config.alpn_protocols = [HTTP2, b"http/1.1"].map(<[u8]>::to_vec).into();
        }
        // All that are offered are good; scanners ask for an order of the server's own all the same, and ours begins with what its CPU does
        // in hardware.
        config.ignore_client_order = true;
        if spec.client_certificates.is_some() {
            // The library does not look at a client's certificate again when its session is resumed, and each brings another ticket: one that
            // has ended would be good for ever. To end the connection after such a handshake would shut out who has a new one and an old ticket.
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        } else {
            // The library sends two, for clients that use each once and connect twice at a time. One with each connection is enough for as
            // many as end, and what it costs to make and to send is no small part of a handshake.
            config.send_tls13_tickets = 1;
            config.ticketer = Ticketer::new().map_err(TlsError::Setup)?;
            config.session_storage = ServerSessionMemoryCache::new(KEPT_SESSIONS);
        }
        let (http1, config, secrets) = (without_http2(&config), Arc::new(config), secrets.to_owned());
        Ok(Self { config, http1, not_after, spec, http, secrets, fingerprint })
    }

    /// What a handshake goes by, before an app that speaks HTTP/2 or one that does not.
    pub(crate) fn config(&self, http2: bool) -> Arc<ServerConfig> {
        Arc::clone(if http2 { &self.config } else { &self.http1 })
    }

    /// Whether clients choose a version of HTTP.
    pub(crate) fn is_http(&self) -> bool {
        self.http
    }

    /// Whether the app is to know the subject of clients' certificates.
    pub(crate) fn tells_subject(&self) -> bool {
        self.spec.client_certificates.as_ref().is_some_and(|clients| clients.subject_header.is_some())
    }
}

fn without_http2(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols.retain(|protocol| protocol != HTTP2);
    Arc::new(config)
}

fn fingerprint(spec: &TlsSpec, secrets: &Path) -> u64 {
    let directories: Vec<_> = spec.secrets().map(|name| secrets.join(name)).collect();
    secret::fingerprint(directories.iter().map(PathBuf::as_path))
}

fn verifier(spec: &TlsSpec, secrets: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(clients) = &spec.client_certificates else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let directory = secrets.join(&clients.secret_name);
    let roots = Arc::new(secret::authorities(&directory)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(default_provider()));
    let builder = match clients.mode {
        ClientCertificateMode::Required => builder,
        ClientCertificateMode::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| TlsError::Authorities { path: directory, error })
}

/// The certificates of a port; the first for who asks for no name, or for one that none is made out to.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().filter(|_| self.0.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|key| is_for(key, &name)));
        named.or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    leaf.is_some_and(|leaf| client::verify_server_name(&leaf, name).is_ok())
}
