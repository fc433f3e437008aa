//! Clients that come when there are as many as there may be.

use std::io;
use std::rc::Rc;

use outrigger_api::config::Protocol;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::answer::OwnAnswer;
use crate::http1;
use crate::labels::Direction;
use crate::limits::TURN_AWAY;
use crate::observe::Exchange;
use crate::port::Port;
use crate::reason::Reason;
use crate::stream::Stream;
use crate::tcp::Open;

/// Counts a client that is not served.
pub(crate) fn count(port: &Rc<Port>, reason: Reason) {
    if port.protocol() == Protocol::Http {
        let exchange = Exchange::unknown(port, &Rc::default());
        exchange.answered(reason.status().as_u16());
        exchange.end(reason);
    } else {
        Open::count(&port.metrics).end(reason);
    }
    if port.may_warn(reason) {
        let (name, connections) = (port.metrics.labels.name(), port.limits.connections);
        let why = reason.sentence(port.direction());
        tracing::warn!(port = name, connections, reason = reason.as_str(), "{why}");
    }
}

/// Answers a client's request with a 503. Not by serving it: that would take the memory that there is none of.
pub(crate) async fn turn_away(mut stream: TcpStream, direction: Direction) {
    // A client that takes longer, or is gone, misses nothing but the explanation.
    let _ = tokio::time::timeout(TURN_AWAY, async {
        // Clients do not expect an answer before they have asked.
        stream.peek(&mut [0]).await?;
        stream
            .write_all(&http1::own_answer(&OwnAnswer::of(Reason::TooManyConnections, direction), true, true))
            .await?;
        http1::linger(Stream::Plain(stream)).await;
        Ok::<_, io::Error>(())
    })
    .await;
}
