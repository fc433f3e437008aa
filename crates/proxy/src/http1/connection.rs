//! One client's connection: its requests, one after the other.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::answer::OwnAnswer;
use crate::buffer::{self, Buffer, Receive, Stored};
use crate::connect::AppStream;
use crate::http1::answer;
use crate::http1::exchange::{Next, exchange};
use crate::http1::head::{self, HeadError, RequestHead};
use crate::limits::MAX_BUFFER;
use crate::listener::Listener;
use crate::observe::Exchange;
use crate::own_time::{self, Clock};
use crate::port::Port;
use crate::reason::Reason;
use crate::seat::{Called, Seat};
use crate::socket_io;
use crate::stall;
use crate::stream::Stream;
use crate::tcp::{self, Open};
use crate::turns::Turn;

/// How long, and for how much, we read on after an answer that ends the connection: what is left unread makes a reset of
/// the close, which can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection between two requests.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// What was read beyond the request before: the next, of a client that does not wait for answers.
    pub(crate) unread: Stored,
    pub(crate) clock: Rc<Clock>,
}

/// How a client's connection ends.
enum End {
    Close,
    Refuse(Refusal),
    Linger,
    Reset,
    /// By another protocol, which the app has begun with this.
    Relay(Box<AppStream>, Vec<u8>, Rc<Port>),
}

impl Client {
    pub(crate) fn new(stream: Stream, clock: Rc<Clock>) -> Self {
        Self { stream, unread: Stored::default(), clock }
    }
}

/// Serves one client's connection until either side closes it.
pub(crate) fn serve(mut client: Client, listener: &Rc<Listener>, seat: &Seat) -> impl Future<Output = ()> {
    async move {
        // Boxed, so that the tasks of those who wait for their next request have no room for it.
        match requests(&mut client, listener, seat).await {
            End::Close => {}
            End::Refuse(refusal) => own_time::apart(Box::pin(refuse(client, listener, refusal))).await,
            End::Linger => {
                // Not with what it sent ahead in hand: where memory is scarce, many are refused at once.
                drop(client.unread);
                own_time::apart(Box::pin(linger(client.stream))).await;
            }
            End::Reset => client.stream.reset(),
            End::Relay(app, from_app, port) => {
                let open = Open::count(&port.metrics);
                own_time::apart(Box::pin(tcp::relay(client.stream, &client.unread, *app, &from_app, open)))
                    .await;
            }
        }
    }
}

/// Serves a client's requests. When the listener stops, the one under way finishes; on a connection that came later, one more.
fn requests(client: &mut Client, listener: &Rc<Listener>, seat: &Seat) -> impl Future<Output = End> {
    async move {
        loop {
            let (mut message, head) = match next_request(client, listener, seat).await {
                Ok(Some(request)) => request,
                Ok(None) => return End::Close,
                Err(refusal) => return End::Refuse(refusal),
            };
            let port = listener.port_for(|| head.request(&message).host());
            match exchange(client, &mut message, &head, listener, &port).await {
                Next::Request => {}
                Next::Close => return End::Close,
                Next::Linger => return End::Linger,
                Next::Reset => return End::Reset,
                Next::Relay(app, from_app) => return End::Relay(app, from_app, port),
            }
        }
    }
}

