//! What a Secret's directory holds, read and judged; and what is spoken by it.

use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::tls::TlsVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion, server::VerifierBuilderError};
use x509_parser::prelude::{FromDer, X509Certificate};

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Why a Secret can't be used. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No such file: a Secret of another kind, or none.
    #[error("failed to read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// What it holds can't be used together.
    #[error("certificate and key in {} can't be used: {error}", path.display())]
    Pair {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The authorities can't judge clients.
    #[error("authorities in {} can't be used: {error}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        error: VerifierBuilderError,
    },
    /// What an upstream is to be called is no name.
    #[error("{name:?} is no name that a certificate can be made out to: set serverName")]
    Name {
        /// It.
        name: String,
    },
    /// `rustls` refuses the whole: no random numbers, or the like.
    #[error("failed to set up TLS: {0}")]
    Setup(rustls::Error),
}

/// A certificate that can be served.
pub(crate) struct Served {
    pub(crate) key: Arc<CertifiedKey>,
    /// When it ends, in seconds since the Unix epoch.
    pub(crate) not_after: i64,
}

/// Reads a certificate chain and its key.
pub(crate) fn served(directory: &Path, provider: &CryptoProvider) -> Result<Served, TlsError> {
    let (chain_file, key_file) = (directory.join(CHAIN), directory.join(KEY));
    let chain = certificates(&chain_file)?;
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let not_after = leaf.map(|(_, leaf)| leaf.validity().not_after.timestamp());
    let not_after =
        not_after.ok_or_else(|| TlsError::NoPem { path: chain_file, what: "X.509 certificate" })?;
    let key = PrivateKeyDer::from_pem_slice(&read(&key_file)?)
        .map_err(|_| TlsError::NoPem { path: key_file, what: "private key" })?;
    let pair = CertifiedKey::from_der(chain, key, provider);
    let key = pair.map_err(|error| TlsError::Pair { path: directory.to_owned(), error })?;
    Ok(Served { key: Arc::new(key), not_after })
}

/// Reads the authorities that sign the certificates of others.
pub(crate) fn authorities(directory: &Path) -> Result<RootCertStore, TlsError> {
    let path = directory.join(AUTHORITIES);
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(&path)?);
    if added == 0 { Err(TlsError::NoPem { path, what: "authority's certificate" }) } else { Ok(store) }
}

/// Reads the authorities that sign an upstream's certificate, and when the first of them ends.
pub(crate) fn trusted(directory: &Path) -> Result<(RootCertStore, i64), TlsError> {
    let store = authorities(directory)?;
    let ends = certificates(&directory.join(AUTHORITIES))?.into_iter().filter_map(|certificate| {
        let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    Ok((store, ends.min().unwrap_or_default()))
}

/// What is spoken where a profile says from which version on.
pub(crate) fn versions(from: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST_FIRST: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match from {
        TlsVersion::V12 => &NEWEST_FIRST,
        TlsVersion::V13 => &NEWEST_FIRST[..1],
    }
}

/// A number that changes with the files of these directories.
pub(crate) fn fingerprint<'a>(directories: impl Iterator<Item = &'a Path>) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    for file in directories.flat_map(|directory| [CHAIN, KEY, AUTHORITIES].map(|file| directory.join(file))) {
        // Without one of them too: which are needed is seen when they are read for good.
        let bytes = fs::read(file).unwrap_or_default();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes);
    }
    hasher.finish()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsError::NoPem { path: path.to_owned(), what: "certificate" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}
