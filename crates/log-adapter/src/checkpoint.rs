//! How far each file was read, on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::frame::Carry;
use crate::identity::{Generation, Inode, Print};

const VERSION: u32 = 1;

/// What is remembered of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The source's directory.
    pub directory: PathBuf,
    /// Its name there when it was found.
    pub name: String,
    /// Where it lies.
    pub inode: Inode,
    /// Which of the files that were there.
    pub generation: Generation,
    /// How far it was read and written out.
    pub offset: u64,
    /// Its first bytes.
    pub head: Print,
    /// The bytes before `offset`.
    pub tail: Print,
    /// Where in a line `offset` is.
    #[serde(default)]
    pub carry: Carry,
    /// Whether it is the copy of a file that was read itself.
    #[serde(default)]
    pub copy: bool,
    /// Whether it had lost its name already.
    #[serde(default)]
    pub rotated: bool,
    /// When it was last written to, as far as it was read: nanoseconds since the epoch.
    #[serde(default)]
    pub modified: i64,
    /// When the generation before it was last written to.
    #[serde(default)]
    pub since: i64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    files: Vec<Entry>,
}

/// Why a checkpoint can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not there, or not ours.
    #[error("failed to read checkpoint {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not what we write.
    #[error("failed to parse checkpoint {}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// From a newer program.
    #[error("checkpoint {} has version {version}; this program knows {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Disk full, or read-only.
    #[error("failed to write checkpoint {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads a checkpoint; none where there is no file.
pub fn load(path: &Path) -> Result<Vec<Entry>, CheckpointError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CheckpointError::Read { path: path.to_owned(), error }),
    };
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| CheckpointError::Parse { path: path.to_owned(), error })?;
    if document.version != VERSION {
        return Err(CheckpointError::Version { path: path.to_owned(), version: document.version });
    }
    Ok(document.files)
}

/// Writes a checkpoint in place of the last one, whole or not at all.
///
/// It is not synced to the disk: after the end of this process the kernel still has it, and where the node itself dies, so may
/// the last lines of the logs have.
pub fn save(path: &Path, files: Vec<Entry>) -> Result<(), CheckpointError> {
    let document = Document { version: VERSION, files };
    let bytes = serde_json::to_vec(&document).expect("our own types have string keys only");
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| CheckpointError::Write { path: path.to_owned(), error })
}
