//! The directory of one entry: what the app sees, and what it does not.
//!
//! ```text
//! tree/                     mounted in the app, read-only
//!   ..data                  -> ..versions/<version>: the switch is one rename of this link
//!   ..versions/<version>/   what was checked out, whole before it gets here
//!   index.html              -> ..data/index.html: a link for each name at the top
//! work/                     what is being made; emptied at each start
//! state.json                which version is what
//! ```
//!
//! As the kubelet does it with a `ConfigMap`, so that apps find their files where they always were. A link for a name at the top leads
//! nowhere before the switch that brings the name and after the one that takes it away, which is the same to an app as no link.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use outrigger_api::names::SYNC_TREE;

use crate::state::{Offer, State, fingerprint};

const DATA: &str = "..data";
const NEXT: &str = "..next";
const VERSIONS: &str = "..versions";

/// The directory of one entry.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    tree: PathBuf,
}

impl Place {
    /// The one at `root`, which may not be there yet.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), tree: root.join(SYNC_TREE) }
    }

    /// Makes what is missing and removes what was left half done.
    pub fn open(&self) -> io::Result<()> {
        fs::create_dir_all(self.tree.join(VERSIONS))?;
        self.clear_work()?;
        remove_if_there(&self.tree.join(NEXT))
    }

    /// What is known, as it was last written. A file that can't be understood is as good as none: the versions are fetched again.
    pub fn load(&self) -> State {
        let text = fs::read(self.root.join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes what is known, as one.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let next = self.root.join("state.json.next");
        fs::write(&next, serde_json::to_vec(state)?)?;
        fs::rename(next, self.root.join("state.json"))
    }

    /// An empty directory for what is being made.
    pub fn clear_work(&self) -> io::Result<PathBuf> {
        let work = self.root.join("work");
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&work)?;
        Ok(work)
    }

    /// The version that the app sees, by its directory.
    pub fn linked(&self) -> Option<String> {
        let target = fs::read_link(self.tree.join(DATA)).ok()?;
        let directory = target.strip_prefix(VERSIONS).ok()?.to_str()?.to_owned();
        self.version(&directory).is_dir().then_some(directory)
    }

    /// Where a version lies.
    pub fn version(&self, directory: &str) -> PathBuf {
        self.tree.join(VERSIONS).join(directory)
    }

    /// Puts what was made among the versions. The app does not see it yet.
    pub fn publish(&self, made: &Path, directory: &str) -> io::Result<()> {
        let version = self.version(directory);
        if self.linked().as_deref() == Some(directory) {
            // Served already, by a sidecar whose state was lost. What is there came whole.
            return fs::remove_dir_all(made);
        }
        if version.exists() {
            fs::remove_dir_all(&version)?;
        }
        fs::rename(made, version)
    }

    /// Lets the app see another version: the whole of it, at once.
    pub fn switch(&self, directory: &str) -> io::Result<()> {
        let names = names_in(&self.version(directory))?;
        for name in &names {
            let link = self.tree.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new(DATA).join(name), link)?;
            }
        }
        let next = self.tree.join(NEXT);
        remove_if_there(&next)?;
        symlink(Path::new(VERSIONS).join(directory), &next)?;
        fs::rename(next, self.tree.join(DATA))?;
        for name in names_in(&self.tree)?.difference(&names) {
            remove_if_there(&self.tree.join(name))?;
        }
        Ok(())
    }

    /// Removes all versions but those of `state` and the one that the app sees.
    pub fn prune(&self, state: &State) -> io::Result<()> {
        let mut kept: BTreeSet<_> = state.directories().map(str::to_owned).collect();
        kept.extend(self.linked());
        for entry in fs::read_dir(self.tree.join(VERSIONS))? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The name of a version's directory: by the commit, for people by the tag, and by the directory of the repository that it is.
/// So equal names have equal files.
pub fn directory_of(offer: &Offer, part: Option<&str>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let name: String = offer.name.chars().map(plain).take(64).collect();
    let part = part.map(|part| format!("-{}", fingerprint(part))).unwrap_or_default();
    format!("{}-{name}{part}", offer.commit)
}

/// All names but our own, which begin with two dots and which no version has.
fn names_in(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    let names = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<Result<BTreeSet<_>, _>>()?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b".."));
    Ok(names)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
