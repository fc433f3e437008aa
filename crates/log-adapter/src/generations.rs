//! Files that are found, found again, copied and cut: which is which, and what of it was read already.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::checkpoint::Entry;
use crate::discover::{Found, Listing, is_rotated_name, name_before};
use crate::followed::Followed;
use crate::identity::{Inode, PRINT_BYTES, is_beginning, nanos_now};
use crate::tail::Tailer;

/// How long after its last change a file that is all like the beginning of another, and short, may still turn out to be a copy of
/// it, in nanoseconds: what is copied to be cut is cut soon.
const COPYING: i64 = 5_000_000_000;
/// How often a directory is listed again because files in it are being renamed.
const RENAMES: usize = 10;

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
            // Not followed as the config is now; what is known of it stays.
            if !entry.rotated && !self.sources[source].means(&entry.name) {
                self.remembered.push(entry);
                continue;
            }
            let Some(found) = listing.files.iter().find(|found| is_same(found.inode, &entry)) else {
                missing.push(entry);
                continue;
            };
            match self.resume(source, found, &entry) {
                Ok(Some(file)) => {
                    if !file.at_home && !entry.rotated && !entry.copy {
                        rotated.push(entry);
                    }
                    self.files.push(file);
                }
                Ok(None) => {
                    // Truncated while nobody looked.
                    if found.name == entry.name && !entry.copy {
                        let file = self.open(source, found).ok();
                        if let Some(followed) =
                            file.and_then(|file| self.follow(source, found, &found.name, file))
                        {
                            followed.since = entry.modified;
                        }
                    }
                    missing.push(entry);
                }
                // Who forgets it for that would read it again from its start.
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        self.unreadable(source, &self.sources[source].directory.join(&found.name), &error);
                    }
                    self.remembered.push(entry);
                }
            }
        }
        missing.retain(|entry| !entry.copy);
        for entry in &missing {
            self.rescue(source, listing, entry, entry.offset);
        }
        // Only now, with all copies known for what they are: what is unknown still was made while nobody looked.
        let since = |entry: Entry| (entry.name, entry.since);
        let rotated = rotated.into_iter().map(|entry| (entry.name, entry.modified));
        for (name, since) in rotated.chain(missing.into_iter().map(since)) {
            self.adopt_missed(source, listing, &name, since);
        }
    }

    /// The file of an entry, if it is what it was.
    fn resume(&self, source: usize, found: &Found, entry: &Entry) -> io::Result<Option<Followed>> {
        let file = self.open(source, found)?;
        let same = found.size >= entry.offset && entry.head.matches(&file)? && entry.tail.matches(&file)?;
        if !same {
            return Ok(None);
        }
        let converter = self.sources[source].converter(&entry.name);
        let mut followed = Followed::new(source, entry.name.clone(), file, converter)?;
        followed.resume(entry);
        followed.modified = entry.modified;
        followed.at_home = found.name == entry.name && !entry.copy;
        if !followed.at_home && (entry.copy || found.size == entry.offset) {
            followed.open = None;
        }
        Ok(Some(followed))
    }

    /// Follows files that match and are not known, from their start.
    pub(crate) fn adopt_new(&mut self, source: usize, listing: &Listing) {
        for found in listing.files.iter().filter(|found| found.matches) {
            if self.is_known(found.inode) {
                continue;
            }
            let file = match self.open(source, found) {
                Ok(file) => file,
                // The next list tells what it is called now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.unreadable(source, &self.sources[source].directory.join(&found.name), &error);
                    continue;
                }
            };
            match self.is_copy(source, found, &file) {
                None => {}
                Some(true) => {
                    if let Some(followed) = self.follow(source, found, &found.name, file) {
                        followed.keep_as_copy(found.size);
                    }
                }
                Some(false) => {
                    let since = self.youngest(source, &found.name);
                    if let Some(followed) = self.follow(source, found, &found.name, file) {
                        followed.since = since;
                    }
                    self.adopt_missed(source, listing, &found.name, since);
                }
            }
        }
    }

    /// Follows rotated files that nobody has seen under their first name: made and renamed between two looks, or before the first.
    pub(crate) fn adopt_orphans(&mut self, source: usize, listing: &Listing) {
        for found in listing.files.iter().filter(|found| !found.matches) {
            if self.is_known(found.inode) {
                continue;
            }
            if let Some(name) = name_before(&found.name, |name| self.sources[source].means(name)) {
                let since = self.youngest(source, &name);
                self.adopt_missed(source, listing, &name, since);
            }
        }
    }

    /// When the youngest generation of that name that is known, but for the one that is written now, was last written to.
    fn youngest(&self, source: usize, name: &str) -> i64 {
        let of_name = self.files.iter().filter(|file| file.source == source && file.name == name);
        let known = of_name.map(|file| if file.at_home { file.since } else { file.modified });
        let directory = &self.sources[source].directory;
        let remembered =
            self.remembered.iter().filter(|entry| entry.name == name && entry.directory == *directory);
        known.chain(remembered.map(|entry| entry.modified)).max().unwrap_or(i64::MIN)
    }

    /// Whether a file is a copy of one that is followed. None where it is too early to tell.
    fn is_copy(&self, source: usize, found: &Found, file: &File) -> Option<bool> {
        // A time in the future is of a clock that was set back. At the end there is no later look that could tell.
        let young = (0..COPYING).contains(&(nanos_now() - found.modified)) && !self.last_scan;
        let originals = self.files.iter().filter(|original| {
            original.source == source && !original.copy && is_rotated_name(&original.name, &found.name)
        });
        for (original, open) in originals.filter_map(|original| Some((original, original.open.as_ref()?))) {
            let could_be =
                found.size < original.head.length as u64 || original.head.matches(file).unwrap_or(false);
            if !could_be {
                continue;
            }
            let begins_it = is_beginning(file, &open.file).unwrap_or(false);
            // Asked after that: what has been cut meanwhile begins otherwise. Then the copy is read by who notices the cut.
            if original.is_cut().unwrap_or(false) || (found.size == 0 && young) {
                return None;
            }
            // A short one that matches may be the same by chance, such as a banner: if nothing else comes, it is a file of its own.
            match begins_it {
                true if found.size >= PRINT_BYTES as u64 || !found.matches => {
                    return (original.head.length > 0).then_some(true);
                }
                true if young => return None,
                _ => {}
            }
        }
        Some(false)
    }

    /// A file was cut: what had not been read of it may stand in a copy. It is then read from its start.
    pub(crate) fn truncated(&mut self, index: usize) {
        let file = &mut self.files[index];
        let (source, size) = (file.source, file.size);
        let entry = file.entry(&self.sources[source]);
        // Before the copies are looked for: they are told from those of what stands there now.
        file.restart();
        let source_metrics = &self.sources[source].metrics;
        source_metrics.rotations.fetch_add(1, Relaxed);
        tracing::debug!(
            file = self.sources[source].shown(&entry.name),
            "truncated; reading it from its start"
        );
        let listing = self.list(source).unwrap_or_default();
        self.rescue(source, &listing, &entry, size);
        // Not only what is younger than this one: those that came before it may have been missed as well.
        self.adopt_missed(source, &listing, &entry.name, entry.since);
        // Before its first line is out: after a crash it is the same generation still.
        self.save();
    }

    /// Looks for what is left of a file that is not what it was: its copy, to be read from where we were.
    fn rescue(&mut self, source: usize, listing: &Listing, entry: &Entry, size: u64) {
        let is_read = |found: &Found| self.files.iter().any(|file| file.inode == found.inode && !file.copy);
        let candidates = self
            .opened(source, listing, |found| is_rotated_name(&entry.name, &found.name) && !is_read(found));
        let begins_alike =
            |(_, file): &(_, File)| entry.head.length > 0 && entry.head.matches(file).unwrap_or(false);
        let copies: Vec<_> = candidates.into_iter().filter(begins_alike).collect();
        let is_whole = |(_, file): &(Found, File)| {
            size_of(file) >= entry.offset && entry.tail.matches(file).unwrap_or(false)
        };
        let whole = copies.iter().filter(|copy| is_whole(copy)).map(|(found, _)| found.inode).next_back();
        for (found, file) in copies {
            // One that ends before the place that we have read to has nothing for us, but must be known for what it is. Where the
            // whole is found, it is something else: many files begin with the same banner.
            let useful = whole == Some(found.inode);
            if !useful && (whole.is_some() || size_of(&file) >= entry.offset) {
                continue;
            }
            self.files.retain(|file| file.inode != found.inode);
            let Some(followed) = self.follow(source, &found, &entry.name, file) else { continue };
            if useful {
                followed.at_home = false;
                followed.resume(entry);
                followed.copy = false;
            } else {
                followed.keep_as_copy(found.size);
            }
        }
        let lost = size.saturating_sub(entry.offset);
        if whole.is_none() && lost > 0 {
            self.sources[source].metrics.lost.fetch_add(lost, Relaxed);
            let file = self.sources[source].directory.join(&entry.name);
            let what = "truncated or deleted before it was read to its end";
            if self.complaints.is_news(&file, what) {
                tracing::warn!(file = %file.display(), bytes = lost, "{what}");
            }
        }
    }

    /// Follows rotated files of that name that nobody has seen before, and that were last written to at `since` or later. Those
    /// that match a pattern themselves are found by it.
    pub(crate) fn adopt_missed(&mut self, source: usize, listing: &Listing, name: &str, since: i64) {
        let rotated = |found: &Found| {
            let is_missed = !found.matches && found.modified >= since && is_rotated_name(name, &found.name);
            // A file of the same name that is nearer has it.
            let before = || name_before(&found.name, |name| self.sources[source].means(name));
            is_missed && before().is_none_or(|before| before == name) && !self.is_known(found.inode)
        };
        for (found, file) in self.opened(source, listing, rotated) {
            if self.is_copy(source, &found, &file) != Some(false) {
                continue;
            }
            if let Some(followed) = self.follow(source, &found, name, file) {
                followed.at_home = false;
            }
        }
    }

    /// The files of a listing that are `wanted`, opened. Where some have other names by now, they are listed again: rotation
    /// renames one after the other, and nobody asks for them a second time.
    fn opened(
        &self,
        source: usize,
        listing: &Listing,
        wanted: impl Fn(&Found) -> bool,
    ) -> Vec<(Found, File)> {
        let open = |listing: &Listing| -> io::Result<Vec<(Found, File)>> {
            let mut opened = Vec::new();
            for found in listing.files.iter().filter(|found| wanted(found)) {
                match self.open(source, found) {
                    Ok(file) => opened.push((found.clone(), file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                    Err(_) => {}
                }
            }
            Ok(opened)
        };
        let mut result = open(listing);
        for _ in 0..RENAMES {
            if result.is_ok() {
                break;
            }
            result = self.list(source).and_then(|listing| open(&listing));
        }
        result.unwrap_or_default()
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
        self.has_news = true;
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

fn size_of(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}
