//! The sidecar config, read from its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use outrigger_api::config::{self, ConfigError, SidecarConfig};

/// A config that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: SidecarConfig,
    /// Its file, which is looked at again while the proxy runs.
    pub path: PathBuf,
    /// The document as it stands there.
    pub text: String,
    /// Fields that this version does not know, by their path: `inbound.0.quota`.
    pub ignored: Vec<String>,
}

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
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    parse(path, read(path)?)
}

pub(crate) fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|error| LoadError::Read { path: path.to_owned(), error })
}

/// Checks a document. Not by `SidecarConfig::parse`, which can tell neither the path of a wrong field nor what it
/// did not know.
pub(crate) fn parse(path: &Path, text: String) -> Result<Loaded, LoadError> {
    let mut ignored = Vec::new();
    let mut document = serde_json::Deserializer::from_str(&text);
    let mut field = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut document, &mut field);
    let config: Result<SidecarConfig, _> =
        serde_ignored::deserialize(tracked, |unknown| ignored.push(unknown.to_string()));
    let config = config.and_then(|config| document.end().map(|()| config)).map_err(|error| {
        LoadError::Field { path: path.to_owned(), field: field_prefix(&field.path().to_string()), error }
    })?;
    config.check().map_err(|error| LoadError::Unusable { path: path.to_owned(), error })?;
    Ok(Loaded { config, path: path.to_owned(), text, ignored })
}

fn field_prefix(path: &str) -> String {
    if path == "." { String::new() } else { format!("{path}: ") }
}

impl Loaded {
    /// The document's hash.
    pub(crate) fn hash(&self) -> String {
        config::hash(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_version_are_named_and_ignored() {
        let text = r#"{"version":2,"profile":"a/b","token":"t","newer":{"deep":1},
            "inbound":[{"name":"x","listen":1,"target":2,"protocol":"tcp","quota":[]}]}"#;
        let loaded = parse(Path::new("config.json"), text.to_owned()).unwrap();
        assert_eq!(loaded.ignored, ["newer", "inbound.0.quota"]);
        assert_eq!(loaded.config.inbound.len(), 1);
    }

    #[test]
    fn what_follows_the_document_is_no_part_of_one() {
        let text = r#"{"version":1,"profile":"a/b","token":"t"}}"#;
        let message = parse(Path::new("config.json"), text.to_owned()).unwrap_err().to_string();
        assert!(message.contains("trailing characters"), "{message}");
    }
}
