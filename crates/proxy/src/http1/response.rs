//! The app's answer, on its way to the client.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, Interest};

use crate::buffer::{self, Buffer, Receive, SIZE};
use crate::headers::Edits;
use crate::http1::edit;
use crate::http1::framing::{Body, Framing};
use crate::http1::head::{self, RequestHead, ResponseHead};
use crate::limits::MAX_BUFFER;
use crate::listener::Listener;
use crate::method::Method;
use crate::observe::Exchange;
use crate::overrides::Change;
use crate::pipe::Pipe;
use crate::reason::Reason;
use crate::request::{Headers, Version};
use crate::retry::{self, Tried};
use crate::stall;
use crate::stream::{ReadHalf, WriteHalf};

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
    /// The client has nothing of it, and gets that of another try.
    Unwanted,
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
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// Whether the client asked to switch to another protocol.
    pub(crate) upgrade: bool,
    /// Whether the client wants to send another request on its connection.
    pub(crate) persists: bool,
    pub(crate) upload: Cell<Upload>,
    pub(crate) stage: Cell<Stage>,
    /// Whether the request is kept, for another try.
    may_resend: bool,
    /// The client ended its stream, and was told to go on, to find out whether it is there.
    told: Cell<bool>,
}

impl Asked {
    /// As of a request with this head, when so much of its body has come.
    pub(crate) fn of(head: &RequestHead, body: &Body, may_resend: bool) -> Self {
        Self {
            version: head.version,
            method: head.method,
            upgrade: head.hop.upgrade,
            persists: head.hop.persists(head.version),
            upload: Cell::new(if body.is_ended() { Upload::Done } else { Upload::Running }),
            stage: Cell::new(Stage::Silent),
            may_resend,
            told: Cell::new(false),
        }
    }

    /// Whether the client's connection may be used again: neither it, nor the port, nor its listener is about to end.
    pub(crate) fn keeps(&self, exchange: &Exchange, listener: &Listener) -> bool {
        self.persists && !exchange.port.is_leaving() && !listener.is_stopping()
    }

    /// Whether the client has a part of the answer.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.stage.get(), Stage::Body | Stage::UntilClose)
    }
}

/// Waits for the first bytes of the app's answer.
pub(crate) fn begin(
    app: &mut ReadHalf<'_>,
    client: &WriteHalf<'_>,
    asked: &Asked,
    exchange: &Exchange,
) -> impl Future<Output = Result<Buffer, Reason>> {
    async move {
        let first = begins(client, asked, |context| app.poll_receive(context));
        match exchange.time_left() {
            None => first.await,
            Some(limit) => within(limit, first).await,
        }
    }
}

/// Boxed, so that the tasks of those who have no such limit have no room for it.
fn within<'a, T>(
    limit: Duration,
    step: impl Future<Output = Result<T, Reason>> + 'a,
) -> impl Future<Output = Result<T, Reason>> + 'a {
    let timeout = Box::pin(tokio::time::timeout(limit, step));
    async move { timeout.await.unwrap_or(Err(Reason::RequestTimeout)) }
}

/// An answer that is being passed on.
pub(crate) enum Passed<'a> {
    /// It came whole, and the client took it at once: nearly always.
    Whole(Answered),
    /// There is something to wait for. Boxed, so that the tasks of the others have no room for it.
    Waits(Pin<Box<dyn Future<Output = Result<Answered, Reason>> + 'a>>),
}

impl<'a> Passed<'a> {
    fn waits(rest: impl Future<Output = Result<Answered, Reason>> + 'a) -> Self {
        Self::Waits(Box::pin(rest))
    }

    /// Waits for the rest.
    pub(crate) async fn whole(self) -> Result<Answered, Reason> {
        match self {
            Self::Whole(answered) => Ok(answered),
            Self::Waits(rest) => rest.await,
        }
    }
}

/// Passes on the app's answer, of which this is the beginning, to the end of its body.
pub(crate) fn pass<'a>(
    begun: Buffer,
    mut app: ReadHalf<'a>,
    client: WriteHalf<'a>,
    asked: &'a Asked,
    listener: &'a Listener,
    exchange: &'a Exchange,
) -> Result<Passed<'a>, Reason> {
    match head_of(&begun, asked)? {
        // Nearly always.
        Some(head) if !head.is_interim() => pass_with(head, begun, app, client, asked, listener, exchange),
        _ => Ok(Passed::waits(async move {
            let (message, head) = rest_of_head(begun, &mut app, &client, asked, exchange).await?;
            pass_with(head, message, app, client, asked, listener, exchange)?.whole().await
        })),
    }
}

