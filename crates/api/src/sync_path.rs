//! Which paths a file may have that comes into an entry's place: those of a version, and those of a fallback.

/// Why a path is none for a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
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
}

/// Directories in one another.
pub const MAX_DEPTH: usize = 64;
/// The longest path, in bytes. The kernel's bound is 4096, for the path in the volume.
pub const MAX_PATH: usize = 2048;
/// The longest name, in bytes, on the file systems of Linux.
const MAX_NAME: usize = 255;

/// The most characters that a message shows of a text whose length somebody else has chosen.
pub const SHOWN: usize = 200;

/// The beginning of a text, of at most so many characters.
pub fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The path of `name` in the directory `parent`, which is empty for the place itself.
pub fn join(parent: &str, name: &[u8]) -> Result<String, PathError> {
    // A name in a tree has no bound, and messages are kept and shown.
    let shown = || beginning(&join_shown(parent, &String::from_utf8_lossy(name)), SHOWN);
    let Ok(text) = std::str::from_utf8(name) else { return Err(PathError::Name { path: shown() }) };
    let is_name = !matches!(text, "" | "." | "..")
        && text.len() <= MAX_NAME
        && !text.contains(|c: char| c == '/' || c.is_control())
        && !text.eq_ignore_ascii_case(".git");
    if !is_name {
        return Err(PathError::Name { path: shown() });
    }
    if parent.is_empty() && text.starts_with("..") {
        return Err(PathError::Reserved { path: shown() });
    }
    let path = join_shown(parent, text);
    if path.len() > MAX_PATH || path.matches('/').count() >= MAX_DEPTH {
        return Err(PathError::Deep { path: shown() });
    }
    Ok(path)
}

fn join_shown(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Whether there can be a file at `path`, name by name.
pub fn check(path: &str) -> Result<(), PathError> {
    path.split('/').try_fold(String::new(), |parent, name| join(&parent, name.as_bytes())).map(|_| ())
}

/// Whether two files can't both be there: they have one path, or one would have to be a directory for the other.
pub fn collide(one: &str, other: &str) -> bool {
    let is_below = |path: &str, directory: &str| {
        path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_below(one, other) || is_below(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_another_place_are_refused() {
        for name in ["", ".", "..", "a/b", "/", ".git", ".GIT", "a\0b", "a\nb"] {
            assert!(matches!(join("", name.as_bytes()), Err(PathError::Name { .. })), "{name:?}");
        }
        assert!(matches!(join("", b"\xff"), Err(PathError::Name { .. })));
        assert!(matches!(join("", b"..data"), Err(PathError::Reserved { .. })));
        assert_eq!(join("a", b"..data").unwrap(), "a/..data");
        assert_eq!(join("", b".gitignore").unwrap(), ".gitignore");
    }

    /// A message was as long as the name that it was about, of which a tree may have any.
    #[test]
    fn a_message_shows_the_beginning_of_a_long_name() {
        let long = "ä".repeat(100_000);
        let error = join("", long.as_bytes()).unwrap_err();
        assert_eq!(error, PathError::Name { path: format!("{}…", "ä".repeat(SHOWN)) });
    }

    #[test]
    fn a_path_is_one_of_names() {
        for good in ["index.html", "a/b/..c", ".well-known/x", "ä ö"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a//b", "a/", "a/../b", "./a", "..data/x", ".git/config", "a/.git", "a\tb"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(matches!(check(&"a/".repeat(MAX_DEPTH)[..]), Err(PathError::Name { .. })));
        assert!(matches!(check(&vec!["a"; MAX_DEPTH + 1].join("/")), Err(PathError::Deep { .. })));
    }

    #[test]
    fn files_collide_where_one_would_be_the_directory_of_the_other() {
        for (one, other) in [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b")] {
            assert!(collide(one, other) && collide(other, one), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("a", "ab"), ("a/b", "a/c")] {
            assert!(!collide(one, other), "{one} {other}");
        }
    }
}
