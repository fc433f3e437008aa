//! The access log: one JSON line to stdout for each request, where it is switched on.

mod line;
mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(crate) use line::{Context, Line, Noted};
use writer::{Batch, Writer};

/// How long a line waits for others, which go with it in one write.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of lines that are not waited with.
const ENOUGH: usize = 16 * 1024;

/// Lines that were lost because stdout took no more, or not at all. Two threads count here, but no request does.
#[derive(Debug, Default)]
pub(crate) struct Dropped(AtomicU64);

impl Dropped {
    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The worker's end of the log. Whoever reads stdout may stop to do so; the worker then loses lines, never time.
#[derive(Debug)]
pub(crate) struct AccessLog {
    on: Cell<bool>,
    passing_on: Cell<bool>,
    pending: RefCell<Batch>,
    writer: RefCell<Option<Writer>>,
    dropped: Arc<Dropped>,
}

impl AccessLog {
    pub(crate) fn new(dropped: Arc<Dropped>) -> Self {
        Self {
            on: Cell::default(),
            passing_on: Cell::default(),
            pending: RefCell::default(),
            writer: RefCell::default(),
            dropped,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.get()
    }

    /// For requests that begin from now on. Its thread is there from the first time that it is on.
    pub(crate) fn switch(self: &Rc<Self>, on: bool) {
        self.on.set(on);
        if !on || self.passing_on.get() {
            return;
        }
        let mut writer = self.writer.borrow_mut();
        if writer.is_none() {
            match Writer::start(Arc::clone(&self.dropped)) {
                Ok(started) => *writer = Some(started),
                Err(error) => {
                    self.on.set(false);
                    tracing::warn!(%error, "failed to start the access log's thread: it stays off");
                    return;
                }
            }
        }
        self.passing_on.set(true);
        tokio::task::spawn_local(Rc::clone(self).pass_on());
    }

    /// Passes lines on that are not enough for a write of their own.
    async fn pass_on(self: Rc<Self>) {
        while self.on.get() {
            tokio::time::sleep(PAUSE).await;
            self.flush();
        }
        self.passing_on.set(false);
    }

    /// A request that began while the log was on may end when it is off, and nobody passes its line on.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut pending = self.pending.borrow_mut();
        pending.push(line);
        let full = pending.bytes.len() >= ENOUGH;
        drop(pending);
        if full || !self.on.get() {
            self.flush();
        }
    }

    fn flush(&self) {
        let batch = self.pending.take();
        if batch.lines > 0
            && let Some(writer) = &*self.writer.borrow()
        {
            writer.send(batch);
        }
    }

    /// The last lines, when no more come. Waits for stdout, but not for long.
    pub(crate) fn close(&self) {
        self.flush();
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }
}
