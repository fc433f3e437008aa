//! Credentials, as they lie in the directory of a mounted Secret.

use std::io;
use std::path::{Path, PathBuf};

use outrigger_api::names::SECRETS_DIR;

/// Why a Secret is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A key is missing, or can't be read.
    #[error("Secret {secret} has no usable {key}: {why}")]
    Unusable {
        /// Its name.
        secret: String,
        /// The key in it.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// ssh without a Secret.
    #[error("no Secret is named, and ssh needs one with ssh-privatekey and known_hosts: git.secretName")]
    Missing,
}

/// The directory of a Secret, if one is named.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    name: String,
    directory: Option<PathBuf>,
}

impl Secret {
    /// The Secret of an entry.
    pub fn named(name: Option<&str>) -> Self {
        name.map_or_else(Self::default, |name| Self::at(name, &Path::new(SECRETS_DIR).join(name)))
    }

    /// A Secret in this directory.
    pub fn at(name: &str, directory: &Path) -> Self {
        Self { name: name.to_owned(), directory: Some(directory.to_owned()) }
    }

    /// What one of its keys holds; nothing where it has no such key.
    pub(super) fn optional(&self, key: &'static str) -> Result<Option<String>, SecretError> {
        let Some(directory) = &self.directory else { return Ok(None) };
        match std::fs::read_to_string(directory.join(key)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable(key, error.to_string())),
        }
    }

    /// The same, where it can't do without.
    pub(super) fn required(&self, key: &'static str) -> Result<String, SecretError> {
        if self.directory.is_none() {
            return Err(SecretError::Missing);
        }
        self.optional(key)?.ok_or_else(|| self.unusable(key, "it is not there".to_owned()))
    }

    /// Where a key lies, for what reads files.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.directory.clone().unwrap_or_default().join(key)
    }

    pub(super) fn unusable(&self, key: &'static str, why: String) -> SecretError {
        SecretError::Unusable { secret: self.name.clone(), key, why }
    }
}
