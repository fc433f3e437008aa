//! The sidecar config, read from its file, and read again when it changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use outrigger_api::config::{ConfigError, SidecarConfig};

/// Why the config can't be used. The message names the file.
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
    /// Not JSON, or not a sidecar config.
    #[error("sidecar config {} is not usable: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ConfigError,
    },
}

/// Reads and checks the config.
pub fn load(path: &Path) -> Result<SidecarConfig, LoadError> {
    let text = fs::read_to_string(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    SidecarConfig::parse(&text).map_err(|error| LoadError::Unusable { path: path.to_owned(), error })
}

/// A config file, to be asked whether it has changed. The kubelet replaces it through a symbolic link, so its time of change is
/// that of a new file.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl Watched {
    /// Watches `path`, as it is now.
    pub fn new(path: PathBuf) -> Self {
        let modified = modified(&path);
        Self { path, modified }
    }

    /// The config, if the file has changed since this was last asked.
    pub fn changed(&mut self) -> Option<Result<SidecarConfig, LoadError>> {
        let now = modified(&self.path);
        if now == self.modified || now.is_none() {
            return None;
        }
        self.modified = now;
        Some(load(&self.path))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
