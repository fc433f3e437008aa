//! A commit's tree, written into a directory of its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;
use gix_object::tree::EntryKind;
use gix_object::{CommitRefIter, FindExt, FindHeader};
use outrigger_api::sync_path::join;

use crate::source::{Objects, takes_too_much};
use crate::tree::{self, Budget, TreeError};

/// Why a commit could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Something in it is not put in place.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// No such directory in this version.
    #[error("the version has no directory {0}: git.directory")]
    NoDirectory(String),
    /// Tags may be of anything.
    #[error("{commit} is a {kind}: tag a commit")]
    NoCommit {
        /// What the tag is of.
        commit: ObjectId,
        /// What that is.
        kind: gix_object::Kind,
    },
    /// An object is missing, or is not what its name says.
    #[error("the repository's objects are damaged: {0}")]
    Damaged(String),
    /// An object that there is no memory for.
    #[error("an object takes more memory than limits.file and limits.files give it: {0}")]
    NoMemory(String),
    /// The disk.
    #[error("failed to write {path}: {error}")]
    Write {
        /// The path in the tree.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// Writes the tree of `commit`, or of a directory in it, into `into`, which is empty.
pub fn checkout(
    objects: &Objects,
    commit: ObjectId,
    directory: Option<&str>,
    into: &Path,
    budget: Budget,
) -> Result<Budget, CheckoutError> {
    let mut buffer = Vec::new();
    let found = objects.find(&commit, &mut buffer).map_err(damaged)?;
    if found.kind != gix_object::Kind::Commit {
        return Err(CheckoutError::NoCommit { commit, kind: found.kind });
    }
    let mut tree = CommitRefIter::from_bytes(found.data, commit.kind()).tree_id().map_err(damaged)?;
    for name in directory.iter().flat_map(|directory| directory.split('/')) {
        let entries = objects.find_tree(&tree, &mut buffer).map_err(damaged)?;
        let entry = entries.entries.iter().find(|entry| entry.mode.is_tree() && entry.filename == name);
        let missing = || CheckoutError::NoDirectory(directory.unwrap_or_default().to_owned());
        tree = entry.ok_or_else(missing)?.oid.to_owned();
    }
    let mut writer = Writer { objects, into, budget, content: Vec::new() };
    writer.tree(tree, "")?;
    Ok(writer.budget)
}

struct Writer<'a> {
    objects: &'a Objects,
    into: &'a Path,
    budget: Budget,
    /// Kept from file to file.
    content: Vec<u8>,
}

impl Writer<'_> {
    fn tree(&mut self, id: ObjectId, parent: &str) -> Result<(), CheckoutError> {
        let mut buffer = Vec::new();
        let entries = self.objects.find_tree(&id, &mut buffer).map_err(damaged)?.entries;
        for entry in entries {
            let path = join(parent, entry.filename.as_bytes()).map_err(TreeError::from)?;
            let id = entry.oid.to_owned();
            match entry.mode.kind() {
                EntryKind::Tree => {
                    self.budget.take(&path, 0)?;
                    fs::create_dir(self.into.join(&path)).map_err(|error| write(&path, error))?;
                    self.tree(id, &path)?;
                }
                EntryKind::Blob => self.file(id, &path, 0o644)?,
                EntryKind::BlobExecutable => self.file(id, &path, 0o755)?,
                EntryKind::Link => self.link(id, &path)?,
                EntryKind::Commit => return Err(TreeError::Submodule { path }.into()),
            }
        }
        Ok(())
    }

    fn file(&mut self, id: ObjectId, path: &str, mode: u32) -> Result<(), CheckoutError> {
        let into = self.into.join(path);
        let content = self.content(id, path)?;
        tree::refuse_lfs(path, content)?;
        // Never over something that is there: two entries of one name, or a link in the place of a directory.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(into);
        file.and_then(|mut file| file.write_all(content)).map_err(|error| write(path, error))
    }

    /// What is in a file or link, once it is known that there is room for it.
    fn content(&mut self, id: ObjectId, path: &str) -> Result<&[u8], CheckoutError> {
        let header = self.objects.try_header(&id).map_err(damaged)?;
        self.budget.take(path, header.map_or(0, |header| header.size))?;
        Ok(self.objects.find_blob(&id, &mut self.content).map_err(damaged)?.data)
    }

    fn link(&mut self, id: ObjectId, path: &str) -> Result<(), CheckoutError> {
        let target = tree::link(path, self.content(id, path)?)?.to_owned();
        symlink(target, self.into.join(path)).map_err(|error| write(path, error))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn damaged(error: gix_error::Error) -> CheckoutError {
    if takes_too_much(&error) {
        return CheckoutError::NoMemory(error.to_string());
    }
    CheckoutError::Damaged(error.to_string())
}

fn write(path: &str, error: io::Error) -> CheckoutError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return TreeError::Twice { path: path.to_owned() }.into();
    }
    CheckoutError::Write { path: path.to_owned(), error }
}
