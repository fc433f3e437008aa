//! What the proxy makes of the Secrets of one upstream.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::config::Upstream;
use outrigger_api::origination::UpstreamTlsSpec;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use crate::secrets::{CONFIG_MAPS, Held};
use crate::tls::originate::Spoken;
use crate::tls::secret::{self, TlsError};

/// What handshakes with one upstream go by.
#[derive(Debug)]
pub(crate) struct Originator {
    /// By what is spoken in it, which ALPN says.
    configs: [Arc<ClientConfig>; Spoken::ALL.len()],
    pub(crate) name: ServerName<'static>,
    /// When the certificate of each Secret and `ConfigMap` ends, in seconds since the Unix epoch.
    pub(crate) not_after: Vec<(String, i64)>,
    spec: UpstreamTlsSpec,
    host: String,
    secrets: PathBuf,
    fingerprint: u64,
}

impl Held for Originator {
    type Of = Upstream;
    type Error = TlsError;

    fn load(upstream: &Upstream, secrets: &Path) -> Option<Result<Self, TlsError>> {
        Some(Self::read(upstream.tls.clone()?, &upstream.host, secrets))
    }

    fn renewed(&self) -> Option<Result<Self, TlsError>> {
        let changed = fingerprint(&self.spec, &self.secrets) != self.fingerprint;
        changed.then(|| Self::read(self.spec.clone(), &self.host, &self.secrets))
    }

    fn is_of(&self, upstream: &Upstream) -> bool {
        upstream.tls.as_ref() == Some(&self.spec) && upstream.host == self.host
    }
}

impl Originator {
    fn read(spec: UpstreamTlsSpec, host: &str, secrets: &Path) -> Result<Self, TlsError> {
        // Before the files are read: a change meanwhile is then found by the next look.
        let fingerprint = fingerprint(&spec, secrets);
        let name = spec.server_name.as_deref().unwrap_or(host).trim_end_matches('.');
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        let provider = Arc::new(default_provider());
        let (trusted, directory) = authorities(&spec, secrets);
        let (roots, end) = secret::trusted(&directory)?;
        let mut not_after = vec![(trusted, end)];
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Authorities { path: directory, error })?;
        let mut shown = None;
        if let Some(certificate) = &spec.client_certificate {
            let pair = secret::served(&secrets.join(&certificate.secret_name), &provider)?;
            not_after.push((certificate.secret_name.clone(), pair.not_after));
            shown = Some(Arc::new(SingleCertAndKey::from(pair.key)));
        }
        let mut configs = Vec::new();
        for spoken in Spoken::ALL {
            let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&verifier) as _;
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(secret::versions(spec.min_version))
                .map_err(TlsError::Setup)?
                // By the same rules as without a verifier of one's own, which would be made thrice.
                .dangerous()
                .with_custom_certificate_verifier(verifier);
            let mut config = match &shown {
                Some(shown) => {
                    builder.with_client_cert_resolver(Arc::clone(shown) as Arc<dyn ResolvesClientCert>)
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = spoken.alpn().iter().map(|name| name.to_vec()).collect();
            configs.push(Arc::new(config));
        }
        let configs = configs.try_into().unwrap_or_else(|_| unreachable!("one for each that may be spoken"));
        Ok(Self {
            configs,
            name,
            not_after,
            spec,
            host: host.to_owned(),
            secrets: secrets.to_owned(),
            fingerprint,
        })
    }

    pub(crate) fn config(&self, spoken: Spoken) -> Arc<ClientConfig> {
        Arc::clone(&self.configs[spoken as usize])
    }
}

/// Name and directory of whom is trusted.
fn authorities(spec: &UpstreamTlsSpec, secrets: &Path) -> (String, PathBuf) {
    match (&spec.ca.secret_name, &spec.ca.config_map_name) {
        (Some(name), _) => (name.clone(), secrets.join(name)),
        (None, name) => {
            let name = name.clone().unwrap_or_default();
            (name.clone(), secrets.join(CONFIG_MAPS).join(name))
        }
    }
}

fn fingerprint(spec: &UpstreamTlsSpec, secrets: &Path) -> u64 {
    let mut directories: Vec<_> = spec.secrets().map(|name| secrets.join(name)).collect();
    directories.push(authorities(spec, secrets).1);
    secret::fingerprint(directories.iter().map(PathBuf::as_path))
}
