//! The rest of a request's body, on its way to the app.

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::buffer::{self, SIZE, Stored};
use crate::http1::framing::{BadFraming, Body};
use crate::http1::response::Asked;
use crate::observe::Exchange;
use crate::pipe::Pipe;
use crate::reason::Reason;
use crate::stall;
use crate::stream::{ReadHalf, WriteHalf};

/// Why a body was not passed on to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The client failed: nobody waits for an answer that can be used.
    Client(Reason),
    /// The app takes no more. It may still answer, or have answered, as servers do whose limit is exceeded.
    App,
}

/// Takes from these bytes what belongs to the body, without its trailers where the port keeps those back. Returns how many bytes are the
/// body's, how many of them go on, and what follows these in the place of trailers. `data` is told how much content there is.
pub(crate) fn take(
    body: &mut Body,
    bytes: &[u8],
    keeps_trailers_back: bool,
    mut data: impl FnMut(usize),
) -> Result<(usize, usize, &'static [u8]), BadFraming> {
    let data = |content: Range<usize>| data(content.len());
    if !keeps_trailers_back {
        let all = body.take(bytes, data)?;
        return Ok((all, all, b""));
    }
    let taken = body.take_apart(bytes, data)?;
    // The empty line that ends a body with or without trailers is among what is kept back.
    let ends_in_trailers = body.is_ended() && taken.all > taken.before_trailers;
    Ok((taken.all, taken.before_trailers, if ends_in_trailers { b"\r\n" } else { b"" }))
}

/// Passes on what is left of the body. What the client sent beyond it goes to `unread`.
pub(crate) async fn pass(
    mut client: ReadHalf<'_>,
    mut app: WriteHalf<'_>,
    body: &mut Body,
    unread: &mut Stored,
    asked: &Asked,
    exchange: &Exchange,
) -> Result<(), Unsent> {
    let gone = Unsent::Client(Reason::ClientClosed);
    let stalled = exchange.port.limits.body;
    let mut in_bulk = false;
    while !body.is_ended() {
        if buffer::is_scarce() {
            app.writable().await.map_err(|_| Unsent::App)?;
        }
        if in_bulk
            && body.unbroken() >= SIZE as u64
            && let (Some(client), Some(app)) = (client.plain(), app.plain())
        {
            next(async || client.readable().await, asked, stalled).await?;
            if let Some(pipe) = Pipe::fill(client, body.unbroken()).map_err(|_| gone)? {
                let length = pipe.holds();
                if length == 0 {
                    return Err(gone);
                }
                body.skip(length as u64);
                exchange.received(length);
                in_bulk = length >= SIZE;
                pipe.empty(app).await.map_err(|_| Unsent::App)?;
                continue;
            }
        }
        let piece = next(async || buffer::receive(&mut client).await, asked, stalled).await?;
        if piece.is_empty() {
            return Err(gone);
        }
        in_bulk = piece.is_full();
        let mut data = 0;
        let taken = take(body, &piece, exchange.port.keeps_trailers_back, |content| data += content);
        let (taken, passed, end) = taken.map_err(|_| Unsent::Client(Reason::BadRequest))?;
        exchange.received(data);
        app.write_all(&piece[..passed]).await.map_err(|_| Unsent::App)?;
        if !end.is_empty() {
            app.write_all(end).await.map_err(|_| Unsent::App)?;
        }
        // What TLS has kept back would wait for the next piece.
        app.flush().await.map_err(|_| Unsent::App)?;
        unread.add(&piece[taken..]);
        if buffer::is_too_much(unread.len()) {
            return Err(Unsent::Client(Reason::OutOfBuffers));
        }
    }
    Ok(())
}

/// Waits for the client's next bytes. One whose answer has begun may be silent for longer: the two may talk by turns.
async fn next<T>(
    mut step: impl AsyncFnMut() -> io::Result<T>,
    asked: &Asked,
    stalled: Duration,
) -> Result<T, Unsent> {
    loop {
        match stall::wait(stalled, step()).await {
            Err(Reason::BodyTimeout) if asked.is_answered() => {}
            done => return done.map_err(Unsent::Client),
        }
    }
}
