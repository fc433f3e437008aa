//! What credentials are judged by, read from Secrets: an issuer's keys, users, and the hashes of API keys.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use outrigger_api::auth::AuthSpec;
use outrigger_api::config::Inbound;

use crate::auth::jwks::Issuer;
use crate::auth::users::{BadLine, Users};
use crate::secrets::Held;

const JWKS: &str = "jwks.json";
const HTPASSWD: &str = "htpasswd";

/// Why a Secret's keys can't be used. The message names the file, and never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// No such file: a Secret of another kind, or none.
    #[error("failed to read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{} can't be used: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It has a line that is no user.
    #[error("{} can't be used: {error}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        error: BadLine,
    },
}

/// The keys of one port.
pub(crate) struct Keys {
    pub(super) issuer: Issuer,
    /// Names of clients, by the SHA-256 of their keys.
    clients: HashMap<[u8; 32], String>,
    pub(super) users: Users,
    spec: AuthSpec,
    secrets: PathBuf,
    fingerprint: u64,
}

/// Without the keys.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Held for Keys {
    type Of = Inbound;
    type Error = KeysError;

    fn load(inbound: &Inbound, secrets: &Path) -> Option<Result<Self, KeysError>> {
        Some(Self::read(inbound.auth.as_ref()?, secrets))
    }

    fn renewed(&self) -> Option<Result<Self, KeysError>> {
        let changed = fingerprint(&self.spec, &self.secrets) != self.fingerprint;
        changed.then(|| Self::read(&self.spec, &self.secrets))
    }

    fn is_of(&self, inbound: &Inbound) -> bool {
        inbound.auth.as_ref() == Some(&self.spec)
    }
}

impl Keys {
    pub(super) fn read(spec: &AuthSpec, secrets: &Path) -> Result<Self, KeysError> {
        // Before the files are read: a change meanwhile is then found by the next look.
        let fingerprint = fingerprint(spec, secrets);
        let issuer = spec.jwt.as_ref().map(|jwt| issuer(&secrets.join(&jwt.secret_name).join(JWKS)));
        let clients = spec.api_key.as_ref().map(|keys| clients(&secrets.join(&keys.secret_name)));
        let users = spec.basic.as_ref().map(|basic| users(&secrets.join(&basic.secret_name).join(HTPASSWD)));
        Ok(Self {
            users: users.transpose()?.unwrap_or_else(Users::none),
            issuer: issuer.transpose()?.unwrap_or_default(),
            clients: clients.transpose()?.unwrap_or_default(),
            spec: spec.clone(),
            secrets: secrets.to_owned(),
            fingerprint,
        })
    }

    /// The client that has this key. By its hash, so the time that it takes tells nothing of any key.
    pub(super) fn client(&self, key: &[u8]) -> Option<&str> {
        self.clients.get(&sha256(key)).map(String::as_str)
    }

    /// Which of the issuer's keys can't be used, and why.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.issuer.left_out
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn issuer(path: &Path) -> Result<Issuer, KeysError> {
    let bytes = fs::read(path).map_err(|error| KeysError::Read { path: path.to_owned(), error })?;
    let issuer = Issuer::parse(&bytes).map_err(|why| KeysError::Content { path: path.to_owned(), why })?;
    for left_out in &issuer.left_out {
        tracing::warn!(path = %path.display(), "a key of the issuer is left out: {left_out}");
    }
    Ok(issuer)
}

fn users(path: &Path) -> Result<Users, KeysError> {
    let text = fs::read_to_string(path).map_err(|error| KeysError::Read { path: path.to_owned(), error })?;
    Users::parse(&text).map_err(|error| KeysError::Users { path: path.to_owned(), error })
}

fn clients(directory: &Path) -> Result<HashMap<[u8; 32], String>, KeysError> {
    let mut clients = HashMap::new();
    let entries =
        entries(directory).map_err(|error| KeysError::Read { path: directory.to_owned(), error })?;
    for (name, path) in entries {
        let bytes = fs::read(&path).map_err(|error| KeysError::Read { path: path.clone(), error })?;
        let hash = unhex(bytes.trim_ascii())
            .ok_or(KeysError::Content { path, why: "it is no SHA-256 in hexadecimal".to_owned() })?;
        clients.insert(hash, name);
    }
    Ok(clients)
}

/// A Secret's entries, in their order: what begins with two points is the kubelet's.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?;
    }
    Some(bytes)
}

/// A number that changes with the files.
fn fingerprint(spec: &AuthSpec, secrets: &Path) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    let mut files = Vec::new();
    files.extend(spec.jwt.iter().map(|jwt| secrets.join(&jwt.secret_name).join(JWKS)));
    files.extend(spec.basic.iter().map(|basic| secrets.join(&basic.secret_name).join(HTPASSWD)));
    let of_keys =
        spec.api_key.iter().flat_map(|keys| entries(&secrets.join(&keys.secret_name)).unwrap_or_default());
    files.extend(of_keys.map(|(_, path)| path));
    for file in files {
        hasher.write(file.as_os_str().as_encoded_bytes());
        let bytes = fs::read(file).unwrap_or_default();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes);
    }
    hasher.finish()
}
