//! The webhook's certificate authorities and its server certificate: read, judged and renewed, by a clock that is
//! passed in.
//!
//! No I/O here; [`crate::rotation`] keeps what this makes in a Secret. Nothing here implements `Debug` or `Serialize`
//! with a key inside, so a key can't reach a log by accident.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::x509::{
    BACKDATE, Pair, X509Error, certificates, create_authority, create_certificate, left, pem, provider,
    validity, verify,
};

/// Keys of the Secret.
const CA_CERTIFICATES: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long a certificate authority lives: 10 years. It is replaced after two thirds, so the overlap is years too.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// A new authority signs only after the API servers have had this long to hear of it: each learns the caBundle by a
/// watch of its own, so that it stands in etcd does not mean that all of them go by it. Also how long the authorities
/// of a lost Secret stay in the bundle: twice the time between two looks of a replica.
const AUTHORITY_SETTLES: Duration = Duration::from_mins(1);

/// What the certificate must be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name that API servers check: `<service>.<namespace>.svc`.
    pub name: String,
    /// How long a new server certificate lives. One that is there already keeps its own lifetime until it is renewed:
    /// during an upgrade that changes this, old and new replicas would replace each other's for ever.
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
    /// It can't be made, or would be refused.
    #[error(transparent)]
    X509(#[from] X509Error),
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
        let Pair { certificate: authority, key: authority_key } = create_authority(now, AUTHORITY_LIFETIME)?;
        let Pair { certificate, key } =
            create_certificate(&authority, &authority_key, &policy.name, now, policy.lifetime)?;
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

    /// The authorities as PEM.
    pub fn bundle(&self) -> Vec<u8> {
        bundle(&self.authorities)
    }

    /// What the caBundle has to be, given what stands there: our authorities and, while the first has not settled, the
    /// valid ones found there. Where the Secret was lost, another replica serves until its next look what one of those
    /// has signed.
    pub fn bundle_over(&self, present: &[ByteString], now: SystemTime) -> Vec<u8> {
        let mut authorities = self.authorities.clone();
        if now < self.settled() {
            for found in present.iter().flat_map(|pem| certificates(&pem.0).unwrap_or_default()) {
                if !authorities.contains(&found) && validity(&found).is_some_and(|(_, end)| end > now) {
                    authorities.push(found);
                }
            }
        }
        bundle(&authorities)
    }

    /// From when on the first authority is known everywhere.
    fn settled(&self) -> SystemTime {
        let begin = validity(&self.authorities[0]).map_or(SystemTime::UNIX_EPOCH, |(begin, _)| begin);
        begin + BACKDATE + AUTHORITY_SETTLES
    }

    /// When the certificate ends.
    pub fn expiry(&self) -> SystemTime {
        validity(&self.certificate).map_or(SystemTime::UNIX_EPOCH, |(_, end)| end)
    }

    /// After two thirds of the certificate's own lifetime.
    fn renewal(&self) -> SystemTime {
        let Some((begin, end)) = validity(&self.certificate) else { return SystemTime::UNIX_EPOCH };
        end - left(end, begin + BACKDATE) / 3
    }

    /// [`verify`] for this certificate.
    pub fn verify(&self, bundle: &[u8], name: &str, now: SystemTime) -> Result<(), X509Error> {
        verify(&self.certificate, bundle, name, now)
    }

    /// What to do next, given the caBundle (PEM) that API servers go by.
    pub fn need(&self, bundle: &[u8], policy: &Policy, now: SystemTime) -> Need {
        let Some((_, authority_end)) = validity(&self.authorities[0]) else { return Need::Authority };
        if left(authority_end, now) < AUTHORITY_LIFETIME / 3 {
            return Need::Authority;
        }
        let first = pem("CERTIFICATE", &self.authorities[0]);
        let sound = self.verify(first.as_bytes(), &policy.name, now).is_ok();
        let renewal = self.renewal();
        if sound && now < renewal {
            return Need::NothingUntil(renewal);
        }
        let settled = self.settled();
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
                let Pair { certificate, key } = create_authority(now, AUTHORITY_LIFETIME)?;
                self.authorities.insert(0, certificate);
                self.authority_key = key;
            }
            Need::Certificate => {
                let (authority, key) = (&self.authorities[0], &self.authority_key);
                let pair = create_certificate(authority, key, &policy.name, now, policy.lifetime)?;
                (self.certificate, self.key) = (pair.certificate, pair.key);
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
        let authority_key = PrivateKeyDer::Pkcs8(self.authority_key.serialize_der().into());
        CertifiedKey::from_der(vec![self.authorities[0].clone()], authority_key, &provider())
            .map(|_| ())
            .map_err(|_| CertificateError::KeyMismatch { key: CA_KEY, certificate: CA_CERTIFICATES })
    }
}

pub(crate) fn bundle(authorities: &[CertificateDer<'_>]) -> Vec<u8> {
    authorities.iter().map(|authority| pem("CERTIFICATE", authority)).collect::<String>().into_bytes()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
