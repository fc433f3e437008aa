//! Clients that come when there are as many as there may be.

use std::io;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http1;
use crate::limits::TURN_AWAY;
use crate::listener::Port;
use crate::observe::Exchange;
use crate::reason::Reason;
use crate::tcp::Open;

const REASON: Reason = Reason::TooManyConnections;

/// Counts a client that is not served.
pub(crate) fn count(port: &Rc<Port>) {
    let (status, sentence) = REASON.answer();
    if port.inbound.protocol.may_be_http() {
        let exchange = Exchange::unknown(port, &Rc::default());
        exchange.answered(status.as_u16());
        exchange.end(REASON);
    } else {
        Open::count(&port.metrics).end(REASON);
    }
    if port.may_warn(REASON) {
        let (name, connections) = (&port.metrics.name, port.limits.connections);
        tracing::warn!(port = name, connections, reason = REASON.as_str(), "{sentence}");
    }
}

/// Answers a client's request with a 503. Not by serving it: that would take the memory that there is none of.
pub(crate) async fn turn_away(mut stream: TcpStream) {
    // A client that takes longer, or is gone, misses nothing but the explanation.
    let _ = tokio::time::timeout(TURN_AWAY, async {
        // Clients do not expect an answer before they have asked.
        stream.readable().await?;
        stream.write_all(&http1::own_answer(REASON, true, true)).await?;
        http1::linger(stream).await;
        Ok::<_, io::Error>(())
    })
    .await;
}
