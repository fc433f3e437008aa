//! The app's answer, on its way to the client.

use std::cell::Cell;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::{Buffer, SIZE};
use crate::http1::edit;
use crate::http1::framing::{Body, Framing};
use crate::http1::head::{self, RequestHead, ResponseHead};
use crate::limits::MAX_BUFFER;
use crate::observe::Exchange;
use crate::reason::Reason;
use crate::request::Version;

/// An answer that was passed on whole.
#[derive(Debug)]
pub(crate) enum Answered {
    /// Which of the connections may be used again.
    Whole { app: bool, client: bool },
    /// Both speak another protocol from now on. The app has begun already.
    Switched { from_app: Vec<u8> },
}

/// How much of an answer there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No byte from the app.
    Silent,
    /// The client has nothing yet, so it can be given another answer.
    Head,
    /// The client has a part, and sees from the framing that it is one.
    Body,
    /// The client has a part, and would take the end of the connection for that of the answer.
    UntilClose,
}

/// What becomes of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// There is more to come, and it is being read.
    Running,
    /// The app has all of it.
    Done,
    /// The app takes no more.
    Broken,
}

/// What the exchange and the answer know of each other.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) upload: Cell<Upload>,
    pub(crate) stage: Cell<Stage>,
    /// Whether the client may send another request on its connection.
    pub(crate) keep: &'a dyn Fn() -> bool,
}

/// Passes on the app's answer to the end of its body.
pub(crate) async fn pass(
    mut app: ReadHalf<'_>,
    mut client: WriteHalf<'_>,
    asked: &Asked<'_>,
    exchange: &Exchange,
) -> Result<Answered, Reason> {
    let (mut message, start, head) = final_head(&mut app, &mut client, asked).await?;
    exchange.answered(head.status);
    if head.status == 101 {
        return switch(client, message, start, &head, asked).await;
    }
    let mut body = Body::new(head.framing);
    // A client of HTTP/1.0 can't read chunks: it gets their content, and the end of the connection for theirs.
    let unchunk = head.framing == Framing::Chunked && asked.head.version == Version::Http10;
    let until_close = unchunk || head.framing == Framing::UntilClose;
    let keep_client = !until_close && asked.upload.get() == Upload::Done && (asked.keep)();
    let mut end = start + head.length;
    let taken = take(&mut body, &mut message, end, unchunk, exchange)?;
    let start = edit_head(&mut message, start, &head, asked, unchunk, keep_client, &mut end);
    let mut rest = taken.rest;
    asked.stage.set(if until_close { Stage::UntilClose } else { Stage::Body });
    write(&mut client, &message[start..end + taken.sent]).await?;
    while !body.is_ended() {
        drop(message);
        begins(&app, &client, asked).await?;
        message = Buffer::borrow();
        match app.read_buf(&mut *message).await {
            Ok(0) if body.may_close() => break,
            Ok(length) if length > 0 => {}
            _ => return Err(Reason::Reset),
        }
        let taken = take(&mut body, &mut message, 0, unchunk, exchange)?;
        rest = taken.rest;
        write(&mut client, &message[..taken.sent]).await?;
    }
    // What an app sends beyond its answer can be no answer to anything.
    let keep_app = rest == 0 && head.framing != Framing::UntilClose && head.hop.persists(head.version);
    Ok(Answered::Whole { app: keep_app, client: keep_client })
}

/// The head of the answer, and where it stands. Interim ones before it (1xx) are passed on at once.
async fn final_head(
    app: &mut ReadHalf<'_>,
    client: &mut WriteHalf<'_>,
    asked: &Asked<'_>,
) -> Result<(Buffer, usize, ResponseHead), Reason> {
    begins(app, client, asked).await?;
    let (mut message, mut start) = (Buffer::borrow(), 0);
    loop {
        if message.len() == message.capacity() {
            message.reserve(SIZE);
        }
        match app.read_buf(&mut *message).await {
            Ok(length) if length > 0 => asked.stage.set(Stage::Head),
            _ => return Err(Reason::Reset),
        }
        while let Some(head) = head::response(&message[start..], asked.head.method).map_err(|error| {
            tracing::debug!(%error, "answer refused");
            Reason::ProtocolError
        })? {
            if !matches!(head.status, 100 | 102..=199) {
                return Ok((message, start, head));
            }
            // HTTP/1.0 has none, RFC 9110 15.2.
            if asked.head.version == Version::Http11 {
                let interim = &message[start..start + head.length];
                write(client, interim).await?;
            }
            start += head.length;
        }
        if message.len() - start >= MAX_BUFFER {
            return Err(Reason::ProtocolError);
        }
        if start == message.len() {
            // Only interim answers so far: the app may think for long.
            drop(message);
            begins(app, client, asked).await?;
            (message, start) = (Buffer::borrow(), 0);
        }
    }
}

