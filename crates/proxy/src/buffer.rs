//! Buffers that are held only while bytes move.
//!
//! A connection that waits owns none, so that thousands of idle ones cost little; those in use go from hand to hand and
//! stay in the processor's cache. A thread's own, so they need no lock.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

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
