//! One connection by TLS.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::HeaderValue;
use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::connect;

/// A session after its handshake. Shared by who reads and who writes, as the two halves of a socket are: both are polled by one
/// thread, each for no longer than a call.
#[derive(Debug)]
pub(crate) struct Session {
    stream: RefCell<TlsStream<TcpStream>>,
    /// That of the client's certificate, where it has shown one and the app is to know.
    pub(crate) subject: Option<HeaderValue>,
    cut: Cell<bool>,
}

impl Session {
    pub(crate) fn new(stream: TlsStream<TcpStream>, subject: Option<HeaderValue>) -> Self {
        Self { stream: RefCell::new(stream), subject, cut: Cell::new(false) }
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
        self.with(|stream| stream.poll_write(context, bytes))
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
        self.with(|stream| stream.poll_write_vectored(context, pieces))
    }

    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
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
