//! Buffers that are held only while bytes move.
//!
//! A connection that waits owns none, so that thousands of idle ones cost little; those in use go from hand to hand and
//! stay in the processor's cache. A thread's own, so they need no lock.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use tokio::net::tcp;

use crate::socket_io;

/// What a buffer can hold at first. 16 KiB: most messages come in one read.
pub(crate) const SIZE: usize = 16 * 1024;

/// How many free ones a thread keeps; beyond, memory goes back.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer at first. Dropped, it is free for the next.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn borrow() -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        Self(free.unwrap_or_else(|| Vec::with_capacity(SIZE)))
    }

    /// Whether a read found more than it had room for, or as much.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= SIZE
    }

    /// Gives its memory back, by who waits before it is dropped.
    pub(crate) fn give_back(&mut self) {
        drop(Self(std::mem::take(&mut self.0)));
    }
}

/// Waits for bytes and reads them; at the end of the stream there are none. While it waits it holds no buffer.
pub(crate) async fn receive(from: &mut impl Receive) -> io::Result<Buffer> {
    std::future::poll_fn(|context| poll_receive(from, context)).await
}

/// As [`receive`], for who waits for something else too.
pub(crate) fn poll_receive(from: &mut impl Receive, context: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
    let mut buffer = Buffer::borrow();
    from.poll_receive(context, &mut buffer).map_ok(|_| buffer)
}

/// Where bytes come from.
pub(crate) trait Receive {
    /// Waits for bytes and reads them into the room that `into` has; 0 at the end of the stream.
    fn poll_receive(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>>;
}

impl Receive for tcp::ReadHalf<'_> {
    fn poll_receive(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        socket_io::poll_read(self.as_ref(), context, into)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        // One that has grown for a large head would stay large.
        if bytes.capacity() != SIZE {
            return;
        }
        bytes.clear();
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}
