//! What a tree of a repository may contain: names that stay where they are put, links that lead nowhere else, and no more than
//! is allowed.

use outrigger_api::sync::SyncLimits;
use outrigger_api::sync_path::{MAX_PATH, PathError, SHOWN, beginning};

/// Why a tree is not put in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A path that no file can have here.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two entries of one name, which no git writes.
    #[error("{path} is there twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// A symbolic link that may lead out of the tree.
    #[error(
        "{path}: the link to {target:?} may lead out of the tree; it takes a relative one with \"..\" only at its beginning"
    )]
    Link {
        /// The path.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// A submodule.
    #[error("{path}: submodules are not fetched; put the files into the repository itself")]
    Submodule {
        /// The path.
        path: String,
    },
    /// A file that Git LFS keeps elsewhere.
    #[error("{path}: files in Git LFS are not fetched; put the file into the repository itself")]
    Lfs {
        /// The path.
        path: String,
    },
    /// A file that is larger than allowed.
    #[error("{path} has {size} bytes, and a file may have {most}: limits.file")]
    File {
        /// The path.
        path: String,
        /// Its bytes.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// More files than allowed.
    #[error("more than {0} files: limits.files")]
    TooMany(u32),
    /// More bytes than allowed.
    #[error("more than {0} bytes: limits.size")]
    TooLarge(u64),
}

/// The beginning of each file that stands for one in Git LFS.
///
/// <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What may still come.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    files: u32,
    bytes: u64,
    max_files: u32,
    max_bytes: u64,
    max_file: u64,
}

impl Budget {
    /// As much as a profile allows.
    pub fn new(limits: &SyncLimits) -> Self {
        let (max_bytes, max_file) = (limits.size.bytes(), limits.file.bytes());
        Self { files: 0, bytes: 0, max_files: limits.files, max_bytes, max_file }
    }

    /// Counts one more file, directory or link, before its bytes are in memory.
    pub fn take(&mut self, path: &str, size: u64) -> Result<(), TreeError> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.files > self.max_files {
            return Err(TreeError::TooMany(self.max_files));
        }
        if self.bytes > self.max_bytes {
            return Err(TreeError::TooLarge(self.max_bytes));
        }
        if size > self.max_file {
            return Err(TreeError::File { path: path.to_owned(), size, most: self.max_file });
        }
        Ok(())
    }

    /// How many were counted.
    pub const fn files(&self) -> u32 {
        self.files
    }

    /// How many bytes were counted.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The target of a link at `path`, if it stays in the tree.
///
/// `..` is allowed only at its beginning: after a name it would be the parent of wherever that name leads, if it is a link, and
/// two links that are harmless by themselves could lead out together.
pub fn link<'a>(path: &str, target: &'a [u8]) -> Result<&'a str, TreeError> {
    let refused = || {
        let target = beginning(&String::from_utf8_lossy(target), SHOWN);
        TreeError::Link { path: path.to_owned(), target }
    };
    let text = std::str::from_utf8(target).map_err(|_| refused())?;
    let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    let stays = !text.is_empty()
        && text.len() <= MAX_PATH
        && !text.starts_with('/')
        && !text.contains('\0')
        && up <= path.matches('/').count()
        && !parts[up..].contains(&"..");
    // At the top lie the sidecar's own names, among them the versions before.
    let ours = up == path.matches('/').count() && parts.get(up).is_some_and(|part| part.starts_with(".."));
    if stays && !ours { Ok(text) } else { Err(refused()) }
}

/// Refuses what is only a pointer to a file.
pub fn refuse_lfs(path: &str, content: &[u8]) -> Result<(), TreeError> {
    if content.starts_with(LFS) { Err(TreeError::Lfs { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use outrigger_api::quantity::Quantity;
    use outrigger_api::sync_path::join;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_stay_in_the_tree() {
        for (path, target) in
            [("a", "b"), ("a/b", "../c"), ("a", "./b//c"), ("a/b/c", "../../d"), ("a/b", "..")]
        {
            assert!(link(path, target.as_bytes()).is_ok(), "{path} {target}");
        }
        for (path, target) in [
            ("a", ".."),
            ("a", "/etc"),
            ("a/b", "../../c"),
            ("a", "b/.."),
            ("a", ""),
            ("a", "..data/x"),
            ("a", "..versions"),
        ] {
            assert!(link(path, target.as_bytes()).is_err(), "{path} {target}");
        }
    }

    /// A message was as long as the link that it was about, up to `limits.file`.
    #[test]
    fn a_message_shows_the_beginning_of_a_long_link() {
        let message = link("a", "x".repeat(100_000).as_bytes()).unwrap_err().to_string();
        assert!(message.len() < 400, "{}", message.len());
    }

    #[test]
    fn a_budget_ends() {
        let bytes = |bytes: u64| Quantity::parse(&bytes.to_string()).unwrap();
        let budget =
            |files, size, file| Budget::new(&SyncLimits { files, size: bytes(size), file: bytes(file) });
        let mut of_ten = budget(2, 10, 20);
        of_ten.take("a", 10).unwrap();
        assert_eq!(of_ten.take("b", 1), Err(TreeError::TooLarge(10)));
        let mut of_one = budget(1, 10, 10);
        of_one.take("a", 0).unwrap();
        assert_eq!(of_one.take("b", 0), Err(TreeError::TooMany(1)));
        assert!(budget(9, 9, 9).take("a", u64::MAX).is_err());
        let file = TreeError::File { path: "a".to_owned(), size: 6, most: 5 };
        assert_eq!(budget(9, 9, 5).take("a", 6), Err(file));
    }

    proptest! {
        /// Whatever bytes a tree has for names, what comes out lies below where it is put.
        #[test]
        fn no_path_leads_out(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..6)) {
            let mut path = String::new();
            for part in &parts {
                match join(&path, part) {
                    Ok(joined) => path = joined,
                    Err(_) => break,
                }
            }
            prop_assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".." && part != "."));
        }

        /// Links on a real file system, some through others: none that is accepted leads out.
        #[test]
        fn no_links_lead_out_together(
            links in prop::collection::vec(("[ab](/[ab]){0,2}", "(\\.\\./){0,3}[ab.]{1,2}(/[ab.]{1,2}){0,3}"), 1..6),
        ) {
            let base = std::env::temp_dir().join(format!("outrigger-links-{}-{:?}", std::process::id(), std::thread::current().id()));
            let root = base.join("tree");
            fs::create_dir_all(&root).unwrap();
            let root = root.canonicalize().unwrap();
            for (path, target) in &links {
                let at = root.join(path);
                // As a checkout, whose directories are real ones.
                let real = fs::create_dir_all(at.parent().unwrap()).is_ok()
                    && at.parent().unwrap().canonicalize().unwrap() == at.parent().unwrap();
                if real && link(path, target.as_bytes()).is_ok() {
                    let _ = symlink(target, &at);
                }
            }
            for (path, _) in &links {
                if let Ok(led) = root.join(path).canonicalize() {
                    prop_assert!(led.starts_with(&root), "{path} leads to {}", led.display());
                }
            }
            fs::remove_dir_all(&base).unwrap();
        }
    }
}
