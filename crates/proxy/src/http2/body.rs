//! A body on its way, no faster than the other side takes it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::grpc::Code;

/// Why a body was not passed on to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Who sends it failed, or gave it up.
    Sender(h2::Error),
    /// Who gets it takes no more.
    Receiver(h2::Error),
    /// Who gets it has taken nothing for too long.
    Stalled,
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
/// the window of one stream.
pub(crate) async fn pass(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    stalled: Duration,
    keeps_trailers_back: bool,
    mut seen: impl FnMut(&Bytes),
) -> Result<End, Broken> {
    while let Some(piece) = next(from, to).await? {
        seen(&piece);
        let last = from.is_end_stream();
        send(piece, last, from, to, stalled).await?;
        if last {
            return Ok(End::Data);
        }
    }
    let trailers = from.trailers().await.map_err(Broken::Sender)?;
    let Some(trailers) = trailers.filter(|_| !keeps_trailers_back) else {
        to.send_data(Bytes::new(), true).map_err(Broken::Receiver)?;
        return Ok(End::Data);
    };
    let code = Code::told(&trailers);
    to.send_trailers(trailers).map_err(Broken::Receiver)?;
    Ok(End::Trailers(code))
}

/// The next piece, unless the receiver resets the stream before it comes.
async fn next(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<Option<Bytes>, Broken> {
    poll_fn(|context| match from.poll_data(context) {
        Poll::Ready(Some(Ok(piece))) => Poll::Ready(Ok(Some(piece))),
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Broken::Sender(error))),
        Poll::Pending => poll_reset(to, context).map(Err),
    })
    .await
}

async fn send(
    mut piece: Bytes,
    last: bool,
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    stalled: Duration,
) -> Result<(), Broken> {
    if piece.is_empty() {
        return to.send_data(piece, last).map_err(Broken::Receiver);
    }
    while !piece.is_empty() {
        to.reserve_capacity(piece.len());
        if to.capacity() == 0 {
            let room = poll_fn(|context| poll_room(to, context));
            tokio::time::timeout(stalled, room).await.map_err(|_| Broken::Stalled)??;
        }
        let part = piece.split_to(to.capacity().min(piece.len()));
        let length = part.len();
        to.send_data(part, last && piece.is_empty()).map_err(Broken::Receiver)?;
        // An error says that the sender's stream is gone, which the next read tells too.
        let _ = from.flow_control().release_capacity(length);
    }
    Ok(())
}

fn poll_room(to: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    loop {
        match to.poll_capacity(context) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(_))) => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Receiver(error))),
            // No stream to send on any more.
            Poll::Ready(None) => return poll_reset(to, context).map(Err),
            Poll::Pending => return poll_reset(to, context).map(Err),
        }
    }
}

fn poll_reset(to: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<Broken> {
    to.poll_reset(context).map(|reset| Broken::Receiver(reset.map_or_else(|error| error, h2::Error::from)))
}
