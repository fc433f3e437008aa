//! Clients that come when there are as many as there may be.

use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::limits::TURN_AWAY;
use crate::listener::Port;
use crate::observe::Exchange;
use crate::reason::Reason;
use crate::tcp::Open;

const REASON: Reason = Reason::TooManyConnections;

/// Counts a client that is not served.
pub(crate) fn count(port: &Rc<Port>) {
    let (status, sentence) = REASON.answer();
    if port.inbound.protocol.is_http() {
        let mut exchange = Exchange::unknown(port);
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

/// Answers a client's request with a 503. By hand, because serving it would take the memory that there is none of.
pub(crate) async fn turn_away(stream: TcpStream) {
    // A client that takes longer, or is gone, misses nothing but the explanation.
    let _ = tokio::time::timeout(TURN_AWAY, answer(stream)).await;
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    // Clients do not expect an answer before they have asked.
    stream.readable().await?;
    let ((status, _), body) = (REASON.answer(), REASON.body());
    let head = format!(
        "HTTP/1.1 {status}\r\n{}: {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
        Reason::HEADER,
        REASON.as_str(),
        body.len()
    );
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await?;
    stream.shutdown().await?;
    // Bytes left unread would make a reset of the close, which can overtake the answer.
    while stream.read(&mut [0; 512]).await? > 0 {}
    Ok(())
}
