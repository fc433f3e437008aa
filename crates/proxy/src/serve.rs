//! One accepted connection: find out what it speaks, and hand it on.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use outrigger_api::config::Protocol;
use tokio::net::TcpStream;

use crate::detect::{self, Found};
use crate::http1;
use crate::http2;
use crate::identify::{Detected, Spoken, identify};
use crate::listener::Listener;
use crate::own_time::Clock;
use crate::seat::Called;
use crate::tcp;

/// How long a client that connects during the drain may take for its first byte.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// Serves one client's connection until it ends.
pub(crate) async fn serve(stream: TcpStream, client: IpAddr, listener: &Rc<Listener>) {
    let port = listener.port();
    if port.protocol() == Protocol::Tcp {
        return Box::pin(tcp::serve(stream, &port)).await;
    }
    let seat = listener.seats.take();
    let (stream, detected) = if port.protocol() == Protocol::Auto {
        // Boxed, as a task is as large as the largest of what it waits for: most connections are idle ones by HTTP/1.
        match Box::pin(detect::http_or_relay(stream, &port, &seat)).await {
            Found::Http1(stream) => (stream, Detected::Http1),
            Found::Http2(stream) => (stream, Detected::Http2),
            Found::Served => return,
        }
    } else {
        let late = listener.is_stopping();
        let limit = if late { LATE_FIRST_BYTE } else { port.limits.idle };
        // Opened ahead of use and still unused, it need not hold up the drain.
        let spoken = {
            let mut identify = pin!(identify(&stream));
            seat.wait(seat.deadline(limit), !late, |context| identify.as_mut().poll(context)).await
        };
        let detected = match &spoken {
            Ok(Ok(Spoken::Http1 | Spoken::Other)) => Detected::Http1,
            Ok(Ok(Spoken::Http2)) => Detected::Http2,
            Ok(Ok(Spoken::Nothing) | Err(_)) | Err(Called::Stop) => Detected::Nothing,
            Err(Called::Late) => Detected::Timeout,
        };
        (stream, detected)
    };
    port.metrics.speaks_http();
    port.metrics.detected[detected as usize].add(1);
    match detected {
        Detected::Http1 => {
            let clock = Rc::new(Clock::of(client));
            clock.watch(pin!(http1::serve(stream, listener, &seat, Rc::clone(&clock)))).await;
        }
        Detected::Http2 => Box::pin(http2::serve(stream, client, listener, &seat)).await,
        // A client that says nothing, fails or takes too long has nothing to be told.
        Detected::Nothing | Detected::Timeout | Detected::Tcp => {}
    }
}

#[cfg(test)]
mod tests {
    fn size_of<A, B, C, Task>(_: impl FnOnce(A, B, C) -> Task) -> usize {
        std::mem::size_of::<Task>()
    }

    /// Room for HTTP/2 in every task made 4,096 idle connections take 40 MB.
    #[test]
    fn what_an_idle_connection_holds_is_small() {
        let size = size_of(super::serve);
        assert!(size <= 1700, "{size} bytes");
    }
}
