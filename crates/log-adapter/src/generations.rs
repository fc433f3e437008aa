//! Files that are found, found again, copied and cut: which is which, and what of it was read already.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::checkpoint::Entry;
use crate::discover::{self, Found, Listing, is_rotated_name};
use crate::followed::Followed;
use crate::identity::{Inode, Print, begin_alike};
use crate::tail::Tailer;

/// How long a file may be that is shorter than what it could be a copy of, before it counts as a file of its own: copying may
/// take that long. Nanoseconds.
const COPYING: i64 = 5_000_000_000;

impl Tailer {
    /// Finds the files again that the checkpoint knows.
    pub(crate) fn recall(&mut self, source: usize, listing: &Listing) {
        let directory = &self.sources[source].directory;
        let (mine, others) =
            std::mem::take(&mut self.remembered).into_iter().partition(|entry| entry.directory == *directory);
        self.remembered = others;
        let mine: Vec<Entry> = mine;
        let (mut missing, mut rotated) = (Vec::new(), Vec::new());
        for entry in mine {
            let found = listing.files.iter().find(|found| is_same(found.inode, &entry));
            match found.and_then(|found| self.resume(source, found, &entry)) {
                Some(file) => {
                    if !file.at_home && !entry.rotated && !entry.copy {
                        rotated.push(entry);
                    }
                    self.files.push(file);
                }
                None => missing.push(entry),
            }
        }
        // Only now, with all others known: what is unknown still was made while nobody looked.
        for entry in rotated {
            self.adopt_missed(source, listing, &entry.name, entry.modified, None);
        }
        for entry in missing.iter().filter(|entry| !entry.copy) {
            self.rescue(source, listing, entry, entry.offset);
        }
    }

    /// The file of an entry, if it is what it was.
    fn resume(&self, source: usize, found: &Found, entry: &Entry) -> Option<Followed> {
        let file = discover::open(&found.path).ok()?;
        let same = found.size >= entry.offset
            && entry.head.matches(&file).ok()?
            && entry.tail.matches(&file).ok()?;
        if !same {
            return None;
        }
        let converter = self.sources[source].converter(&entry.name);
        let mut followed = Followed::new(source, entry.name.clone(), file, converter).ok()?;
        followed.resume(entry);
        followed.modified = entry.modified;
        followed.at_home = found.name == entry.name;
        if !followed.at_home && (entry.copy || found.size == entry.offset) {
            followed.open = None;
        }
        Some(followed)
    }

