//! The sidecar config, read from its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use outrigger_api::config::{ConfigError, SidecarConfig};

/// Why the config can't be used. The message names the file and, where it is a field's fault, the field.
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
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("failed to parse sidecar config {}: {field}{error}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Path of the field and `": "`; empty where the fault is the document's.
        field: String,
        /// What is wrong and where.
        error: serde_json::Error,
    },
    /// Parsed, but can't work.
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
    let path_of = || path.to_owned();
    let text = fs::read_to_string(path).map_err(|error| LoadError::Read { path: path_of(), error })?;
    // Once for the path of a wrong field, which `SidecarConfig::parse` can't tell, and once for its checks. It is read
    // once in a process' life.
    let mut document = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize::<_, SidecarConfig>(&mut document).map_err(|error| {
        LoadError::Field {
            path: path_of(),
            field: field_prefix(&error.path().to_string()),
            error: error.into_inner(),
        }
    })?;
    SidecarConfig::parse(&text).map_err(|error| LoadError::Unusable { path: path_of(), error })
}

fn field_prefix(path: &str) -> String {
    if path == "." { String::new() } else { format!("{path}: ") }
}
