//! Following files: finding them, reading them in turn, remembering how far.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use outrigger_api::logs::LogSource;

use crate::checkpoint::{self, CheckpointError, Entry};
use crate::complaints::Complaints;
use crate::discover::{self, Found, Listing};
use crate::followed::{Followed, Look, LookError, Pump};
use crate::metrics::Metrics;
use crate::open_files;
use crate::source::{Pod, Source, SourceError};
use crate::wake::{self, Wake};

/// How often directories are listed and every file is looked at, whatever inotify says. Longer where listing takes long: see
/// [`Tailer::scan`].
const SCAN: Duration = Duration::from_secs(1);
/// Pause between two rounds while files are written to: lines that come one by one are written out together, and cost a
/// hundredth of the wake-ups.
const ROUND: Duration = Duration::from_millis(10);
/// A checkpoint is written when so much has been written out since the last one, or so long ago. After a crash no more than
/// that comes a second time.
const CHECKPOINT_BYTES: u64 = 1024 * 1024;
const CHECKPOINT_TIME: Duration = Duration::from_millis(100);
/// How long a file that has lost its name must be quiet before it is closed: apps write to it until they open the new one.
const QUIET: Duration = Duration::from_secs(5);

/// How often a directory is listed again while names in it change, and how long after: a rotation of thousands of files takes less.
const RENAMES: u32 = 50;
const A_RENAME: Duration = Duration::from_millis(2);
/// How long all files must be quiet at a stop, for what the kernel still has to tell.
const QUIET_STOP: Duration = Duration::from_millis(500);

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// Nobody reads our output any more.
    #[error("failed to write lines: {0}")]
    Write(io::Error),
    /// A source's expression is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No event descriptor.
    #[error("failed to set up waiting: {0}")]
    Wake(io::Error),
}

/// Follows the files of all sources.
#[derive(Debug)]
pub struct Tailer {
    pub(crate) sources: Vec<Source>,
    pub(crate) files: Vec<Followed>,
    /// From the checkpoint, until the file is found again.
    pub(crate) remembered: Vec<Entry>,
    /// Whether files were found since the last checkpoint.
    pub(crate) has_news: bool,
    pump: Pump,
    wake: Wake,
    checkpoint: PathBuf,
    saved: Instant,
    metrics: Arc<Metrics>,
    pub(crate) complaints: Complaints,
    stop: Arc<Stop>,
    /// How long all files must be quiet before a stop is done.
    quiet_stop: Duration,
    next_scan: Instant,
    /// Whether nothing is looked at once more after this scan.
    pub(crate) last_scan: bool,
    /// How many files may be open at a time.
    most_open: usize,
}

/// Asks a [`Tailer`] to read everything to its end and then to return.
#[derive(Debug)]
pub struct Stop {
    requested: AtomicBool,
    wake: OwnedFd,
}

impl Stop {
    /// Asks. Asking again changes nothing.
    pub fn request(&self) {
        self.requested.store(true, Relaxed);
        wake::stop(&self.wake);
    }
}

