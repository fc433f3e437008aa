//! The webhook's certificate authority and its server certificate: made, read, and judged by a clock that is passed in.
//!
//! No I/O here; [`crate::rotation`] keeps what this makes in a Secret. Nothing here implements `Debug` or `Serialize`
//! with a key inside, so a key can't reach a log by accident.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

/// Keys of the Secret.
const CA_CERTIFICATES: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long a certificate authority lives: 10 years. It is replaced after two thirds, so the overlap is years too.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin this much before they are made, for API servers whose clocks are behind ours.
const BACKDATE: Duration = Duration::from_mins(5);
/// A new authority signs only after the API servers have had this long to hear of it: each learns the caBundle by a
/// watch of its own, so that it stands in etcd does not mean that all of them go by it.
const AUTHORITY_SETTLES: Duration = Duration::from_mins(1);

/// What the certificate must be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name that API servers check: `<service>.<namespace>.svc`.
    pub name: String,
    /// How long a server certificate lives. It is renewed after two thirds of that.
    pub lifetime: Duration,
}

/// Why a certificate can't be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A key of the Secret is not there. The usual case is a Secret that the chart has just created.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key of the Secret holds something else.
    #[error("{0} is not PEM of the right kind")]
    Malformed(&'static str),
    /// A private key and its certificate are not of one pair.
    #[error("{key} does not belong to {certificate}")]
    KeyMismatch {
        /// Key of the Secret that holds the private key.
        key: &'static str,
        /// Key of the Secret that holds the certificate.
        certificate: &'static str,
    },
    /// Generation failed.
    #[error("failed to make certificate")]
    Generate(#[from] rcgen::Error),
    /// An API server that trusts the bundle would refuse the certificate.
    #[error("certificate would be refused: {0}")]
    Refused(String),
}

/// What the Secret holds: authorities, newest first, and the certificate that we serve.
pub struct Material {
    authorities: Vec<CertificateDer<'static>>,
    /// Belongs to the first of the authorities. The older ones only vouch for what they have signed.
    authority_key: KeyPair,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// What has to be done next about a [`Material`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing, until this time.
    NothingUntil(SystemTime),
    /// A new authority in front of the old ones.
    Authority,
    /// A new certificate, signed by the first authority.
    Certificate,
}

impl Material {
    /// A new authority and its first certificate.
    pub fn create(policy: &Policy, now: SystemTime) -> Result<Self, CertificateError> {
        let (authority, authority_key) = create_authority(now)?;
        let (certificate, key) = create_certificate(&authority, &authority_key, policy, now)?;
        Ok(Self { authorities: vec![authority], authority_key, certificate, key })
    }

    /// Reads the data of a Secret. An error means that it has to be made anew: only an empty Secret, or one that
    /// somebody edited, gives one.
    pub fn parse(data: &BTreeMap<String, ByteString>) -> Result<Self, CertificateError> {
        let text = |key| data.get(key).map(|value| value.0.as_slice()).ok_or(CertificateError::Missing(key));
        let authorities = certificates(text(CA_CERTIFICATES)?)
            .filter(|authorities| !authorities.is_empty())
            .ok_or(CertificateError::Malformed(CA_CERTIFICATES))?;
        let authority_key = std::str::from_utf8(text(CA_KEY)?)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok())
            .ok_or(CertificateError::Malformed(CA_KEY))?;
        let certificate = CertificateDer::from_pem_slice(text(CERTIFICATE)?)
            .ok()
            .filter(|certificate| validity(certificate).is_some())
            .ok_or(CertificateError::Malformed(CERTIFICATE))?;
        let key = PrivateKeyDer::from_pem_slice(text(KEY)?).map_err(|_| CertificateError::Malformed(KEY))?;
        let material = Self { authorities, authority_key, certificate, key };
        material.pairs_match()?;
        Ok(material)
    }

    /// The data of the Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let certificate = pem("CERTIFICATE", &self.certificate);
        let key = pem("PRIVATE KEY", self.key.secret_der());
        [
            (CA_CERTIFICATES, self.bundle()),
            (CA_KEY, self.authority_key.serialize_pem().into_bytes()),
            (CERTIFICATE, certificate.into_bytes()),
            (KEY, key.into_bytes()),
        ]
        .map(|(name, value)| (name.to_owned(), ByteString(value)))
        .into()
    }

    /// The authorities as PEM: what the caBundle has to be.
    pub fn bundle(&self) -> Vec<u8> {
        self.authorities
            .iter()
            .map(|authority| pem("CERTIFICATE", authority))
            .collect::<String>()
            .into_bytes()
    }

    /// When the certificate ends.
    pub fn expiry(&self) -> SystemTime {
        validity(&self.certificate).map_or(SystemTime::UNIX_EPOCH, |(_, end)| end)
    }

    /// [`verify`] for this certificate.
    pub fn verify(&self, bundle: &[u8], name: &str, now: SystemTime) -> Result<(), CertificateError> {
        verify(&self.certificate, bundle, name, now)
    }

    /// What to do next, given the caBundle (PEM) that API servers go by.
    pub fn need(&self, bundle: &[u8], policy: &Policy, now: SystemTime) -> Need {
        let Some((authority_begin, authority_end)) = validity(&self.authorities[0]) else {
            return Need::Authority;
        };
        if left(authority_end, now) < AUTHORITY_LIFETIME / 3 {
            return Need::Authority;
        }
        let first = pem("CERTIFICATE", &self.authorities[0]);
        let sound = self.verify(first.as_bytes(), &policy.name, now).is_ok();
        let left = left(self.expiry(), now);
        // The second half finds a certificate made before the lifetime was shortened.
        if sound && left > policy.lifetime / 3 && left <= policy.lifetime + AUTHORITY_SETTLES {
            return Need::NothingUntil(self.expiry() - policy.lifetime / 3);
        }
        let settled = authority_begin + BACKDATE + AUTHORITY_SETTLES;
        if now < settled && !sound && self.verify(bundle, &policy.name, now).is_ok() {
            return Need::NothingUntil(settled);
        }
        Need::Certificate
    }

    /// With what it needs. An authority that has ended is dropped.
    pub fn renewed(mut self, need: Need, policy: &Policy, now: SystemTime) -> Result<Self, CertificateError> {
        match need {
            Need::NothingUntil(_) => {}
            Need::Authority => {
                self.authorities.retain(|old| validity(old).is_some_and(|(_, end)| end > now));
                let (authority, key) = create_authority(now)?;
                self.authorities.insert(0, authority);
                self.authority_key = key;
            }
            Need::Certificate => {
                (self.certificate, self.key) =
                    create_certificate(&self.authorities[0], &self.authority_key, policy, now)?;
            }
        }
        Ok(self)
    }

    /// The certificate and its key, as rustls serves them.
    pub fn certified_key(&self) -> Result<CertifiedKey, CertificateError> {
        CertifiedKey::from_der(vec![self.certificate.clone()], self.key.clone_key(), &provider())
            .map_err(|_| CertificateError::KeyMismatch { key: KEY, certificate: CERTIFICATE })
    }

    fn pairs_match(&self) -> Result<(), CertificateError> {
        self.certified_key()?;
        let authority_key = PrivateKeyDer::try_from(self.authority_key.serialize_der())
            .map_err(|_| CertificateError::Malformed(CA_KEY))?;
        CertifiedKey::from_der(vec![self.authorities[0].clone()], authority_key, &provider())
            .map(|_| ())
            .map_err(|_| CertificateError::KeyMismatch { key: CA_KEY, certificate: CA_CERTIFICATES })
    }
}

