//! X.509: certificates made, read and verified, with a clock that is passed in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
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

/// Certificates begin this much before they are made, for API servers whose clocks are behind ours.
pub(crate) const BACKDATE: Duration = Duration::from_mins(5);

/// Why a certificate can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum X509Error {
    /// Generation failed.
    #[error("failed to make certificate")]
    Generate(#[from] rcgen::Error),
    /// A client that trusts the bundle would refuse the certificate.
    #[error("certificate would be refused: {0}")]
    Refused(String),
}

/// A certificate and its private key.
pub(crate) struct Pair<K> {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: K,
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
) -> Result<(), X509Error> {
    verify_chain(std::slice::from_ref(certificate), bundle, name, now)
}

/// The same for a certificate that comes with its intermediates.
pub fn verify_chain(
    chain: &[CertificateDer<'_>],
    bundle: &[u8],
    name: &str,
    now: SystemTime,
) -> Result<(), X509Error> {
    let (certificate, intermediates) =
        chain.split_first().ok_or_else(|| X509Error::Refused("there is none".to_owned()))?;
    let refused = |error: &dyn std::fmt::Display| X509Error::Refused(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(bundle).unwrap_or_default());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| refused(&error))?;
    let name = ServerName::try_from(name).map_err(|error| refused(&error))?;
    verifier
        .verify_server_cert(
            certificate,
            intermediates,
            &name,
            &[],
            UnixTime::since_unix_epoch(since_epoch(now)),
        )
        .map(|_| ())
        .map_err(|error| refused(&error))
}

/// A self-signed authority that signs server certificates and no further authority.
pub(crate) fn create_authority(now: SystemTime, lifetime: Duration) -> Result<Pair<KeyPair>, X509Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "outrigger-webhook-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, now, lifetime);
    Ok(Pair { certificate: params.self_signed(&key)?.into(), key })
}

/// A server certificate for one DNS name.
pub(crate) fn create_certificate(
    authority: &CertificateDer<'_>,
    authority_key: &KeyPair,
    name: &str,
    now: SystemTime,
    lifetime: Duration,
) -> Result<Pair<PrivateKeyDer<'static>>, X509Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    // Not the name: a common name has 64 characters at most, and clients go by the alternative name.
    params.distinguished_name.push(DnType::CommonName, "outrigger-webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, lifetime);
    let issuer = Issuer::from_ca_cert_der(authority, authority_key)?;
    let certificate = params.signed_by(&key, &issuer)?.into();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(Pair { certificate, key })
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(now).saturating_sub(BACKDATE);
    params.not_after = epoch + since_epoch(now) + lifetime;
}

/// Begin and end of its validity; none where it is no certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |asn1: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(asn1.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    Some((time(parsed.validity.not_before)?, time(parsed.validity.not_after)?))
}

/// Every certificate of a PEM text; none where one is broken.
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

/// 64 characters a line, as every other tool writes it.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// From `now` to `end`; zero afterwards.
pub(crate) fn left(end: SystemTime, now: SystemTime) -> Duration {
    end.duration_since(now).unwrap_or_default()
}

/// Since 1970; zero for a clock that is set before that.
pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
