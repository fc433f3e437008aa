//! The rest of a request's body, on its way to the app.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Buffer;
use crate::http1::framing::Body;
use crate::observe::Exchange;
use crate::reason::Reason;

/// Why a body was not passed on to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The client failed: nobody waits for an answer that can be used.
    Client(Reason),
    /// The app takes no more. It may still answer, or have answered, as servers do whose limit is exceeded.
    App,
}

/// Passes on what is left of the body. What the client sent beyond it goes to `unread`.
pub(crate) async fn pass(
    mut client: ReadHalf<'_>,
    mut app: WriteHalf<'_>,
    body: &mut Body,
    unread: &mut Vec<u8>,
    exchange: &Exchange,
) -> Result<(), Unsent> {
    while !body.is_ended() {
        std::future::poll_fn(|context| client.as_ref().poll_read_ready(context))
            .await
            .map_err(|_| Unsent::Client(Reason::ClientClosed))?;
        let mut piece = Buffer::borrow();
        if !matches!(client.read_buf(&mut *piece).await, Ok(length) if length > 0) {
            return Err(Unsent::Client(Reason::ClientClosed));
        }
        let mut data = 0;
        let taken = body.take(&piece, |content| data += content.len());
        let taken = taken.map_err(|_| Unsent::Client(Reason::BadRequest))?;
        exchange.received(data);
        app.write_all(&piece[..taken]).await.map_err(|_| Unsent::App)?;
        unread.extend_from_slice(&piece[taken..]);
    }
    Ok(())
}
