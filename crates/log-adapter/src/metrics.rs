//! What is counted, by source. The tailer writes, the admin thread reads.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::output::Marks;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    sources: Mutex<Vec<Arc<SourceMetrics>>>,
    /// Checkpoints that could not be written.
    pub checkpoint_failures: AtomicU64,
    /// Whether the config's file now holds one that can't be used.
    pub config_refused: AtomicBool,
}

/// The counters of one source.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    /// The `container` label.
    pub container: String,
    /// The `path` label: the directory, as the container sees it.
    pub path: String,
    /// Events written out.
    pub lines: AtomicU64,
    /// Bytes read from files and written out.
    pub bytes: AtomicU64,
    /// Events that are not of their file's format.
    pub parse_errors: AtomicU64,
    /// Events that were longer than allowed.
    pub truncated: AtomicU64,
    /// Events whose line has no start or no end.
    pub partial: AtomicU64,
    /// Events that are not UTF-8.
    pub invalid_utf8: AtomicU64,
    /// Files renamed, replaced or truncated.
    pub rotations: AtomicU64,
    /// Files that can't be opened, now.
    pub unreadable: AtomicU64,
    /// Bytes known to have been lost: truncated or deleted before they were read.
    pub lost: AtomicU64,
    open: Mutex<Vec<Arc<Progress>>>,
}

/// An open file and how far it has been written out. Its size is asked when somebody wants to know the difference: the tailer
/// may be held up by whoever should read its output, and then the difference matters most.
#[derive(Debug)]
pub struct Progress {
    /// The file.
    pub file: File,
    /// How far it has been written out.
    pub offset: AtomicU64,
}

impl Metrics {
    /// The counters of every source.
    pub fn sources(&self) -> Vec<Arc<SourceMetrics>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters of one source, which go on counting where the config has changed around them.
    pub(crate) fn source(&self, container: &str, path: &str) -> Arc<SourceMetrics> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.iter().find(|known| known.container == container && known.path == path) {
            return Arc::clone(known);
        }
        let (container, path) = (container.to_owned(), path.to_owned());
        let new = Arc::new(SourceMetrics { container, path, ..SourceMetrics::default() });
        sources.push(Arc::clone(&new));
        new
    }
}

impl SourceMetrics {
    pub(crate) fn count(&self, marks: Marks) {
        self.lines.fetch_add(1, Relaxed);
        let Marks { parse_error, truncated, partial, invalid_utf8 } = marks;
        for (holds, counter) in [
            (parse_error, &self.parse_errors),
            (truncated, &self.truncated),
            (partial, &self.partial),
            (invalid_utf8, &self.invalid_utf8),
        ] {
            if holds {
                counter.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn set_open(&self, files: Vec<Arc<Progress>>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// Files that are open, now.
    pub fn files(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Bytes in open files that have not been written out yet.
    pub fn lag(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = |progress: &Arc<Progress>| {
            let size = progress.file.metadata().map_or(0, |metadata| metadata.len());
            size.saturating_sub(progress.offset.load(Relaxed))
        };
        open.iter().map(lag).sum()
    }
}