/// Waits for the next request's head. `None` where there is none to come. Until its first byte is there, no buffer is held.
async fn next_request(
    client: &mut Client,
    listener: &Listener,
    seat: &Seat,
) -> Result<Option<(Buffer, RequestHead)>, Refusal> {
    let mut message = if client.unread.is_empty() {
        let mut turn = Turn::default();
        let receive = |context: &mut Context<'_>| poll_in_turn(&mut client.stream, &mut turn, seat, context);
        match seat.wait(seat.deadline(listener.port().limits.idle), true, receive).await {
            Ok(Ok(message)) if !message.is_empty() => message,
            Err(Called::Late) => {
                listener.port().metrics.idle_closed.add(1);
                return Ok(None);
            }
            // What came since the runtime last looked at its events would be lost with the connection, and with it a request.
            Err(Called::Stop) => match client.stream.read_now() {
                Some(message) => message,
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    } else {
        Buffer::with(&std::mem::take(&mut client.unread))
    };
    let deadline = seat.deadline(listener.port().limits.head);
    let mut looked_at = 0;
    loop {
        // RFC 9112 2.2: an empty line before a request is no part of it.
        let empty_lines = message.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        message.drain(..empty_lines);
        // Once more only when its end may have come: a head that comes byte by byte is not read anew for each.
        if looked_at == 0 || contains_end(&message[looked_at.min(message.len()).saturating_sub(3)..]) {
            if let Some(head) = head::request(&message)? {
                return Ok(Some((message, head)));
            }
            looked_at = message.len();
        }
        if message.len() >= MAX_BUFFER {
            return Err(Refusal::TooLarge);
        }
        if message.len() == message.capacity() {
            message.grow();
        }
        if buffer::is_scarce() {
            return Err(Refusal::NoBuffer);
        }
        let more = |context: &mut Context<'_>| pin!(client.stream.read_buf(&mut *message)).poll(context);
        match seat.wait(deadline, false, more).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) => return Ok(None),
            Err(_) => return Err(Refusal::Late),
        }
    }
}

/// Waits for the first bytes of a request, and for its turn, unless the seat is called: what is there by then counts. By TLS only for the
/// bytes: that some have come is known when they are read.
fn poll_in_turn(
    stream: &mut Stream,
    turn: &mut Turn,
    seat: &Seat,
    context: &mut Context<'_>,
) -> Poll<io::Result<Buffer>> {
    let Stream::Plain(socket) = stream else { return stream.poll_receive(context) };
    loop {
        ready!(socket.poll_read_ready(context))?;
        if !seat.is_called() {
            ready!(turn.poll(context));
        }
        if let Some(received) = socket_io::try_receive(socket) {
            return Poll::Ready(received);
        }
    }
}

fn contains_end(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

/// Why a request is refused before it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Malformed,
    OtherProtocol,
    TooLarge,
    Late,
    /// It comes in pieces, and there is no memory to wait for them.
    NoBuffer,
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        tracing::debug!(%error, "request refused");
        match error {
            HeadError::Malformed(_) => Self::Malformed,
            HeadError::TooManyHeaders => Self::TooLarge,
            HeadError::OtherProtocol => Self::OtherProtocol,
        }
    }
}

async fn refuse(client: Client, listener: &Listener, refusal: Refusal) {
    let reason = match refusal {
        Refusal::Malformed | Refusal::OtherProtocol => Reason::BadRequest,
        Refusal::TooLarge => Reason::HeadTooLarge,
        Refusal::Late => Reason::HeadTimeout,
        Refusal::NoBuffer => Reason::OutOfBuffers,
    };
    let port = listener.port();
    let exchange = Exchange::unknown(&port, &client.clock);
    exchange.answered(reason.status().as_u16());
    exchange.end(reason);
    if refusal == Refusal::OtherProtocol {
        // Who speaks another could not read our answer.
        return;
    }
    let answer = answer::of(&OwnAnswer::of(reason, port.direction()), true, true);
    let mut stream = client.stream;
    if stall::write(&stream.split().1, &answer, port.limits.body).await.is_ok() {
        linger(stream).await;
    }
}

/// Closes a connection on which more may come than is read.
pub(crate) async fn linger(mut client: Stream) {
    let _ = tokio::time::timeout(LINGER, async {
        client.shutdown().await?;
        // Not with a buffer in hand: there are many such clients where memory is scarce and all are refused.
        while !buffer::receive(&mut client).await?.is_empty() {}
        Ok::<_, std::io::Error>(())
    })
    .await;
}