/// As [`pass`], once its head is there.
fn pass_with<'a>(
    head: ResponseHead,
    mut message: Buffer,
    app: ReadHalf<'a>,
    client: WriteHalf<'a>,
    asked: &'a Asked,
    listener: &'a Listener,
    exchange: &'a Exchange,
) -> Result<Passed<'a>, Reason> {
    exchange.app_answered(head.status, Headers::Lines(&message[..head.length]));
    if asked.may_resend && retry::again(exchange, Tried::Answered(head.status, None), Reason::None) {
        asked.stage.set(Stage::Unwanted);
        // The rest of it is not waited for, so its connection is of no use any more.
        return Err(Reason::Reset);
    }
    exchange.answer_passes();
    if head.status == 101 {
        return Ok(Passed::waits(switch(client, message, head, asked, exchange)));
    }
    let change = exchange.change(head.status);
    if let Some(change @ Change { body: Some(_), .. }) = change {
        return Ok(Passed::waits(instead(client, message, head, asked, listener, exchange, change)));
    }
    let Plan { mut body, unchunk, stage, keep_app, keep_client } = Plan::of(&head, asked, exchange, listener);
    let mut end = head.length;
    let Taken { sent, rest } = take(&mut body, &mut message, end, unchunk, exchange)?;
    let in_bulk = message.is_full();
    let start = edit_head(&mut message, head, asked, unchunk, keep_client, change, &mut end);
    asked.stage.set(stage);
    let unsent = start + stall::write_now(&client, &message[start..end + sent])?..end + sent;
    let piece = Piece { message, unsent, rest, in_bulk };
    if body.is_ended() && piece.unsent.is_empty() && !client.keeps_back() {
        return Ok(Passed::Whole(Answered::Whole { app: keep_app && rest == 0, client: keep_client }));
    }
    Ok(Passed::waits(async move {
        match pass_rest(piece, body, unchunk, app, client, asked, exchange).await? {
            // What an app sends beyond its answer can be no answer to anything.
            End::Body { rest } => Ok(Answered::Whole { app: keep_app && rest == 0, client: keep_client }),
            End::Stream => Ok(Answered::at_the_end()),
        }
    }))
}

/// What came of an answer by one read.
struct Piece {
    message: Buffer,
    /// Where the part is that the client has not got.
    unsent: Range<usize>,
    /// How much of it is no part of the answer.
    rest: usize,
    /// More comes than fits a buffer.
    in_bulk: bool,
}

/// How an answer's body ended.
enum End {
    /// As its framing says, and so much came beyond it.
    Body { rest: usize },
    /// With the app's connection.
    Stream,
}

/// Passes on what is left of an answer after the first piece.
async fn pass_rest(
    piece: Piece,
    mut body: Body,
    unchunk: bool,
    mut app: ReadHalf<'_>,
    client: WriteHalf<'_>,
    asked: &Asked,
    exchange: &Exchange,
) -> Result<End, Reason> {
    let stalled = exchange.port.limits.body;
    let Piece { message, unsent, mut rest, mut in_bulk } = piece;
    stall::write(&client, &message[unsent], stalled).await?;
    drop(message);
    while !body.is_ended() {
        if buffer::is_scarce() {
            Box::pin(stall::wait(stalled, client.writable())).await?;
        }
        if in_bulk
            && body.unbroken() >= SIZE as u64
            && let (Some(source), Some(socket)) = (app.plain(), client.plain())
        {
            begins(&client, asked, |context| source.poll_read_ready(context)).await?;
            if let Some(pipe) = Pipe::fill(source, body.unbroken()).map_err(|_| Reason::Reset)? {
                let length = pipe.holds();
                if length == 0 {
                    return if body.may_close() { Ok(End::Stream) } else { Err(Reason::Reset) };
                }
                body.skip(length as u64);
                exchange.passed(length);
                in_bulk = length >= SIZE;
                pipe.empty_within(stalled, socket).await?;
                continue;
            }
        }
        let mut piece = begins(&client, asked, |context| app.poll_receive(context)).await?;
        if piece.is_empty() {
            return if body.may_close() { Ok(End::Stream) } else { Err(Reason::Reset) };
        }
        in_bulk = piece.is_full();
        let taken = take(&mut body, &mut piece, 0, unchunk, exchange)?;
        rest = taken.rest;
        stall::write(&client, &piece[..taken.sent], stalled).await?;
    }
    Ok(End::Body { rest })
}

