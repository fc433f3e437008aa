//! One accepted connection: find out what it speaks, and hand it on.

use std::rc::Rc;
use std::time::Duration;

use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::net::TcpStream;

use crate::http1;
use crate::identify::{Spoken, identify};
use crate::listener::{Listener, Port};
use crate::tcp;

/// How long a client that connects during the drain may take for its first byte.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// Serves one client's connection until it ends.
pub(crate) async fn serve(stream: TcpStream, listener: &Rc<Listener>, drain: &Drain) {
    let port = listener.port();
    if !port.inbound.protocol.is_http() {
        return tcp::serve(stream, &port).await;
    }
    match first_bytes(&stream, &port, listener.stopping()).await {
        Some(Spoken::Http1) => http1::serve(stream, listener, drain).await,
        Some(Spoken::Http2) => tcp::serve(stream, &port).await,
        // A client that says nothing, fails or takes too long has nothing to be told.
        Some(Spoken::Nothing) | None => {}
    }
}

async fn first_bytes(stream: &TcpStream, port: &Port, stopping: &Shutdown) -> Option<Spoken> {
    let late = stopping.is_requested();
    let limit = if late { LATE_FIRST_BYTE } else { port.limits.head };
    tokio::select! {
        biased;
        spoken = tokio::time::timeout(limit, identify(stream)) => spoken.ok()?.ok(),
        // Opened ahead of use and still unused: it need not hold up the drain.
        () = stopping.requested(), if !late => None,
    }
}
