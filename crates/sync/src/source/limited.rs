//! A reader that ends in an error where more comes than is allowed.

use std::io::{self, BufRead, Read};

/// Reads at most so many bytes.
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R> Limited<R> {
    pub(super) const fn new(inner: R, most: u64) -> Self {
        Self { inner, left: most, exceeded: false }
    }

    /// Whether there was more.
    pub(super) const fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl<R: BufRead> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Limited<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = self.inner.fill_buf()?;
        if self.left == 0 && !available.is_empty() {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(&available[..available.len().min(most)])
    }

    fn consume(&mut self, amount: usize) {
        self.left -= amount as u64;
        self.inner.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_comes_whole_and_more_is_an_error() {
        for (most, wanted) in [(4, Some("abcd")), (5, Some("abcd")), (3, None)] {
            let mut limited = Limited::new(&b"abcd"[..], most);
            let mut text = String::new();
            let read = limited.read_to_string(&mut text);
            assert_eq!(read.ok().map(|_| text.as_str()), wanted, "{most}");
            assert_eq!(limited.exceeded(), wanted.is_none());
        }
    }
}
