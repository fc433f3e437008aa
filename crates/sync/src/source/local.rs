//! A repository in a directory: `file://`, for tests and for volumes that somebody else fills.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gix_hash::{Kind, ObjectId};
use gix_object::{FindExt, TagRefIter};
use gix_ref::TargetRef;
use gix_ref::file::Store;

use super::{Reference, short, told};

pub(super) struct Repository {
    git_dir: PathBuf,
    kind: Kind,
}

impl Repository {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let inner = path.join(".git");
        let git_dir = if inner.is_dir() { inner } else { path.to_owned() };
        let config = fs::read_to_string(git_dir.join("config"))?.to_ascii_lowercase();
        let is_sha256 = config.lines().any(|line| line.replace([' ', '\t'], "") == "objectformat=sha256");
        Ok(Self { git_dir, kind: if is_sha256 { Kind::Sha256 } else { Kind::Sha1 } })
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.git_dir.join("objects")
    }

    pub(super) fn references(&self, prefix: &str) -> Result<Vec<Reference>, String> {
        let store = Store::at(self.git_dir.clone(), self.kind);
        let objects = gix_odb::at(self.objects(), self.kind).map_err(|error| error.to_string())?;
        let refs = store.iter().map_err(|error| told(&error))?;
        let mut found = Vec::new();
        for reference in refs.all().map_err(|error| error.to_string())? {
            let reference = reference.map_err(|error| told(&error))?;
            let name = reference.name.as_bstr().to_string();
            let (true, TargetRef::Object(id)) = (name.starts_with(prefix), reference.target.to_ref()) else {
                continue;
            };
            if let Some(name) = short(&name) {
                let object = id.to_owned();
                let commit = self.peel(&objects, object)?;
                found.push(Reference { name: name.to_owned(), object, commit });
            }
        }
        Ok(found)
    }

    /// Tags of tags end somewhere: an object's name depends on what is in it.
    fn peel(&self, objects: &gix_odb::Handle, mut id: ObjectId) -> Result<ObjectId, String> {
        let mut buffer = Vec::new();
        loop {
            let object = objects.find(&id, &mut buffer).map_err(|error| told(&error))?;
            if object.kind != gix_object::Kind::Tag {
                return Ok(id);
            }
            id = TagRefIter::from_bytes(object.data, self.kind).target_id().map_err(|error| told(&error))?;
        }
    }
}
