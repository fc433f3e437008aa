//! What is read from a socket and written to it, straight by the kernel's calls.
//!
//! tokio's own go by libc, where `send` and `recv` are points at which a thread may be cancelled: in a program of several threads each
//! call switches that on and off again, which is a tenth of what we spend outside of the kernel.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffer::Buffer;

/// Writes what there is room for; `WouldBlock` where there is none.
pub(crate) fn try_write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || Ok(send(stream, bytes, SendFlags::NOSIGNAL)?))
}

/// Waits for bytes and reads them; at the end of the stream there are none.
pub(crate) fn poll_receive(stream: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        if let Some(received) = try_receive(stream) {
            return Poll::Ready(received);
        }
    }
}

/// Reads what the runtime says has come; `None` where that is not so.
pub(crate) fn try_receive(stream: &TcpStream) -> Option<io::Result<Buffer>> {
    let mut buffer = Buffer::borrow();
    match try_read(stream, &mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        read => Some(read.map(|_| buffer)),
    }
}

/// Reads what there is, and asks the kernel rather than the runtime; `WouldBlock` where there is nothing.
pub(crate) fn read_now(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    Ok(recv(stream, spare_capacity(into), RecvFlags::DONTWAIT)?.0)
}

fn try_read(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let room = into.capacity() - into.len();
    let mut some = None;
    let tried = stream.try_io(Interest::READABLE, || {
        let length = recv(stream, spare_capacity(into), RecvFlags::empty())?.0;
        if (1..room).contains(&length) {
            // A read that is not filled has emptied the socket. Told as one that would block, so that tokio waits for the next event, as
            // after its own reads, and the kernel is not asked once more.
            some = Some(length);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(length)
    });
    some.map_or(tried, Ok)
}