/// Waits for the rest of the answer's head, but no longer than the app may take for it.
async fn rest_of_head(
    begun: Buffer,
    app: &mut ReadHalf<'_>,
    client: &WriteHalf<'_>,
    asked: &Asked,
    exchange: &Exchange,
) -> Result<(Buffer, ResponseHead), Reason> {
    let head = head(begun, app, client, asked, exchange.port.limits.body);
    match exchange.time_left() {
        None => head.await,
        Some(limit) => within(limit, head).await,
    }
}

/// Waits for the answer's head. Interim ones before it are passed on at once.
async fn head(
    mut message: Buffer,
    app: &mut ReadHalf<'_>,
    client: &WriteHalf<'_>,
    asked: &Asked,
    stalled: Duration,
) -> Result<(Buffer, ResponseHead), Reason> {
    loop {
        match head_of(&message, asked)? {
            None => message = more_of_head(message, app, client, asked).await?,
            Some(head) if !head.is_interim() => return Ok((message, head)),
            Some(interim) => {
                // HTTP/1.0 has none, RFC 9110 15.2.
                if asked.version == Version::Http11 {
                    stall::write(client, &message[..interim.length], stalled).await?;
                }
                message.drain(..interim.length);
            }
        }
    }
}

impl Answered {
    /// Its end was that of the app's connection, and is that of the client's.
    fn at_the_end() -> Self {
        Self::Whole { app: false, client: false }
    }
}

/// What becomes of an answer with this head, and of the connections.
struct Plan {
    body: Body,
    /// A client of HTTP/1.0 can't read chunks: it gets their content, and the end of the connection for theirs.
    unchunk: bool,
    /// Once the client has a part of it.
    stage: Stage,
    keep_app: bool,
    keep_client: bool,
}

impl Plan {
    fn of(head: &ResponseHead, asked: &Asked, exchange: &Exchange, listener: &Listener) -> Self {
        let unchunk = head.framing == Framing::Chunked && asked.version == Version::Http10;
        let until_close = unchunk || head.framing == Framing::UntilClose;
        Self {
            body: Body::new(head.framing),
            unchunk,
            stage: if until_close { Stage::UntilClose } else { Stage::Body },
            keep_app: head.framing != Framing::UntilClose && head.hop.persists(head.version),
            keep_client: !until_close
                && asked.upload.get() == Upload::Done
                && asked.keeps(exchange, listener),
        }
    }
}

/// The answer's head; `None` where it has not come whole.
fn head_of(message: &Buffer, asked: &Asked) -> Result<Option<ResponseHead>, Reason> {
    if !message.is_empty() {
        asked.stage.set(Stage::Head);
    }
    head::response(message, asked.method).map_err(|error| {
        tracing::debug!(%error, "answer refused");
        Reason::ProtocolError
    })
}

/// Reads on where the head has not come whole, or only interim answers have (1xx).
async fn more_of_head(
    mut message: Buffer,
    app: &mut ReadHalf<'_>,
    client: &WriteHalf<'_>,
    asked: &Asked,
) -> Result<Buffer, Reason> {
    if message.is_empty() {
        // The app may think for long.
        drop(message);
        message = begins(client, asked, |context| app.poll_receive(context)).await?;
        return if message.is_empty() { Err(Reason::Reset) } else { Ok(message) };
    }
    if message.len() >= MAX_BUFFER {
        return Err(Reason::ProtocolError);
    }
    if message.len() == message.capacity() {
        message.grow();
    }
    match app.read_buf(&mut *message).await {
        Ok(length) if length > 0 => Ok(message),
        _ => Err(Reason::Reset),
    }
}

/// Waits until the app has something to say. A client that leaves meanwhile is noticed, unless its body is being read anyway.
fn begins<T>(
    client: &WriteHalf<'_>,
    asked: &Asked,
    mut app: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> impl Future<Output = Result<T, Reason>> {
    let mut watching = true;
    let mut left = None;
    std::future::poll_fn(move |context| {
        if let Poll::Ready(said) = app(context) {
            return Poll::Ready(said.map_err(|_| Reason::Reset));
        }
        if watching && asked.upload.get() != Upload::Running {
            match client.poll_peek(context) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::ClientClosed)),
                Poll::Ready(Ok(0)) => {
                    watching = false;
                    left = Some(Box::pin(has_left(client, asked)));
                }
                // It sends its next request already: that it leaves is noticed when it is answered.
                Poll::Ready(Ok(_)) => watching = false,
                Poll::Pending => {}
            }
        }
        match &mut left {
            Some(left) => left.as_mut().poll(context).map(|()| Err(Reason::ClientClosed)),
            None => Poll::Pending,
        }
    })
}