/// Waits until the app has something to say. No buffer is held meanwhile, and a client that leaves is noticed, unless its
/// body is being read anyway.
async fn begins(app: &ReadHalf<'_>, client: &WriteHalf<'_>, asked: &Asked<'_>) -> Result<(), Reason> {
    let mut watching = true;
    std::future::poll_fn(|context| {
        // What fails here fails again when it is read.
        if app.as_ref().poll_read_ready(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if watching && asked.upload.get() != Upload::Running {
            let mut byte = [0];
            match client.as_ref().poll_peek(context, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Reason::ClientClosed)),
                // It sends its next request already: that it leaves is noticed when it is answered.
                Poll::Ready(Ok(_)) => watching = false,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

/// How much of what was read is sent on, and how much is no part of the answer.
struct Taken {
    sent: usize,
    rest: usize,
}

fn take(
    body: &mut Body,
    message: &mut [u8],
    from: usize,
    unchunk: bool,
    exchange: &Exchange,
) -> Result<Taken, Reason> {
    let (mut data, mut pieces) = (0, Vec::new());
    let taken = body.take(&message[from..], |content| {
        data += content.len();
        if unchunk {
            pieces.push(content);
        }
    });
    let taken = taken.map_err(|_| Reason::ProtocolError)?;
    exchange.passed(data);
    let rest = message.len() - from - taken;
    if !unchunk {
        return Ok(Taken { sent: taken, rest });
    }
    let mut to = from;
    for piece in pieces {
        let length = piece.len();
        message.copy_within(from + piece.start..from + piece.end, to);
        to += length;
    }
    Ok(Taken { sent: data, rest })
}

const VERSION: &[u8] = b"HTTP/1.1";

/// Takes out of the head what concerns the app's connection, and says what becomes of the client's.
fn edit_head(
    message: &mut Vec<u8>,
    start: usize,
    head: &ResponseHead,
    asked: &Asked<'_>,
    unchunk: bool,
    keep_client: bool,
    end: &mut usize,
) -> usize {
    let mut remove = head.hop.remove.clone();
    if let Some(line) = head.hop.chunked.clone().filter(|_| unchunk) {
        remove.push(line);
        remove.sort_by_key(|line| line.start);
    }
    let connection: &[&[u8]] = match (keep_client, asked.head.version) {
        (false, _) => &[b"Connection: close\r\n"],
        // RFC 9112 C.2.2: what HTTP/1.0 has to be told.
        (true, Version::Http10) => &[b"Connection: keep-alive\r\n"],
        (true, _) => &[],
    };
    // RFC 9110 6.2: each server on the way tells its own version. A client of HTTP/1.1 would take 1.0 for the end.
    if head.version == Version::Http10 && asked.head.version == Version::Http11 {
        message[start..start + VERSION.len()].copy_from_slice(VERSION);
    }
    let before = message.len();
    let start = edit::rewrite(message, start, head.length, &remove, connection);
    // It may have grown to the right.
    *end += message.len().saturating_sub(before);
    *end -= before.saturating_sub(message.len());
    start
}

async fn switch(
    mut client: WriteHalf<'_>,
    mut message: Buffer,
    start: usize,
    head: &ResponseHead,
    asked: &Asked<'_>,
) -> Result<Answered, Reason> {
    if !(asked.head.hop.upgrade && head.hop.upgrade) {
        // A switch that nobody asked for.
        return Err(Reason::ProtocolError);
    }
    let from_app = message[start + head.length..].to_vec();
    message.truncate(start + head.length);
    let start =
        edit::rewrite(&mut message, start, head.length, &head.hop.remove, &[b"Connection: Upgrade\r\n"]);
    asked.stage.set(Stage::Body);
    write(&mut client, &message[start..]).await?;
    Ok(Answered::Switched { from_app })
}

async fn write(client: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Reason> {
    client.write_all(bytes).await.map_err(|_| Reason::ClientClosed)
}
