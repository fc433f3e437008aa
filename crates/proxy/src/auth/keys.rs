//! What credentials are judged by, read from Secrets: an issuer's keys (RFC 7517), users, and the hashes of API keys.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outrigger_api::auth::AuthSpec;
use outrigger_api::config::Inbound;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use ring::{digest, hmac, signature};
use serde::Deserialize;

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
        why: &'static str,
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
    issuer: Vec<Key>,
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

/// One key of an issuer.
struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    alg: Option<String>,
    material: Material,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, as X9.62 writes it.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

/// As a set has it; fields that are for other kinds of keys are not there.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
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

    /// Whether one of the issuer's keys has signed this. The algorithm is the token's word, so it counts only for keys of its kind: a
    /// public key is no secret for HMAC.
    pub(super) fn verify(
        &self,
        alg: &str,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), &'static str> {
        if !ALGORITHMS.contains(&alg) {
            return Err("an algorithm that is not taken");
        }
        let named = |key: &&Key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid;
        let for_it = |key: &&Key| key.alg.as_deref().is_none_or(|own| own == alg);
        let mut candidates = self.issuer.iter().filter(named).filter(for_it);
        let good = candidates.any(|key| key.material.has_signed(alg, signed, signature));
        if good { Ok(()) } else { Err("not signed by the issuer") }
    }
}

const ALGORITHMS: [&str; 12] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384",
    "HS512",
];

impl Material {
    fn has_signed(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let parameters = match alg {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Self::P256(point) if alg == "ES256" => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Self::P384(point) if alg == "ES384" => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Self::Ed25519(point) if alg == "EdDSA" => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(signed, signature).is_ok()
            }
            Self::Secret(secret) => {
                let algorithm = match alg {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return false,
                };
                // In constant time.
                hmac::verify(&hmac::Key::new(algorithm, secret), signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn issuer(path: &Path) -> Result<Vec<Key>, KeysError> {
    let bad = |why| KeysError::Content { path: path.to_owned(), why };
    let bytes = fs::read(path).map_err(|error| KeysError::Read { path: path.to_owned(), error })?;
    let set: Set = serde_json::from_slice(&bytes).map_err(|_| bad("it is no JWK set"))?;
    let mut keys = Vec::new();
    // Keys of kinds that are not known, and those to encrypt with, are for others (RFC 7517 5).
    for jwk in set.keys.iter().filter(|jwk| jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig")) {
        if let Some(material) = material(jwk).map_err(bad)? {
            keys.push(Key { kid: jwk.kid.clone(), alg: jwk.alg.clone(), material });
        }
    }
    if keys.is_empty() { Err(bad("it has no key that can be used")) } else { Ok(keys) }
}

/// RFC 7518 6 and RFC 8037 2.
fn material(jwk: &Jwk) -> Result<Option<Material>, &'static str> {
    let part = |value: &Option<String>| {
        let value = value.as_ref().ok_or("a key lacks a part")?;
        URL_SAFE_NO_PAD.decode(value).map_err(|_| "a part of a key is no base64url")
    };
    let point = |length: usize| {
        let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
        let right = x.len() == length && y.len() == length;
        if right { Ok([&[4], &x[..], &y].concat()) } else { Err("a point of a key has another length") }
    };
    Ok(match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Some(Material::Rsa { n: part(&jwk.n)?, e: part(&jwk.e)? }),
        ("EC", Some("P-256")) => Some(Material::P256(point(32)?)),
        ("EC", Some("P-384")) => Some(Material::P384(point(48)?)),
        ("OKP", Some("Ed25519")) => Some(Material::Ed25519(part(&jwk.x)?)),
        ("oct", _) => {
            let secret = part(&jwk.k)?;
            // RFC 7518 3.2: what is shorter can be guessed.
            if secret.len() < 32 {
                return Err("a secret for HMAC is shorter than 32 bytes");
            }
            Some(Material::Secret(secret))
        }
        _ => None,
    })
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
            .ok_or(KeysError::Content { path, why: "it is no SHA-256 in hexadecimal" })?;
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