/// How long a client that ended its stream during the answer counts as there while the app says nothing.
const GRACE: Duration = Duration::from_secs(1);

/// Waits until a client that sends no more is gone. The end of its stream may be that of its writing side only, and it waits for the
/// answer. Before that it is sent a line that clients must bear (RFC 9110 15.2.1), which one that has closed answers with a reset.
/// Within the answer there is no such line, and whoever closes then has mostly left: a page with a stream of events.
///
/// By TLS the end is said by a message of its own, which clients send when they go.
async fn has_left(client: &WriteHalf<'_>, asked: &Asked) {
    let Some(client) = client.plain() else { return tokio::time::sleep(GRACE).await };
    let answered = asked.is_answered();
    if !answered && asked.version == Version::Http11 && !asked.told.replace(true) {
        // Not taken, it tells nothing; the answer will.
        let _ = client.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let gone = client.ready(Interest::ERROR);
    let _ =
        if answered && !asked.told.get() { tokio::time::timeout(GRACE, gone).await } else { Ok(gone.await) };
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
    mut head: ResponseHead,
    asked: &Asked,
    unchunk: bool,
    keep_client: bool,
    change: Option<&Change>,
    end: &mut usize,
) -> usize {
    let mut remove = head.hop.remove;
    if unchunk {
        remove.extend(head.chunked.take());
        remove.sort_by_key(|line| line.start);
    }
    let connection: &[u8] = match (keep_client, asked.version) {
        (false, _) => b"Connection: close\r\n",
        // RFC 9112 C.2.2: what HTTP/1.0 has to be told.
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (true, _) => b"",
    };
    // RFC 9110 6.2: each server on the way tells its own version. A client of HTTP/1.1 would take 1.0 for the end.
    if head.version == Version::Http10 && asked.version == Version::Http11 {
        message[..VERSION.len()].copy_from_slice(VERSION);
    }
    let before = message.len();
    let start = match change {
        None if connection.is_empty() => edit::rewrite(message, 0, head.length, &remove, &[]),
        None => edit::rewrite(message, 0, head.length, &remove, &[connection]),
        Some(change) => edit::changed(message, head.length, remove, connection, change),
    };
    // It may have grown to the right.
    *end += message.len().saturating_sub(before);
    *end -= before.saturating_sub(message.len());
    start
}

async fn switch(
    client: WriteHalf<'_>,
    mut message: Buffer,
    head: ResponseHead,
    asked: &Asked,
    exchange: &Exchange,
) -> Result<Answered, Reason> {
    if !(asked.upgrade && head.hop.upgrade) {
        // A switch that nobody asked for.
        return Err(Reason::ProtocolError);
    }
    let from_app = message[head.length..].to_vec();
    message.truncate(head.length);
    let told = exchange.to_client().map_or(&[][..], Edits::lines_to_add);
    let add = [b"Connection: Upgrade\r\n", told];
    let start = edit::rewrite(&mut message, 0, head.length, &head.hop.remove, &add);
    asked.stage.set(Stage::Body);
    stall::write(&client, &message[start..], exchange.port.limits.body).await?;
    Ok(Answered::Switched { from_app })
}

/// Gives the client another body in the place of the app's. That one is not waited for: where it has not come whole with the head, the
/// app's connection is given up.
async fn instead(
    client: WriteHalf<'_>,
    mut message: Buffer,
    head: ResponseHead,
    asked: &Asked,
    listener: &Listener,
    exchange: &Exchange,
    change: &Change,
) -> Result<Answered, Reason> {
    let mut body = Body::new(head.framing);
    let taken = body.take(&message[head.length..], |_| {}).map_err(|_| Reason::ProtocolError)?;
    let whole = body.is_ended() && head.length + taken == message.len();
    let keep_app = whole && head.framing != Framing::UntilClose && head.hop.persists(head.version);
    let keep_client = asked.upload.get() == Upload::Done && asked.keeps(exchange, listener);
    message.truncate(head.length);
    let mut end = head.length;
    let start = edit_head(&mut message, head, asked, false, keep_client, Some(change), &mut end);
    if asked.method != Method::Head {
        message.extend_from_slice(change.body.as_deref().unwrap_or_default());
    }
    asked.stage.set(Stage::Body);
    stall::write(&client, &message[start..], exchange.port.limits.body).await?;
    Ok(Answered::Whole { app: keep_app, client: keep_client })
}
