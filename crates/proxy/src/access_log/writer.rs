//! The thread that writes to stdout, which may block for as long as nobody reads there.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::access_log::Dropped;
use crate::access_log::line::Line;

/// Batches that wait for stdout: half a megabyte, of the 64 that a proxy has by default.
const QUEUE: usize = 32;

/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that go together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: u64,
}

impl Batch {
    pub(crate) fn push(&mut self, line: &Line<'_>) {
        // Fails only for want of memory, which ends the process anyway.
        if serde_json::to_writer(&mut self.bytes, line).is_ok() {
            self.bytes.push(b'\n');
            self.lines += 1;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Batch>,
    /// Ends when the thread does.
    ended: Receiver<()>,
    dropped: Arc<Dropped>,
}

impl Writer {
    pub(crate) fn start(dropped: Arc<Dropped>) -> io::Result<Self> {
        let (queue, batches) = sync_channel::<Batch>(QUEUE);
        let (end, ended) = sync_channel(0);
        let lost = Arc::clone(&dropped);
        let write = move || {
            // Gone with the thread, which tells the other side.
            let _end: SyncSender<()> = end;
            for batch in batches {
                let mut out = io::stdout().lock();
                if out.write_all(&batch.bytes).and_then(|()| out.flush()).is_err() {
                    lost.add(batch.lines);
                }
            }
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        Ok(Self { queue, ended, dropped })
    }

    /// Hands them over, or drops them where too many wait already.
    pub(crate) fn send(&self, batch: Batch) {
        let lines = batch.lines;
        if self.queue.try_send(batch).is_err() {
            self.dropped.add(lines);
        }
    }

    pub(crate) fn finish(self) {
        drop(self.queue);
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}
