//! How much a server may send: each byte of a session counts, whatever it is for.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What may still come, on any connection of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    left: Arc<AtomicU64>,
    exceeded: Arc<AtomicBool>,
}

impl Allowance {
    pub(super) fn new(bytes: u64) -> Self {
        let allowance = Self::default();
        allowance.set(bytes);
        allowance
    }

    /// From now on it is so much.
    pub(super) fn set(&self, bytes: u64) {
        self.left.store(bytes, Relaxed);
    }

    /// Whether more came.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded.load(Relaxed)
    }

    /// Counts what came.
    pub(super) fn take(&self, bytes: usize) -> io::Result<()> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes as u64));
        taken.map(|_| ()).map_err(|_| {
            self.exceeded.store(true, Relaxed);
            io::ErrorKind::FileTooLarge.into()
        })
    }
}

/// A reader that ends in an error where more comes than is allowed.
pub(super) struct Counted<R> {
    pub(super) inner: R,
    pub(super) allowance: Allowance,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.allowance.take(length)?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_comes_whole_and_more_is_an_error() {
        for (most, wanted) in [(4, Some("abcd")), (5, Some("abcd")), (3, None)] {
            let allowance = Allowance::new(most);
            let mut counted = Counted { inner: &b"abcd"[..], allowance: allowance.clone() };
            let mut text = String::new();
            let read = counted.read_to_string(&mut text);
            assert_eq!(read.ok().map(|_| text.as_str()), wanted, "{most}");
            assert_eq!(allowance.exceeded(), wanted.is_none());
        }
    }
}
