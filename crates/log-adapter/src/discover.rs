//! What lies in a source's directory.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::glob;
use crate::identity::Inode;

/// Directories below the deepest that a pattern names are looked into as well: `logrotate` may move files there (`olddir`), and
/// they are to be read to their end.
const DEEPER: usize = 2;
/// What rotation compresses is no text any more.
const COMPRESSED: [&str; 6] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"];

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Below the source's directory, with slashes.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) inode: Inode,
    pub(crate) size: u64,
    /// Nanoseconds since the epoch.
    pub(crate) modified: i64,
    /// Whether the source's patterns mean it.
    pub(crate) matches: bool,
}

/// Everything found, and the directories it was found in.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<Found>,
    pub(crate) directories: Vec<PathBuf>,
}

impl Listing {
    /// Whether the same files have the same names in both.
    pub(crate) fn has_same_names(&self, other: &Self) -> bool {
        let names = |listing: &Self| {
            let mut names: Vec<_> =
                listing.files.iter().map(|found| (found.name.clone(), found.inode.ino)).collect();
            names.sort_unstable();
            names
        };
        names(self) == names(other)
    }
}

/// Lists the regular files below `directory`, symbolic links to files included; oldest first. A directory that does not exist
/// is empty: the app may make it later.
pub(crate) fn list(directory: &Path, patterns: &[String]) -> io::Result<Listing> {
    let depth =
        patterns.iter().map(|pattern| glob::depth(pattern)).max_by_key(|depth| depth.unwrap_or(usize::MAX));
    let depth = match depth.flatten() {
        Some(depth) if !patterns.iter().any(|pattern| pattern.contains("**")) => depth + DEEPER,
        _ => usize::MAX,
    };
    let mut listing = Listing::default();
    match walk(directory, directory, "", depth, patterns, &mut listing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    listing.files.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    Ok(listing)
}

fn walk(
    root: &Path,
    directory: &Path,
    prefix: &str,
    depth: usize,
    patterns: &[String],
    listing: &mut Listing,
) -> io::Result<()> {
    listing.directories.push(directory.to_owned());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A name that is not UTF-8 could not stand in the output.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (name, path) = (format!("{prefix}{name}"), entry.path());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // Links to directories are not followed: they may lead in circles.
            if depth > 0 {
                ignore_vanished(walk(root, &path, &format!("{name}/"), depth - 1, patterns, listing))?;
            }
        } else if kind.is_file() || kind.is_symlink() {
            let Some(path) = within(root, path, kind.is_symlink()) else { continue };
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_file() && !COMPRESSED.iter().any(|suffix| name.ends_with(suffix)) {
                let matches = patterns.iter().any(|pattern| glob::matches(pattern, &name));
                listing.files.push(found(name, path, &metadata, matches));
            }
        }
    }
    Ok(())
}

/// The path without links; none where one leads out of the directory. An app could else have us print what only we may read.
fn within(root: &Path, path: PathBuf, is_link: bool) -> Option<PathBuf> {
    if !is_link {
        return Some(path);
    }
    let target = fs::canonicalize(path).ok()?;
    target.starts_with(fs::canonicalize(root).ok()?).then_some(target)
}

impl Found {
    /// Opens it. What has become a link or a pipe since it was listed is not followed, nor waited for; where the name is another
    /// file's by now, it is not found.
    pub(crate) fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
        if Inode::of(&file.metadata()?) == self.inode {
            Ok(file)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

/// A directory below may go, or be closed to us, while the others are still of interest.
fn ignore_vanished(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        result => result,
    }
}

fn found(name: String, path: PathBuf, metadata: &Metadata, matches: bool) -> Found {
    Found {
        name,
        path,
        inode: Inode::of(metadata),
        size: metadata.len(),
        modified: modified(metadata),
        matches,
    }
}

/// When a file was last written to, in nanoseconds since the epoch.
pub(crate) fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Whether `name` is what rotation makes of `original`: `app.log.1`, `app.log-20261121`, `app-20261121.log`, `old/app.log.1`.
/// Not `app.log.lock`: only numbers and dates, and what people add by hand.
pub(crate) fn is_rotated_name(original: &str, name: &str) -> bool {
    let (directory, base) = original.rsplit_once('/').map_or(("", original), |(d, b)| (d, b));
    let Some(below) = name.strip_prefix(directory) else { return false };
    let file = below.rsplit_once('/').map_or(below, |(_, file)| file);
    let (stem, extension) = base.rfind('.').map_or((base, ""), |dot| base.split_at(dot));
    let inserted = || file.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
    file.strip_prefix(base).is_some_and(is_rotation) || inserted().is_some_and(is_rotation)
}

/// What a rotated file was called, as far as its name tells: the first name that is `meant`.
pub(crate) fn name_before(name: &str, meant: impl Fn(&str) -> bool) -> Option<String> {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    let bases = file.match_indices(['.', '-', '_']).filter(|(at, _)| is_rotation(&file[*at..]));
    let bases: Vec<_> = bases.map(|(at, _)| &file[..at]).collect();
    // It may have been moved into a directory below its own.
    let mut directories = Path::new(directory).ancestors().filter_map(Path::to_str);
    directories.find_map(|directory| {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        bases.iter().map(|base| format!("{prefix}{base}")).find(|name| meant(name))
    })
}

fn is_rotation(added: &str) -> bool {
    let date = |byte: u8| byte.is_ascii_digit() || b".-_:TZ".contains(&byte);
    let numbered = added.bytes().any(|byte| byte.is_ascii_digit()) && added.bytes().all(date);
    added.starts_with(['.', '-', '_']) && (numbered || [".old", ".bak", ".prev"].contains(&added))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotated_files_are_known() {
        for (original, name, wanted) in [
            ("app.log", "app.log.1", true),
            ("app.log", "app.log-20261121", true),
            ("app.log", "old/app.log.2", true),
            ("sub/app.log", "sub/app.log.1", true),
            ("sub/app.log", "app.log.1", false),
            ("app.log", "app.log", false),
            ("app.log", "app-20261121.log", true),
            ("app.log", "app.2026-11-21.0.log", true),
            ("app.log", "app.log.lock", false),
            ("app.log", "app-worker.log", false),
            ("app.log", "app.logger", false),
            ("app.log", "my-app.log.1", false),
        ] {
            assert_eq!(is_rotated_name(original, name), wanted, "{original} {name}");
        }
    }

    #[test]
    fn names_before_rotation_are_those_that_a_pattern_means() {
        for (pattern, name, wanted) in [
            ("*.log", "app.log.1", Some("app.log")),
            ("*.log", "app.log-2026-11-21", Some("app.log")),
            ("*.log", "old/app.log.1", Some("app.log")),
            ("**/*.log", "sub/old/app.log.1", Some("sub/old/app.log")),
            ("app-1", "app-1.2", Some("app-1")),
            ("*.log", "app.txt.1", None),
            ("*.log", "app.log.lock", None),
        ] {
            let before = name_before(name, |name| glob::matches(pattern, name));
            assert_eq!(before.as_deref(), wanted, "{pattern} {name}");
        }
    }
}
