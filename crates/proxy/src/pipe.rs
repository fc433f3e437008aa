//! Bytes that go from one socket to the other without being copied: through a pipe, by `splice(2)`.
//!
//! For what comes in bulk: there it takes less than half of the processor time of reading and writing. For a message that
//! fits a buffer it would take more.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffer::Held;
use crate::reason::Reason;
use crate::stall;

/// Most that one call moves. The pipe's own bound, in pages, is reached long before.
const MOST: usize = 1 << 20;

/// How many free ones a thread keeps: each has two file descriptors.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe that holds bytes on their way. As of [buffers](crate::buffer), none is held while nothing comes.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    holds: usize,
    _held: Held,
}

impl Pipe {
    /// Takes what has come, but no more than `most` bytes; at the end of the stream there are none. `None` where nothing has
    /// come, or no file descriptor is left for a pipe: then it has to be read.
    pub(crate) fn fill(from: &TcpStream, most: u64) -> io::Result<Option<Self>> {
        let Some(ends) = FREE.with_borrow_mut(Vec::pop).or_else(Ends::new) else { return Ok(None) };
        let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
        let filled =
            from.try_io(Interest::READABLE, || Ok(splice(from, None, &ends.write, None, most, flags())?));
        let (holds, result) = match filled {
            Ok(length) => (length, Ok(true)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Ok(false)),
            Err(error) => (0, Err(error)),
        };
        let pipe = Self { ends: Some(ends), holds, _held: Held::new(holds) };
        result.map(|came| came.then_some(pipe))
    }

    /// How many bytes it holds.
    pub(crate) fn holds(&self) -> usize {
        self.holds
    }

    /// Passes on what it holds.
    pub(crate) async fn empty(mut self, to: &TcpStream) -> io::Result<()> {
        while self.holds > 0 {
            self.pass_some(to).await?;
        }
        Ok(())
    }

    /// As [`empty`](Self::empty), to a client that must take some of it within each such time.
    pub(crate) async fn empty_within(mut self, limit: Duration, client: &TcpStream) -> Result<(), Reason> {
        while self.holds > 0 {
            Box::pin(stall::wait(limit, self.pass_some(client))).await?;
        }
        Ok(())
    }

    async fn pass_some(&mut self, to: &TcpStream) -> io::Result<()> {
        if let Some(ends) = &self.ends {
            let write = || Ok(splice(&ends.read, None, to, None, self.holds, flags())?);
            self.holds -= to.async_io(Interest::WRITABLE, write).await?;
        }
        Ok(())
    }
}

impl Ends {
    fn new() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        Some(Self { read, write })
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Given up with bytes in it, it would pass them to another connection.
        let Some(ends) = self.ends.take().filter(|_| self.holds == 0) else { return };
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(ends);
            }
        });
    }
}