impl Tailer {
    /// Follows `sources` and writes to `sink`. Goes on where the checkpoint says; one that can't be used is reported and
    /// everything is read again, because twice is better than never.
    pub fn new(
        sources: Vec<LogSource>,
        pod: &Pod,
        checkpoint: PathBuf,
        sink: File,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TailError> {
        let (wake, handle) = Wake::new().map_err(TailError::Wake)?;
        let remembered = checkpoint::load(&checkpoint).unwrap_or_else(|error| {
            tracing::error!(%error, "reading every file from its start");
            Vec::new()
        });
        Ok(Self {
            sources: ready(sources, pod, &metrics)?,
            files: Vec::new(),
            remembered,
            has_news: false,
            pump: Pump::new(sink),
            wake,
            checkpoint,
            saved: Instant::now(),
            metrics,
            complaints: Complaints::new(),
            quiet_stop: QUIET_STOP,
            stop: Arc::new(Stop { requested: AtomicBool::new(false), wake: handle }),
            next_scan: Instant::now(),
            last_scan: false,
            most_open: open_files::most(),
        })
    }

    /// Waits at a stop until all files were quiet for that long. Default: half a second, which is for what the kernel still
    /// has to tell: a native sidecar is stopped when the app has ended.
    #[must_use]
    pub fn quiet_for(self, quiet_stop: Duration) -> Self {
        Self { quiet_stop, ..self }
    }

    /// What stops it.
    pub fn stop(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }

    /// Follows until it is stopped, then writes out what is there and returns. `reconfigured` is asked once a second for new
    /// sources.
    pub fn run(
        &mut self,
        pod: &Pod,
        mut reconfigured: impl FnMut() -> Option<Vec<LogSource>>,
    ) -> Result<(), TailError> {
        let mut quiet_since = Instant::now();
        loop {
            if Instant::now() >= self.next_scan {
                if let Some(sources) = reconfigured() {
                    self.reconfigure(sources, pod);
                }
                self.scan()?;
            }
            let busy = self.round(false)?;
            self.save_if_due();
            if busy {
                quiet_since = Instant::now();
            }
            if self.stop.requested.load(Relaxed) && quiet_since.elapsed() >= self.quiet_stop {
                self.last_scan = true;
                self.scan()?;
                while self.round(true)? {}
                self.save();
                return Ok(());
            }
            if !busy {
                self.pause();
            }
        }
    }

    /// New sources in place of the old ones. Files go on where they were.
    fn reconfigure(&mut self, sources: Vec<LogSource>, pod: &Pod) {
        match ready(sources, pod, &self.metrics) {
            Ok(sources) => {
                let old = std::mem::replace(&mut self.sources, sources);
                for source in &old {
                    source.metrics.set_open(Vec::new());
                }
                for file in std::mem::take(&mut self.files) {
                    self.hand_over(file, &old);
                }
                tracing::info!(sources = self.sources.len(), "config changed");
            }
            Err(error) => {
                self.metrics.config_refused.store(true, Relaxed);
                tracing::error!(%error, "the last good config stays");
            }
        }
    }

    /// Gives a file to the source that has its directory now. It stays open: it may have been deleted, and not be read yet.
    fn hand_over(&mut self, mut file: Followed, old: &[Source]) {
        let entry = file.entry(&old[file.source]);
        let heir = |source: &Source| {
            source.directory == entry.directory && (entry.rotated || source.means(&entry.name))
        };
        match self.sources.iter().position(heir) {
            Some(index) => {
                file.hand_over(index, self.sources[index].converter(&entry.name));
                self.files.push(file);
            }
            None => self.remembered.push(entry),
        }
    }

    /// Looks at every file once. Returns whether anything was read.
    fn round(&mut self, last: bool) -> Result<bool, TailError> {
        let mut busy = false;
        let mut index = 0;
        while index < self.files.len() {
            let file = &mut self.files[index];
            let look = file.look(&self.sources[file.source], &mut self.pump, last);
            match look {
                Ok(Look::Idle) => {}
                Ok(Look::Read) => busy = true,
                Ok(Look::Begun) => {
                    busy = true;
                    self.save();
                }
                Ok(Look::Truncated) => {
                    busy = true;
                    self.truncated(index);
                }
                Err(LookError::Write(error)) => {
                    self.save();
                    return Err(TailError::Write(error));
                }
                Err(LookError::Read(error)) => {
                    let path = self.sources[file.source].directory.join(&file.name);
                    self.complain(&path, &error, "failed to read log file; it is tried again");
                }
            }
            // At full speed a round is long, and a checkpoint falls due within it.
            self.save_if_due();
            index += 1;
        }
        Ok(busy)
    }

    /// Lists every source's directory: new files are followed, those that lost their name are noticed.
    fn scan(&mut self) -> Result<(), TailError> {
        let mut took = Duration::ZERO;
        for file in &mut self.files {
            self.has_news |= file.learn();
        }
        for index in 0..self.sources.len() {
            let listing = match self.list(index) {
                Ok(listing) => listing,
                Err(error) => {
                    let path = self.sources[index].directory.clone();
                    self.complain(&path, &error, "failed to list directory; it is tried again");
                    continue;
                }
            };
            took += listing.took;
            for directory in &listing.directories {
                self.wake.watch(directory);
            }
            self.sources[index].unreadable = 0;
            for (directory, error) in &listing.closed {
                self.unreadable(index, directory, error);
            }
            self.recall(index, &listing);
            self.notice_renames(index, &listing);
            self.close_finished(index, &listing)?;
            self.adopt_new(index, &listing);
            self.adopt_orphans(index, &listing);
            let source = &self.sources[index];
            let open =
                self.files.iter().filter(|file| file.source == index).filter_map(|file| file.open.clone());
            source.metrics.set_open(open.collect());
            source.metrics.unreadable.store(source.unreadable, Relaxed);
        }
        // What is known before its first line is out is not taken for something else after a crash.
        if std::mem::take(&mut self.has_news) {
            self.save();
        }
        // So that to list a hundred thousand files costs no more than a hundredth of a CPU, as long as no name changes.
        self.next_scan = Instant::now() + SCAN.max(took * 100);
        Ok(())
    }

    /// Lists a source's directory, again where names change meanwhile: who forgets a file that stands in neither place reads it twice, and a
    /// generation that is in no list may never be read, when younger ones are known.
    pub(crate) fn list(&self, source: usize) -> io::Result<Listing> {
        let Source { directory, config, .. } = &self.sources[source];
        let mut listing = discover::list(directory, &config.files)?;
        for _ in 0..RENAMES {
            if !listing.is_blurred {
                break;
            }
            std::thread::sleep(A_RENAME);
            listing = discover::list(directory, &config.files)?;
        }
        Ok(listing)
    }

    /// Opens a file that was found. Some descriptors are left: without a checkpoint everything would come twice.
    pub(crate) fn open(&self, source: usize, found: &Found) -> io::Result<File> {
        if self.files.iter().filter(|file| file.open.is_some()).count() >= self.most_open {
            return Err(rustix::io::Errno::MFILE.into());
        }
        found.open(&self.sources[source].directory)
    }

    /// Files that have lost their names. What was made and rotated away since, before anybody saw it, is read as well.
    fn notice_renames(&mut self, source: usize, listing: &Listing) {
        for index in 0..self.files.len() {
            let file = &mut self.files[index];
            let at_home =
                || listing.files.iter().any(|found| found.inode == file.inode && found.name == file.name);
            if file.source != source || !file.at_home || at_home() {
                continue;
            }
            file.at_home = false;
            let name = file.name.clone();
            let modified = file.open.as_ref().and_then(|open| open.file.metadata().ok());
            let since = modified.map_or(file.modified, |metadata| discover::modified(&metadata));
            self.sources[source].metrics.rotations.fetch_add(1, Relaxed);
            tracing::debug!(
                file = self.sources[source].shown(&name),
                "renamed or deleted; reading it to its end"
            );
            self.adopt_missed(source, listing, &name, since);
        }
    }

    /// Closes files without a name that were read to their end, and forgets those that are gone. Looks again at those that have
    /// grown all the same.
    fn close_finished(&mut self, source: usize, listing: &Listing) -> Result<(), TailError> {
        let mut index = 0;
        while index < self.files.len() {
            let file = &mut self.files[index];
            if file.source != source || file.at_home {
                index += 1;
                continue;
            }
            let found = listing.files.iter().find(|found| found.inode == file.inode);
            if file.open.is_some() && file.is_quiet(QUIET) && (found.is_some() || file.is_deleted()) {
                // What is held back of it will not be completed any more. Where there is more, as after a long wait for our own
                // output, it is closed another time.
                match file.look(&self.sources[source], &mut self.pump, true) {
                    Ok(Look::Idle) | Err(LookError::Read(_)) => file.open = None,
                    Ok(Look::Begun | Look::Read | Look::Truncated) => {}
                    Err(LookError::Write(error)) => {
                        self.save();
                        return Err(TailError::Write(error));
                    }
                }
            }
            let stays = found.is_some_and(|found| found.size == file.offset);
            if file.open.is_some() || stays {
                index += 1;
                continue;
            }
            let file = self.files.remove(index);
            // A copy that grows is judged anew: as a file that nobody knows.
            if found.is_some() && !file.copy {
                self.remembered.push(file.entry(&self.sources[source]));
                self.recall(source, listing);
            }
        }
        Ok(())
    }

    /// Counts and reports a file that can't be opened.
    pub(crate) fn unreadable(&mut self, source: usize, path: &Path, error: &io::Error) {
        self.sources[source].unreadable += 1;
        self.complain(path, error, "failed to open log file; it is tried again");
    }

    pub(crate) fn complain(&mut self, path: &Path, error: &io::Error, what: &'static str) {
        if self.complaints.is_news(path, what) {
            tracing::warn!(%error, path = %path.display(), "{what}");
        }
    }

    fn pause(&mut self) {
        // Below a round's pause there is no point in being told of each line.
        std::thread::sleep(ROUND);
        let until_scan = self.next_scan.saturating_duration_since(Instant::now());
        let unsaved = self.pump.unconfirmed > 0;
        let stopping = self.stop.requested.load(Relaxed);
        let most = if stopping || unsaved { CHECKPOINT_TIME } else { SCAN };
        if self.wake.wait(until_scan.min(most)) {
            self.next_scan = Instant::now();
        }
    }

    fn save_if_due(&mut self) {
        let unconfirmed = self.pump.unconfirmed;
        if unconfirmed >= CHECKPOINT_BYTES || (unconfirmed > 0 && self.saved.elapsed() >= CHECKPOINT_TIME) {
            self.save();
        }
    }

    pub(crate) fn save(&mut self) {
        self.saved = Instant::now();
        match checkpoint::save(&self.checkpoint, self.entries()) {
            Ok(()) => self.pump.unconfirmed = 0,
            Err(error) => self.save_failed(&error),
        }
    }

    /// Lines go on all the same: they come twice after a restart, rather than not at all.
    fn save_failed(&mut self, error: &CheckpointError) {
        if self.metrics.checkpoint_failures.fetch_add(1, Relaxed) == 0 {
            tracing::error!(%error, "after a restart, lines will come twice");
        }
        self.pump.unconfirmed = 0;
    }

    /// What is known of every file, found again or not yet.
    fn entries(&self) -> Vec<Entry> {
        let followed = self.files.iter().map(|file| file.entry(&self.sources[file.source]));
        followed.chain(self.remembered.iter().cloned()).collect()
    }
}

fn ready(sources: Vec<LogSource>, pod: &Pod, metrics: &Metrics) -> Result<Vec<Source>, SourceError> {
    sources.into_iter().map(|source| Source::new(source, pod, metrics)).collect()
}

#[cfg(test)]
mod tests;
