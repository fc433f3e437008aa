//! A connection to a peer: plain, or by TLS that ends here. Reading, writing and waiting are the same to whoever passes messages on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};

use crate::buffer::{self, Buffer, Receive};
use crate::connect;
use crate::socket_io;
use crate::tls::Session;

/// A connection. An enum and not a trait object: the plain one, which nearly all are, costs a comparison and no more.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Boxed: a session has keys and buffers, and a plain connection needs no room for them.
    Tls(Box<Session>),
}

impl Stream {
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(session) => (ReadHalf::Tls(session), WriteHalf::Tls(session)),
        }
    }

    /// Takes what there is room for; `WouldBlock` where there is none. By TLS it is on its way only after a flush.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => socket_io::try_write(stream, bytes),
            Self::Tls(session) => session.try_write(bytes),
        }
    }

    /// What the kernel has of a plain connection, whatever the runtime knows of it; `None` where that is nothing, or the end.
    pub(crate) fn read_now(&self) -> Option<Buffer> {
        let Self::Plain(stream) = self else { return None };
        let mut buffer = Buffer::borrow();
        let length = socket_io::read_now(stream, &mut buffer).ok()?;
        (length > 0).then_some(buffer)
    }

    /// Waits until the peer says something, be it the end, which stays there.
    pub(crate) async fn speaks(&self) {
        match self {
            Self::Plain(stream) => drop(stream.readable().await),
            // Not by the socket: what comes there may be TLS's own.
            Self::Tls(session) => drop(std::future::poll_fn(|context| session.poll_peek(context)).await),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The subject of the certificate that the peer has shown.
    pub(crate) fn subject(&self) -> Option<&HeaderValue> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(session) => session.subject.as_ref(),
        }
    }

    /// Lets the peer see, when this is dropped, that the connection is broken.
    pub(crate) fn reset(&self) {
        match self {
            Self::Plain(stream) => connect::reset(stream),
            Self::Tls(session) => session.reset(),
        }
    }
}

/// The reading side.
#[derive(Debug)]
pub(crate) enum ReadHalf<'a> {
    Plain(tcp::ReadHalf<'a>),
    Tls(&'a Session),
}

/// The writing side, which also knows whether the peer is still there.
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    Plain(tcp::WriteHalf<'a>),
    Tls(&'a Session),
}

impl ReadHalf<'_> {
    /// The socket, where its bytes are the message's: what the kernel can pass on by itself.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }
}

impl WriteHalf<'_> {
    /// As of [`ReadHalf::plain`].
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }

    /// Takes what there is room for; `WouldBlock` where there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(half) => socket_io::try_write(half.as_ref(), bytes),
            Self::Tls(session) => session.try_write(bytes),
        }
    }

    /// Whether bytes that were taken still stand in the proxy.
    pub(crate) fn keeps_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(session) => session.keeps_back(),
        }
    }

    /// Waits until there is room again.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(half) => half.writable().await,
            Self::Tls(session) => std::future::poll_fn(|context| session.poll_writable(context)).await,
        }
    }

    /// Looks at what the peer sends, and leaves it there: its length, 0 at the end.
    pub(crate) fn poll_peek(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => half.as_ref().poll_peek(context, &mut ReadBuf::new(&mut [0])),
            Self::Tls(session) => session.poll_peek(context),
        }
    }
}

impl Receive for Stream {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        match self {
            Self::Plain(stream) => socket_io::poll_receive(stream, context),
            Self::Tls(_) => buffer::poll_read(self, context),
        }
    }
}

impl Receive for ReadHalf<'_> {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        match self {
            Self::Plain(half) => socket_io::poll_receive(half.as_ref(), context),
            Self::Tls(_) => buffer::poll_read(self, context),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(session) => session.poll_read(context, buffer),
        }
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_read(context, buffer),
            Self::Tls(session) => session.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(session) => session.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(session) => session.poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(session) => session.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(session) => session.poll_shutdown(context),
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_write(context, bytes),
            Self::Tls(session) => session.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_flush(context),
            Self::Tls(session) => session.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_shutdown(context),
            Self::Tls(session) => session.poll_shutdown(context),
        }
    }
}
