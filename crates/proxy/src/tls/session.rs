//! One connection by TLS.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use http::HeaderValue;
use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::buffer::Held;
use crate::connect;

/// What a session takes in memory, in bytes, while nothing moves: keys, a buffer of 4 KiB to read into, and what the allocator adds.
pub(crate) const SIZE: usize = 10 * 1024;

/// A session after its handshake. Shared by who reads and who writes, as the two halves of a socket are: both are polled by one
/// thread, each for no longer than a call.
#[derive(Debug)]
pub(crate) struct Session {
    stream: RefCell<TlsStream<TcpStream>>,
    /// That of the client's certificate, where it has shown one and the app is to know.
    pub(crate) subject: Option<HeaderValue>,
    cut: Cell<bool>,
    /// Bytes that were taken from us and not yet by the socket.
    kept_back: RefCell<Held>,
    _held: Held,
}

impl Session {
    pub(crate) fn new(stream: TlsStream<TcpStream>, subject: Option<HeaderValue>, held: Held) -> Self {
        Self {
            stream: RefCell::new(stream),
            subject,
            cut: Cell::new(false),
            kept_back: RefCell::new(Held::new(0)),
            _held: held,
        }
    }

    /// Whether the two agreed on HTTP/2, by ALPN (RFC 7301).
    pub(crate) fn chose_http2(&self) -> bool {
        self.stream.borrow().get_ref().1.alpn_protocol() == Some(b"h2")
    }

    fn with<T>(&self, poll: impl FnOnce(Pin<&mut TlsStream<TcpStream>>) -> T) -> T {
        poll(Pin::new(&mut *self.stream.borrow_mut()))
    }

    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }

    /// How much has come and was not read yet; 0 at the end.
    pub(crate) fn poll_peek(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_fill_buf(context).map_ok(<[u8]>::len))
    }

    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(context))?;
        let taken = ready!(self.with(|stream| stream.poll_write(context, bytes)))?;
        Poll::Ready(Ok(self.count(taken)))
    }

    /// Waits until nothing is kept back: of a client that reads slowly there is never more than one piece in the session, which would by itself
    /// take 64 KiB.
    fn poll_sent(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.keeps_back() { self.poll_flush(context) } else { Poll::Ready(Ok(())) }
    }

    /// Whether there is what the socket had no room for.
    pub(crate) fn keeps_back(&self) -> bool {
        self.stream.borrow().get_ref().1.wants_write()
    }

    fn count(&self, taken: usize) -> usize {
        self.kept_back.replace(Held::new(if self.keeps_back() { taken } else { 0 }));
        taken
    }

    /// Takes what there is room for; `WouldBlock` where there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(taken) => taken,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn poll_write_vectored(
        &self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(context))?;
        let taken = ready!(self.with(|stream| stream.poll_write_vectored(context, pieces)))?;
        Poll::Ready(Ok(self.count(taken)))
    }

    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.with(|stream| stream.poll_flush(context)))?;
        self.kept_back.replace(Held::new(0));
        Poll::Ready(Ok(()))
    }

    /// Waits until the socket has room, and nothing is kept back.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        self.stream.borrow().get_ref().0.poll_write_ready(context)
    }

    pub(crate) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }

    /// As [`connect::reset`]; and without a word of an orderly end, which would make a part of an answer look whole.
    pub(crate) fn reset(&self) {
        self.cut.set(true);
        connect::reset(self.stream.borrow().get_ref().0);
    }
}

impl Drop for Session {
    /// Says that this is the end, RFC 8446 6.1: some clients take anything else for an attack that cut off the answer.
    fn drop(&mut self) {
        if self.cut.get() {
            return;
        }
        match self.stream.get_mut() {
            TlsStream::Client(stream) => {
                let (socket, session) = stream.get_mut();
                part(socket, session);
            }
            TlsStream::Server(stream) => {
                let (socket, session) = stream.get_mut();
                part(socket, session);
            }
        }
    }
}

fn part<Side: SideData>(socket: &TcpStream, session: &mut ConnectionCommon<Side>) {
    session.send_close_notify();
    // Where the socket takes no more, nobody reads it.
    while session.wants_write() && session.write_tls(&mut Unwaiting(socket)).is_ok_and(|taken| taken > 0) {}
}

/// Writes what the socket takes at once.
struct Unwaiting<'a>(&'a TcpStream);

impl Write for Unwaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
