//! A client's connection, whose frames are told as they pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::reading;
use crate::http2::watch::Watch;
use crate::stream::Stream;

/// A frame's head, RFC 9113 4.1, as far as we look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Of what follows, in bytes.
    pub(crate) length: u32,
}

impl Frame {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;

    const END_HEADERS: u8 = 4;

    /// Whether a head begins or goes on here.
    pub(crate) fn is_of_head(self) -> bool {
        matches!(self.kind, Self::HEADERS | Self::CONTINUATION)
    }

    /// The same, and more of it comes.
    pub(crate) fn leaves_head_open(self) -> bool {
        self.is_of_head() && self.flags & Self::END_HEADERS == 0
    }
}

const HEAD: usize = 9;

/// The frames in one direction of a connection.
#[derive(Debug)]
struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Bytes until the next head.
    skip: usize,
}

impl Frames {
    fn after(preface: usize) -> Self {
        Self { head: [0; HEAD], filled: 0, skip: preface }
    }

    fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                let [high, middle, low, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, high, middle, low]);
                seen(Frame { kind, flags, length });
                (self.filled, self.skip) = (0, length as usize);
            }
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Guarded {
    stream: Stream,
    watch: Rc<Watch>,
    came: Frames,
    went: Frames,
    /// The end, kept back.
    end: Option<io::Result<()>>,
}

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`
const PREFACE: usize = 24;

impl Guarded {
    pub(crate) fn new(stream: Stream, watch: Rc<Watch>) -> Self {
        Self { stream, watch, came: Frames::after(PREFACE), went: Frames::after(0), end: None }
    }

    fn wrote(&mut self, bufs: &[IoSlice<'_>], written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.watch.blocked.set(written.is_pending());
        let written = ready!(written);
        if written.is_err() && !self.watch.may_end.get() {
            self.watch.ended.set(true);
            return Poll::Pending;
        }
        let length = written?;
        let mut left = length;
        for buf in bufs {
            let part = left.min(buf.len());
            self.went.read(&buf[..part], |frame| self.watch.went(frame));
            left -= part;
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.watch.flood().is_some() {
            // Whoever polls sees it too and ends the connection.
            return Poll::Pending;
        }
        ready!(reading::poll_turn(context));
        let before = buffer.filled().len();
        let read = match me.end.take() {
            Some(end) => end,
            None => ready!(Pin::new(&mut me.stream).poll_read(context, buffer)),
        };
        if read.is_err() || buffer.filled().len() == before {
            me.watch.ended.set(true);
            if me.watch.may_end.get() {
                return Poll::Ready(read);
            }
            me.end = Some(read);
            // Whoever polls sees it too, and asks again when all requests are taken.
            return Poll::Pending;
        }
        let came = &buffer.filled()[before..];
        me.watch.read.set(me.watch.read.get() + came.len() as u64);
        me.came.read(came, |frame| {
            reading::came(frame);
            me.watch.came(frame);
        });
        if me.came.skip == 0 {
            me.watch.came_whole();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&[IoSlice::new(bytes)], written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.wrote(bufs, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 3, 0, 1, 0, 0, 0, 1]);
        bytes.extend([0; 3]);
        bytes.extend([0, 0, 8, 6, 0, 0, 0, 0, 0]);
        for cut in 1..=bytes.len() {
            let (mut frames, mut seen) = (Frames::after(PREFACE), Vec::new());
            for part in bytes.chunks(cut) {
                frames.read(part, |frame| seen.push(frame.kind));
            }
            assert_eq!(seen, [4, 0, 6], "by {cut}");
        }
    }
}
