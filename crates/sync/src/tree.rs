//! What a tree of a repository may contain: names that stay where they are put, links that lead nowhere else, and no more than
//! is allowed.

/// Why a tree is not put in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name that means another place, or that no file system takes.
    #[error("{path}: no file can have that name")]
    Name {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// A name at the top that the sidecar needs for itself.
    #[error("{path}: names at the top that begin with two dots are the sidecar's own")]
    Reserved {
        /// The path.
        path: String,
    },
    /// Directories in directories in directories.
    #[error("{path}: deeper than {MAX_DEPTH} directories, or longer than {MAX_PATH} bytes")]
    Deep {
        /// The path.
        path: String,
    },
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
    /// More files than allowed.
    #[error("more than {0} files: limits.files")]
    TooMany(u32),
    /// More bytes than allowed.
    #[error("more than {0} bytes: limits.size")]
    TooLarge(u64),
}

/// Directories in one another.
pub const MAX_DEPTH: usize = 64;
/// The longest path, in bytes. The kernel's bound is 4096, for the path in the volume.
pub const MAX_PATH: usize = 2048;
/// The longest name, in bytes, on the file systems of Linux.
const MAX_NAME: usize = 255;
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
}

impl Budget {
    /// As much as a profile allows.
    pub const fn new(max_files: u32, max_bytes: u64) -> Self {
        Self { files: 0, bytes: 0, max_files, max_bytes }
    }

    /// Counts one more file, directory or link.
    pub fn take(&mut self, bytes: u64) -> Result<(), TreeError> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.files > self.max_files {
            return Err(TreeError::TooMany(self.max_files));
        }
        if self.bytes > self.max_bytes {
            return Err(TreeError::TooLarge(self.max_bytes));
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

/// The path of `name` in the directory `parent`, which is empty for the tree itself.
pub fn join(parent: &str, name: &[u8]) -> Result<String, TreeError> {
    let shown = || join_shown(parent, &String::from_utf8_lossy(name));
    let Ok(text) = std::str::from_utf8(name) else { return Err(TreeError::Name { path: shown() }) };
    let is_name = !matches!(text, "" | "." | "..")
        && text.len() <= MAX_NAME
        && !text.contains(|c: char| c == '/' || c.is_control())
        && !text.eq_ignore_ascii_case(".git");
    if !is_name {
        return Err(TreeError::Name { path: shown() });
    }
    if parent.is_empty() && text.starts_with("..") {
        return Err(TreeError::Reserved { path: shown() });
    }
    let path = join_shown(parent, text);
    if path.len() > MAX_PATH || path.matches('/').count() >= MAX_DEPTH {
        return Err(TreeError::Deep { path });
    }
    Ok(path)
}

fn join_shown(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// The target of a link at `path`, if it stays in the tree.
///
/// `..` is allowed only at its beginning: after a name it would be the parent of wherever that name leads, if it is a link, and
/// two links that are harmless by themselves could lead out together.
pub fn link<'a>(path: &str, target: &'a [u8]) -> Result<&'a str, TreeError> {
    let refused =
        || TreeError::Link { path: path.to_owned(), target: String::from_utf8_lossy(target).into_owned() };
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

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_mean_another_place_are_refused() {
        for name in ["", ".", "..", "a/b", "/", ".git", ".GIT", "a\0b", "a\nb"] {
            assert!(matches!(join("", name.as_bytes()), Err(TreeError::Name { .. })), "{name:?}");
        }
        assert!(matches!(join("", b"\xff"), Err(TreeError::Name { .. })));
        assert!(matches!(join("", b"..data"), Err(TreeError::Reserved { .. })));
        assert_eq!(join("a", b"..data").unwrap(), "a/..data");
        assert_eq!(join("", b".gitignore").unwrap(), ".gitignore");
    }

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

    #[test]
    fn a_budget_ends() {
        let mut budget = Budget::new(2, 10);
        budget.take(10).unwrap();
        assert_eq!(budget.take(1), Err(TreeError::TooLarge(10)));
        let mut budget = Budget::new(1, 10);
        budget.take(0).unwrap();
        assert_eq!(budget.take(0), Err(TreeError::TooMany(1)));
        assert!(Budget::new(9, 9).take(u64::MAX).is_err());
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
