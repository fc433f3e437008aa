//! Walking along the bytes of a line.

/// A stretch of an event's bytes. Positions and not a slice, so that a record's buffers outlive the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes that it stands for.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.end]
    }

    /// Whether it stands for none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A place in a line. Each method takes what it names and moves on, or stays and says no.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// This text.
    pub(crate) fn eat(&mut self, text: &[u8]) -> Option<()> {
        self.rest().starts_with(text).then(|| self.at += text.len())
    }

    pub(crate) fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Everything before the next `end`, and `end` itself.
    pub(crate) fn until(&mut self, end: u8) -> Option<Span> {
        let length = memchr::memchr(end, self.rest())?;
        let span = Span { start: self.at, end: self.at + length };
        self.at = span.end + 1;
        Some(span)
    }

    /// Everything before the next blank or the end; at least one byte.
    pub(crate) fn word(&mut self) -> Option<Span> {
        let length = memchr::memchr2(b' ', b'\n', self.rest()).unwrap_or(self.rest().len());
        self.take(length)
    }

    /// As many digits as there are; at least one.
    pub(crate) fn digits(&mut self) -> Option<Span> {
        self.take(self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count())
    }

    /// What stands between two quotes; a backslash takes the special meaning off the byte after it.
    pub(crate) fn quoted(&mut self) -> Option<Span> {
        self.eat(b"\"")?;
        let start = self.at;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.rest())?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some(Span { start, end: self.at - 1 });
            }
            self.at += 2;
            if self.at > self.bytes.len() {
                return None;
            }
        }
    }

    pub(crate) fn to_end(self) -> Span {
        Span { start: self.at, end: self.bytes.len() }
    }

    fn take(&mut self, length: usize) -> Option<Span> {
        let span = Span { start: self.at, end: self.at + length };
        self.at = span.end;
        (length > 0).then_some(span)
    }
}
