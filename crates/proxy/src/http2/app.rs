//! The connection to the app for one of a client's.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use h2::SendStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::Mutex;

use crate::buffer::Held;
use crate::connect;
use crate::http2::piece::Piece;
use crate::http2::{CONNECTION_SIZE, CONNECTION_WINDOW, STREAM_WINDOW};
use crate::limits::MAX_BUFFER;
use crate::own_time;
use crate::port::Port;
use crate::reason::Reason;
use crate::tls::{Originator, Spoken};

/// Made with the first request, and anew when it is gone.
#[derive(Debug, Default)]
pub(crate) struct App {
    state: Mutex<State>,
    /// The app has said that it takes no more requests on a connection.
    left: Cell<bool>,
}

#[derive(Debug, Default)]
struct State {
    connected: Option<Connected>,
    /// Why the last attempt failed, and when: who waited for it need not try again.
    failed: Option<(Reason, Instant)>,
}

#[derive(Debug)]
struct Connected {
    /// A changed config may have put another in its place.
    port: Rc<Port>,
    requests: SendRequest<Piece>,
    /// Without a stream, a connection that has ended looks as any other to `h2`.
    ended: Rc<Cell<bool>>,
    by: Option<Arc<Originator>>,
}

/// A request that is on its way to the app.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) answer: ResponseFuture,
    pub(crate) body: SendStream<Piece>,
    /// Whether the connection was there before, so that the app may have closed it just now.
    pub(crate) reused: bool,
}

impl App {
    /// Sends a request's head. With `idle`, there is no other request on the connection, so that the app may have closed it.
    pub(crate) async fn send(
        &self,
        port: &Rc<Port>,
        head: Request<()>,
        end: bool,
        idle: bool,
    ) -> Result<Sent, Reason> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let mut reused = true;
        let connected = match state.connected.take() {
            Some(connected) if self.is_usable(&connected, port, idle).await => connected,
            _ => {
                if let Some((reason, _)) = state.failed.filter(|(_, at)| *at >= asked) {
                    return Err(reason);
                }
                reused = false;
                connect(port).await.inspect_err(|reason| state.failed = Some((*reason, Instant::now())))?
            }
        };
        let requests = state.connected.insert(connected).requests.clone();
        drop(state);
        let (answer, body) = open(requests, head, end).await?;
        Ok(Sent { answer, body, reused })
    }

    async fn is_usable(&self, connected: &Connected, port: &Rc<Port>, idle: bool) -> bool {
        if !Rc::ptr_eq(&connected.port, port) || !connect::is_current(connected.by.as_ref(), port) {
            return false;
        }
        if idle {
            // Lets the connection's task read what the kernel has for it: a GOAWAY, or the end.
            tokio::task::yield_now().await;
        }
        let left = connected.ended.get() || connected.requests.clone().ready().await.is_err();
        self.left.set(self.left.get() || left);
        !left
    }

    /// Whether the app has ended a connection. A client that heard of it would connect anew, perhaps to another pod.
    pub(crate) fn has_left(&self) -> bool {
        self.left.get()
    }
}

async fn connect(port: &Rc<Port>) -> Result<Connected, Reason> {
    let (stream, open, by) = connect::app(port, Some(Spoken::Http2)).await?.into_parts();
    let handshake = client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .max_header_list_size(u32::try_from(MAX_BUFFER).unwrap_or(u32::MAX))
        .enable_push(false)
        .handshake(stream)
        .await;
    let (requests, connection) = handshake.map_err(|_| Reason::Reset)?;
    let ended = Rc::<Cell<bool>>::default();
    let (tell, held) = (Rc::clone(&ended), Held::new(CONNECTION_SIZE));
    tokio::task::spawn_local(own_time::apart(Box::pin(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the app ended");
        }
        tell.set(true);
        drop((open, held));
    })));
    Ok(Connected { port: Rc::clone(port), requests, ended, by })
}

async fn open(
    requests: SendRequest<Piece>,
    head: Request<()>,
    end: bool,
) -> Result<(ResponseFuture, SendStream<Piece>), Reason> {
    let refused = |error: h2::Error| {
        tracing::debug!(%error, "request not sent");
        if error.is_io() || error.is_go_away() { Reason::Reset } else { Reason::ProtocolError }
    };
    let mut requests = requests.ready().await.map_err(refused)?;
    requests.send_request(head, end).map_err(refused)
}
