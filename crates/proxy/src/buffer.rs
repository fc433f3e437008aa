//! Buffers that are held only while bytes move.
//!
//! A connection that waits owns none, so that thousands of idle ones cost little; those in use go from hand to hand and
//! stay in the processor's cache. A thread's own, so they need no lock.
//!
//! Peers that are slow, or mean to be, could hold one each, which is more memory than a sidecar has. So what they hold together is counted,
//! and where it is too much, bytes are read only when they can be passed on at once, and whoever would keep one waiting is given up.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a buffer can hold at first. 16 KiB: most messages come in one read.
pub(crate) const SIZE: usize = 16 * 1024;

/// What is kept also where buffers are scarce, in bytes: about the head of a request, without which nobody could be served.
const SMALL: usize = 1024;

/// How much may be in use where they are scarce already, in bytes: what small requests take that are served all the same. Of the quarter of
/// the limit that is left alone.
const BEYOND: usize = 2 * 1024 * 1024;

/// How many free ones a thread keeps; beyond, memory goes back.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// Bytes of those in use.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// Beyond which they are scarce.
    static BOUND: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// From how many bytes on, in use on this thread, buffers are scarce. Without it they never are.
pub(crate) fn bound(bytes: usize) {
    BOUND.set(bytes);
}

/// Whether so much is in use that nobody should wait with a buffer in hand.
pub(crate) fn is_scarce() -> bool {
    HELD.get() > BOUND.get()
}

/// Whether so many bytes are more than may be kept now.
pub(crate) fn is_too_much(bytes: usize) -> bool {
    is_scarce() && bytes > SMALL
}

/// Whether nothing is left, also not for what is small.
pub(crate) fn is_full() -> bool {
    HELD.get() > BOUND.get().saturating_add(BEYOND)
}

/// Whether new connections that take much by themselves, by TLS or HTTP/2, would soon leave too little for those that are there.
pub(crate) fn is_filling() -> bool {
    HELD.get() > BOUND.get() / 4 * 3
}

/// An empty buffer at first. Dropped, it is free for the next.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    held: Held,
}

/// Bytes that count as in use until this is dropped.
#[derive(Debug)]
pub(crate) struct Held(usize);

impl Held {
    pub(crate) fn new(bytes: usize) -> Self {
        HELD.set(HELD.get() + bytes);
        Self(bytes)
    }

    /// `None` where with so many more they would be scarce.
    pub(crate) fn if_it_fits(bytes: usize) -> Option<Self> {
        (HELD.get().saturating_add(bytes) <= BOUND.get()).then(|| Self::new(bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - self.0);
    }
}

/// Bytes that stand for long, in no more room than they need. They count as those of a [`Buffer`] do.
#[derive(Debug, Default)]
pub(crate) struct Stored(Vec<u8>);

impl Stored {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        HELD.set(HELD.get() + bytes.capacity());
        Self(bytes)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let before = self.0.capacity();
        self.0.extend_from_slice(bytes);
        HELD.set(HELD.get() + self.0.capacity() - before);
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        HELD.set(HELD.get() - self.0.capacity());
    }
}

impl Deref for Stored {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Buffer {
    pub(crate) fn borrow() -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        Self { bytes: free.unwrap_or_else(|| Vec::with_capacity(SIZE)), held: Held::new(SIZE) }
    }

    /// One that holds these bytes.
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let mut buffer = Self::borrow();
        buffer.bytes.extend_from_slice(bytes);
        buffer.held = Held::new(buffer.bytes.capacity());
        buffer
    }

    /// Makes room for more.
    pub(crate) fn grow(&mut self) {
        self.bytes.reserve(SIZE);
        self.held = Held::new(self.bytes.capacity());
    }

    /// Whether a read found more than it had room for, or as much.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= SIZE
    }

    /// Gives its memory back, by who waits before it is dropped.
    pub(crate) fn give_back(&mut self) {
        let held = std::mem::replace(&mut self.held, Held(0));
        drop(Self { bytes: std::mem::take(&mut self.bytes), held });
    }
}

/// Waits for bytes and reads them; at the end of the stream there are none. While it waits it holds no buffer.
pub(crate) async fn receive(from: &mut impl Receive) -> io::Result<Buffer> {
    std::future::poll_fn(|context| from.poll_receive(context)).await
}

/// As [`receive`], of what can only read into a buffer that is there.
pub(crate) fn poll_read(
    from: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
) -> Poll<io::Result<Buffer>> {
    let mut buffer = Buffer::borrow();
    pin!(from.read_buf(&mut *buffer)).poll(context).map_ok(|_| buffer)
}

/// Where bytes come from.
pub(crate) trait Receive {
    /// As [`receive`], for who waits for something else too.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Buffer>>;
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
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
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_counts_until_it_is_given_back() {
        bound(2 * SIZE);
        let (mut first, second) = (Buffer::borrow(), Buffer::borrow());
        assert!(!is_scarce());
        let third = Held::new(1);
        assert!(is_scarce());
        drop(third);
        assert!(!is_scarce());
        first.extend_from_slice(&[0; SIZE]);
        first.grow();
        assert!(is_scarce(), "one that has grown counts for more");
        first.give_back();
        drop(second);
        assert_eq!(HELD.get(), 0);
        drop(first);
        assert_eq!(HELD.get(), 0);
        let mut stored = Stored::of(&[0; SIZE]);
        stored.add(&[0; SIZE]);
        assert!(!is_scarce());
        stored.add(&[0]);
        assert!(is_scarce(), "what is stored counts too");
        assert!(is_too_much(SMALL + 1) && !is_too_much(SMALL));
        drop(stored);
        let most = Held::new(2 * SIZE + BEYOND);
        assert!(is_scarce() && !is_full());
        drop(most);
        let more = Held::new(2 * SIZE + BEYOND + 1);
        assert!(is_full());
        drop(more);
        assert_eq!(HELD.get(), 0);
    }
}
