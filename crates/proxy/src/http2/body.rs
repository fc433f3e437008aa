//! A body on its way, no faster than the other side takes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};

use crate::buffer;
use crate::grpc::Code;
use crate::http2::piece::Piece;

/// Why a body was not passed on to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Who sends it failed, or gave it up.
    Sender(h2::Error),
    /// Who gets it takes no more.
    Receiver(h2::Error),
    /// Who gets it has taken nothing for too long.
    Stalled,
    /// Who gets it lets it wait, and there is no memory to wait in.
    OutOfBuffers,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Data,
    /// With what they tell of a call by gRPC.
    Trailers(Option<Code>),
}

/// Passes on what comes until the end, trailers with it unless they are kept back. `seen` gets each piece. Returns how what was passed on
/// ended.
///
/// Room for more is given to the sender only for what the receiver had room for: between the two there is never more than
/// the window of one stream, twice: what was read and what `h2` has to write. All of it counts as memory in use. Where that is scarce,
/// who lets it wait is given up, also one of which `is_stuck` says that nothing moves on its connection.
pub(crate) async fn pass(
    from: &mut RecvStream,
    to: &mut SendStream<Piece>,
    stalled: Duration,
    keeps_trailers_back: bool,
    is_stuck: impl Fn() -> bool,
    mut seen: impl FnMut(&Bytes),
) -> Result<End, Broken> {
    // What came while the receiver had no room. Left with `h2`, it would not be counted.
    let mut ahead = VecDeque::new();
    loop {
        let piece = match ahead.pop_front() {
            Some(piece) => piece,
            None => match next(from, to).await? {
                Some(piece) => Piece::from(piece),
                None => break,
            },
        };
        seen(&piece.bytes);
        if buffer::is_scarce() && is_stuck() {
            return Err(Broken::OutOfBuffers);
        }
        let last = send(piece, from, &mut ahead, to, stalled).await?;
        if last {
            return Ok(End::Data);
        }
    }
    let trailers = from.trailers().await.map_err(Broken::Sender)?;
    let Some(trailers) = trailers.filter(|_| !keeps_trailers_back) else {
        to.send_data(Bytes::new().into(), true).map_err(Broken::Receiver)?;
        return Ok(End::Data);
    };
    let code = Code::told(&trailers);
    to.send_trailers(trailers).map_err(Broken::Receiver)?;
    Ok(End::Trailers(code))
}

/// The next piece, unless the receiver resets the stream before it comes.
async fn next(from: &mut RecvStream, to: &mut SendStream<Piece>) -> Result<Option<Bytes>, Broken> {
    poll_fn(|context| match from.poll_data(context) {
        Poll::Ready(Some(Ok(piece))) => Poll::Ready(Ok(Some(piece))),
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Broken::Sender(error))),
        Poll::Pending => poll_reset(to, context).map(Err),
    })
    .await
}

/// Whether it was the last.
async fn send(
    mut piece: Piece,
    from: &mut RecvStream,
    ahead: &mut VecDeque<Piece>,
    to: &mut SendStream<Piece>,
    stalled: Duration,
) -> Result<bool, Broken> {
    loop {
        to.reserve_capacity(piece.remaining());
        if to.capacity() == 0 && piece.has_remaining() {
            let room = poll_fn(|context| poll_room(to, from, ahead, context));
            tokio::time::timeout(stalled, room).await.map_err(|_| Broken::Stalled)??;
        }
        let part = piece.split_to(to.capacity().min(piece.remaining()));
        let (length, whole) = (part.remaining(), !piece.has_remaining());
        let last = whole && ahead.is_empty() && from.is_end_stream();
        to.send_data(part, last).map_err(Broken::Receiver)?;
        // An error says that the sender's stream is gone, which the next read tells too.
        let _ = from.flow_control().release_capacity(length);
        if whole {
            return Ok(last);
        }
    }
}

/// Waits for room, and reads meanwhile what the sender still had room for.
fn poll_room(
    to: &mut SendStream<Piece>,
    from: &mut RecvStream,
    ahead: &mut VecDeque<Piece>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    loop {
        match to.poll_capacity(context) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(_))) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Receiver(error))),
            // Or no stream to send on any more.
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    // Whatever ends it is met again when this is sent.
    while let Poll::Ready(Some(Ok(piece))) = from.poll_data(context) {
        ahead.push_back(piece.into());
    }
    if buffer::is_scarce() {
        return Poll::Ready(Err(Broken::OutOfBuffers));
    }
    poll_reset(to, context).map(Err)
}

fn poll_reset(to: &mut SendStream<Piece>, context: &mut Context<'_>) -> Poll<Broken> {
    to.poll_reset(context).map(|reset| Broken::Receiver(reset.map_or_else(|error| error, h2::Error::from)))
}
