//! One accepted connection: find out what it speaks, and hand it on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::http1;
use crate::identify::{Spoken, identify};
use crate::listener::Listener;
use crate::tcp;

/// How long a client that connects during the drain may take for its first byte.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// Serves one client's connection until it ends.
pub(crate) async fn serve(stream: TcpStream, listener: &Rc<Listener>) {
    let port = listener.port();
    if !port.inbound.protocol.is_http() {
        return tcp::serve(stream, &port).await;
    }
    let seat = listener.seats.take();
    let late = listener.is_stopping();
    let limit = if late { LATE_FIRST_BYTE } else { port.limits.idle };
    // Opened ahead of use and still unused, it need not hold up the drain.
    match seat.wait(Instant::now() + limit, !late, identify(&stream)).await {
        Ok(Ok(Spoken::Http1)) => http1::serve(stream, listener, &seat).await,
        Ok(Ok(Spoken::Http2)) => tcp::serve(stream, &port).await,
        // A client that says nothing, fails or takes too long has nothing to be told.
        Ok(Ok(Spoken::Nothing) | Err(_)) | Err(_) => {}
    }
}