/// The cryptography of everything here: ring, passed rather than taken from the process-wide default, so that nothing
/// depends on who installed that first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whether an API server that trusts `bundle` (PEM) would accept the certificate at `now`, by the rules of any TLS
/// client: signature, dates, name, purpose.
pub fn verify(
    certificate: &CertificateDer<'_>,
    bundle: &[u8],
    name: &str,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let refused = |error: &dyn std::fmt::Display| CertificateError::Refused(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(bundle).unwrap_or_default());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| refused(&error))?;
    let name = ServerName::try_from(name).map_err(|error| refused(&error))?;
    verifier
        .verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(since_epoch(now)))
        .map(|_| ())
        .map_err(|error| refused(&error))
}

fn create_authority(now: SystemTime) -> Result<(CertificateDer<'static>, KeyPair), CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "outrigger-webhook-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, now, AUTHORITY_LIFETIME);
    Ok((params.self_signed(&key)?.into(), key))
}

fn create_certificate(
    authority: &CertificateDer<'_>,
    authority_key: &KeyPair,
    policy: &Policy,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![policy.name.clone()])?;
    // No name in the subject: a common name has 64 characters at most, and clients go by the alternative name.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "outrigger-webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, policy.lifetime);
    let issuer = Issuer::from_ca_cert_der(authority, authority_key)?;
    let certificate = params.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| CertificateError::Malformed(KEY))?;
    Ok((certificate.into(), key))
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(now).saturating_sub(BACKDATE);
    params.not_after = epoch + since_epoch(now) + lifetime;
}

/// Begin and end; none where it is no certificate.
fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |asn1: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(asn1.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    Some((time(parsed.validity.not_before)?, time(parsed.validity.not_after)?))
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

/// 64 characters a line, as every other tool writes it.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn left(end: SystemTime, now: SystemTime) -> Duration {
    end.duration_since(now).unwrap_or_default()
}

/// Since 1970; zero for a clock that is set before that.
pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
