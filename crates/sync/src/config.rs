//! The sidecar config, read from its file, and again when that changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use outrigger_api::config::{ConfigError, SidecarConfig};
use outrigger_api::sync::SyncSource;

/// Why a config can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file, or not ours to read.
    #[error("failed to read sidecar config {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a sidecar config.
    #[error("sidecar config {} is not usable: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ConfigError,
    },
    /// An entry that can't be followed.
    #[error("sidecar config {}: sync[{at}]: {fault}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry.
        at: usize,
        /// What is wrong with it.
        fault: String,
    },
    /// Other directories than at the start.
    #[error("sidecar config {}: an entry was added or taken away, whose mount the pod does not have or has still: make the pod anew", path.display())]
    OtherEntries {
        /// The file.
        path: PathBuf,
    },
}

/// A config file. The kubelet replaces it through a symbolic link, so its time of change is that of a new file.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl ConfigFile {
    /// The file at `path`, which may come later.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, modified: None }
    }

    /// Reads and checks it.
    pub fn load(&mut self) -> Result<SidecarConfig, LoadError> {
        // Before it is read, so that no change falls between.
        self.modified = modified(&self.path);
        let path = || self.path.clone();
        let text = fs::read_to_string(&self.path).map_err(|error| LoadError::Read { path: path(), error })?;
        let config =
            SidecarConfig::parse(&text).map_err(|error| LoadError::Unusable { path: path(), error })?;
        for (at, source) in config.sync.iter().enumerate() {
            if let Some(fault) = source.spec.check("spec").first() {
                return Err(LoadError::Entry { path: path(), at, fault: fault.to_string() });
            }
        }
        Ok(config)
    }

    /// The config, if the file has changed since it was last read. `entries` are those that are followed: their directories are mounts
    /// of the pod, and so are always the same.
    pub fn changed(&mut self, entries: &[SyncSource]) -> Option<Result<SidecarConfig, LoadError>> {
        let now = modified(&self.path);
        if now == self.modified || now.is_none() {
            return None;
        }
        let directories = |sources: &[SyncSource]| -> Vec<_> {
            sources.iter().map(|source| source.directory.clone()).collect()
        };
        Some(self.load().and_then(|config| {
            if directories(&config.sync) == directories(entries) {
                return Ok(config);
            }
            Err(LoadError::OtherEntries { path: self.path.clone() })
        }))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