    /// Follows files that match and are not known, from their start.
    pub(crate) fn adopt_new(&mut self, source: usize, listing: &Listing) {
        let mut unreadable = 0;
        for found in listing.files.iter().filter(|found| found.matches) {
            if self.is_known(found.inode) {
                continue;
            }
            let file = match discover::open(&found.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    unreadable += 1;
                    self.complain(&found.path, &error, "failed to open log file; it is tried again");
                    continue;
                }
            };
            match self.is_copy(source, found, &file) {
                None => {}
                Some(copy) => {
                    let followed = self.follow(source, found, &found.name, file);
                    if let (Some(followed), true) = (followed, copy) {
                        followed.copy = true;
                        followed.at_home = false;
                        followed.open = None;
                        followed.offset = found.size;
                    }
                }
            }
        }
        self.sources[source].metrics.unreadable.store(unreadable, Relaxed);
    }

    /// Whether a file is a copy of one that is followed. None where it is too early to tell.
    fn is_copy(&self, source: usize, found: &Found, file: &File) -> Option<bool> {
        let originals = self.files.iter().filter(|original| {
            original.source == source && original.at_home && is_rotated_name(&original.name, &found.name)
        });
        for original in originals.filter(|original| original.head.length > 0) {
            if is_copy_of(file, original.head, original.tail, original.offset) {
                return Some(true);
            }
            let young = nanos_now() - found.modified < COPYING;
            if found.size < original.head.length as u64 && young {
                return None;
            }
        }
        Some(false)
    }

    /// A file was cut: what had not been read of it may stand in a copy. It is then read from its start.
    pub(crate) fn truncated(&mut self, index: usize) {
        let file = &self.files[index];
        let (source, size, name, inode) = (file.source, file.size, file.name.clone(), file.inode);
        let entry = file.entry(&self.sources[source]);
        let metrics = &self.sources[source].metrics;
        metrics.rotations.fetch_add(1, Relaxed);
        tracing::debug!(file = self.sources[source].shown(&name), "truncated; reading it from its start");
        let listing = discover::list(&self.sources[source].directory, &self.sources[source].config.files);
        self.rescue(source, &listing.unwrap_or_default(), &entry, size);
        // Its place has changed where a copy was put before it.
        if let Some(file) = self.files.iter_mut().find(|file| file.inode == inode) {
            file.restart();
        }
    }

    /// Looks for what is left of a file that is not what it was: its copy, to be read from where we were, and the files that came
    /// after it and are rotated away themselves.
    fn rescue(&mut self, source: usize, listing: &Listing, entry: &Entry, size: u64) {
        let mut since = entry.modified;
        let mut copied = false;
        for found in listing.files.iter().filter(|found| is_rotated_name(&entry.name, &found.name)) {
            let other = self.files.iter().position(|file| file.inode == found.inode);
            if other.is_some_and(|other| !self.files[other].copy) || entry.head.length == 0 {
                continue;
            }
            let Ok(file) = discover::open(&found.path) else { continue };
            if !is_copy_of(&file, entry.head, entry.tail, entry.offset) {
                continue;
            }
            other.map(|other| self.files.remove(other));
            // A copy that ends before the place that we have read to has nothing for us, but must be known for what it is.
            let useful = size_of(&file) >= entry.offset;
            if let Some(followed) = self.follow(source, found, &entry.name, file) {
                followed.at_home = false;
                if useful {
                    followed.resume(entry);
                    followed.copy = false;
                    since = since.max(found.modified);
                    copied = true;
                } else {
                    (followed.copy, followed.open, followed.offset) = (true, None, found.size);
                }
            }
        }
        let lost = size.saturating_sub(entry.offset);
        if !copied && lost > 0 {
            self.sources[source].metrics.lost.fetch_add(lost, Relaxed);
            let file = self.sources[source].directory.join(&entry.name);
            let what = "truncated or deleted before it was read to its end";
            if self.complaints.is_news(&file, what) {
                tracing::warn!(file = %file.display(), bytes = lost, "{what}");
            }
        }
        self.adopt_missed(source, listing, &entry.name, since, Some(entry));
    }

    /// Follows rotated files of that name that nobody has seen before and that are younger than what was read last. Where files
    /// are copied and truncated, the copy of what is being written now is none of them.
    pub(crate) fn adopt_missed(
        &mut self,
        source: usize,
        listing: &Listing,
        name: &str,
        since: i64,
        copied: Option<&Entry>,
    ) {
        let current = listing.files.iter().find(|found| found.name == name);
        let current = current.and_then(|found| discover::open(&found.path).ok());
        for found in listing.files.iter().filter(|found| is_rotated_name(name, &found.name)) {
            let younger = if copied.is_some() { found.modified > since } else { found.modified >= since };
            if !younger || self.is_known(found.inode) {
                continue;
            }
            let Ok(file) = discover::open(&found.path) else { continue };
            let of_current =
                current.as_ref().is_some_and(|current| begin_alike(current, &file).unwrap_or(false));
            if copied.is_some() && of_current {
                continue;
            }
            if let Some(followed) = self.follow(source, found, name, file) {
                followed.at_home = false;
            }
        }
    }

    /// Follows a file from its start, under a name that it may not have any more.
    fn follow(&mut self, source: usize, found: &Found, name: &str, file: File) -> Option<&mut Followed> {
        let converter = self.sources[source].converter(name);
        let followed = Followed::new(source, name.to_owned(), file, converter).ok()?;
        tracing::info!(file = self.sources[source].shown(&found.name), "following");
        // Rotated ones come before the file that took their name, so that lines keep their order where it can be kept.
        let home = self.files.iter().position(|other| other.source == source && other.name == name);
        let at = home.unwrap_or(self.files.len());
        self.files.insert(at, followed);
        self.files.get_mut(at)
    }

    fn is_known(&self, inode: Inode) -> bool {
        self.files.iter().any(|file| file.inode == inode)
            || self.remembered.iter().any(|entry| entry.inode == inode)
    }
}

/// After a reboot of the node a file system may have another device number; the content then decides.
fn is_same(inode: Inode, entry: &Entry) -> bool {
    let known = entry.inode;
    inode == known || ((inode.ino, inode.born) == (known.ino, known.born) && entry.head.length > 0)
}

/// Whether a file begins as another did that was read to `offset`, and goes on so, as far as that was read. Many files
/// begin with the same banner.
fn is_copy_of(file: &File, head: Print, tail: Print, offset: u64) -> bool {
    let begins = head.matches(file).unwrap_or(false);
    begins && (size_of(file) < offset || tail.matches(file).unwrap_or(false))
}

fn size_of(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

fn nanos_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
