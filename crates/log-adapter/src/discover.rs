//! What lies in a source's directory.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::glob;
use crate::identity::Inode;

/// Directories below the deepest that a pattern names are looked into as well: `logrotate` may move files there (`olddir`), and
/// they are to be read to their end.
const DEEPER: usize = 2;
/// How far apart two changes may be and have the same time: the kernel's clock ticks a hundred times a second at the least.
const TICK: Duration = Duration::from_millis(10);
/// What rotation compresses is no text any more.
const COMPRESSED: [&str; 6] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"];

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Below the source's directory, with slashes.
    pub(crate) name: String,
    /// Where it lies below that directory, without links.
    place: PathBuf,
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
    /// Directories that could not be read, and why.
    pub(crate) closed: Vec<(PathBuf, io::Error)>,
    /// Whether a directory changed while it was read. A file that is renamed then may stand in the list twice, or not at all.
    pub(crate) is_blurred: bool,
    /// How long it took.
    pub(crate) took: Duration,
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
    let (mut listing, began) = (Listing::default(), Instant::now());
    match walk(directory, directory, "", depth, patterns, &mut listing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    listing.files.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    listing.took = began.elapsed();
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
    // Before it is read: what changes in the same tick after that can't be seen.
    let before = changed(directory)?;
    let is_past = before.is_none_or(is_past);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A name that is not UTF-8 could not stand in the output.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (name, path) = (format!("{prefix}{name}"), entry.path());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // Links to directories are not followed: they may lead in circles.
            if depth > 0
                && let Err(error) = walk(root, &path, &format!("{name}/"), depth - 1, patterns, listing)
                && error.kind() != io::ErrorKind::NotFound
            {
                // One that is closed to us, or too deep, while the others are still of interest.
                listing.closed.push((path, error));
            }
        } else if kind.is_file() || kind.is_symlink() {
            let Some(place) = within(root, &path, kind.is_symlink()) else { continue };
            let Ok(metadata) = fs::metadata(root.join(&place)) else { continue };
            if metadata.is_file() && !COMPRESSED.iter().any(|suffix| name.ends_with(suffix)) {
                let matches = patterns.iter().any(|pattern| glob::matches(pattern, &name));
                listing.files.push(found(name, place, &metadata, matches));
            }
        }
    }
    listing.is_blurred |= !is_past || changed(directory)? != before;
    Ok(())
}

/// When a name in the directory changed last; none where the file system does not say.
fn changed(directory: &Path) -> io::Result<Option<SystemTime>> {
    Ok(fs::metadata(directory)?.modified().ok())
}

/// Whether what changes from now on has another time.
fn is_past(time: SystemTime) -> bool {
    // One in the future is of a clock that was set back: other times come from now on.
    time.elapsed().map_or(true, |age| age >= TICK)
}

/// The path without links, from `root` on; none where one leads out of it. An app could else have us print what only we may read.
fn within(root: &Path, path: &Path, is_link: bool) -> Option<PathBuf> {
    if !is_link {
        return path.strip_prefix(root).ok().map(Path::to_owned);
    }
    let target = fs::canonicalize(path).ok()?;
    target.strip_prefix(fs::canonicalize(root).ok()?).ok().map(Path::to_owned)
}

impl Found {
    /// Opens it, below the directory that was listed. What has become a link or a pipe since then is not followed, nor waited for, and no
    /// directory that has become a link leads out; where the name is another file's by now, it is not found.
    pub(crate) fn open(&self, directory: &Path) -> io::Result<File> {
        let root =
            rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(rustix::fs::openat2(root, &self.place, flags, Mode::empty(), within)?);
        if Inode::of(&file.metadata()?) == self.inode {
            Ok(file)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

fn found(name: String, place: PathBuf, metadata: &Metadata, matches: bool) -> Found {
    Found {
        name,
        place,
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
    let below = match directory {
        "" => Some(name),
        _ => name.strip_prefix(directory).and_then(|below| below.strip_prefix('/')),
    };
    let Some(below) = below else { return false };
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
    // An app that makes its file between logrotate's two steps finds it moved out of the way: `app.log-2026112103.backup`.
    let added = added.strip_suffix(".backup").unwrap_or(added);
    let date = |byte: u8| byte.is_ascii_digit() || b".-_:TZ".contains(&byte);
    let numbered = added.bytes().any(|byte| byte.is_ascii_digit()) && added.bytes().all(date);
    added.starts_with(['.', '-', '_']) && (numbered || [".old", ".bak", ".prev"].contains(&added))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    /// What no list had was never read, or read twice.
    #[test]
    fn files_that_are_renamed_are_all_in_a_list_that_is_not_blurred() {
        const FILES: usize = 300;
        let directory = std::env::temp_dir().join(format!("outrigger-logs-renames-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = |number: usize| directory.join(format!("a.log.{number}"));
        (0..FILES).for_each(|number| fs::write(path(number), "").unwrap());
        let (done, names) = (AtomicBool::new(false), ["*".to_owned()]);
        let blurred = std::thread::scope(|scope| {
            // As logrotate does it, from the last on.
            scope.spawn(|| {
                for first in 0..50 {
                    (first..first + FILES)
                        .rev()
                        .for_each(|number| fs::rename(path(number), path(number + 1)).unwrap());
                }
                done.store(true, Relaxed);
            });
            let mut blurred = 0;
            loop {
                let was_done = done.load(Relaxed);
                let listing = list(&directory, &names).unwrap();
                assert!(listing.is_blurred || listing.files.len() == FILES, "{}", listing.files.len());
                blurred += u32::from(listing.is_blurred);
                if was_done && !listing.is_blurred {
                    return blurred;
                }
            }
        });
        assert!(blurred > 0);
        fs::remove_dir_all(&directory).unwrap();
    }

    /// An app that swaps the two at the right time would have had us print any file that we may read.
    #[test]
    fn directory_that_becomes_a_link_leads_nowhere() {
        let root = std::env::temp_dir().join(format!("outrigger-logs-link-{}", std::process::id()));
        let (logs, outside) = (root.join("logs"), root.join("outside"));
        fs::create_dir_all(logs.join("d")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("a.log"), "secret").unwrap();
        fs::hard_link(outside.join("a.log"), logs.join("d/a.log")).unwrap();
        let listing = list(&logs, &["**/*.log".to_owned()]).unwrap();
        let [found] = &listing.files[..] else { unreachable!("{:?}", listing.files) };
        assert!(found.open(&logs).is_ok());
        fs::remove_dir_all(logs.join("d")).unwrap();
        std::os::unix::fs::symlink(&outside, logs.join("d")).unwrap();
        // The very same file, by its inode.
        assert!(found.open(&logs).is_err());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn names_of_rotated_files_are_known() {
        for (original, name, wanted) in [
            ("app.log", "app.log.1", true),
            ("app.log", "app.log-20261121", true),
            ("app.log", "old/app.log.2", true),
            ("sub/app.log", "sub/app.log.1", true),
            ("sub/app.log", "app.log.1", false),
            ("sub/app.log", "subway/app.log.1", false),
            ("sub/app.log", "sub/old/app.log.1", true),
            ("app.log", "app.log", false),
            ("app.log", "app-20261121.log", true),
            ("app.log", "app.2026-11-21.0.log", true),
            ("app.log", "app.log-2026112103.backup", true),
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
