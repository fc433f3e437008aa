//! One accepted connection: find out what it speaks, and hand it on.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::config::Protocol;
use tokio::net::TcpStream;

use crate::buffer;
use crate::connect;
use crate::crowded;
use crate::detect::{self, Found};
use crate::http1;
use crate::http2;
use crate::identify::{Detected, Spoken, identify, is_tls};
use crate::listener::Listener;
use crate::own_time::Clock;
use crate::port::Port;
use crate::reason::Reason;
use crate::seat::{Called, Seat};
use crate::stream::Stream;
use crate::tcp;
use crate::tls::{self, Handshake, Terminator};

/// How long a client that connects during the drain may take for its first byte.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// Serves one client's connection until it ends.
pub(crate) async fn serve(stream: TcpStream, client: IpAddr, listener: &Rc<Listener>) {
    let port = listener.port();
    if let Some(terminator) = port.terminator() {
        return Box::pin(serve_tls(stream, client, listener, &port, terminator)).await;
    }
    if port.protocol() == Protocol::Tcp {
        return Box::pin(tcp::serve(Stream::Plain(stream), &port)).await;
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
        let detected = detect(&stream, &port, listener, &seat).await;
        (stream, detected)
    };
    hand_on(Stream::Plain(stream), detected, client, listener, &seat, &port).await;
}

/// As [`serve`], on a port where TLS ends.
async fn serve_tls(
    stream: TcpStream,
    client: IpAddr,
    listener: &Rc<Listener>,
    port: &Rc<Port>,
    terminator: Arc<Terminator>,
) {
    let (seat, is_http) = (listener.seats.take(), port.protocol() != Protocol::Tcp);
    match Box::pin(open(stream, &terminator, port, listener, &seat)).await {
        Opened::Tls(session) if is_http => {
            let detected = if session.chose_http2() { Detected::Http2 } else { Detected::Http1 };
            hand_on(Stream::Tls(session), detected, client, listener, &seat, port).await;
        }
        Opened::Tls(session) => tcp::serve(Stream::Tls(session), port).await,
        // To be told so.
        Opened::Plain(stream) if is_http => {
            let detected = detect(&stream, port, listener, &seat).await;
            hand_on(Stream::Plain(stream), detected, client, listener, &seat, port).await;
        }
        Opened::Plain(stream) => connect::reset(&stream),
        Opened::Nothing => {}
    }
}

/// Serves a connection on which this was found to be spoken.
async fn hand_on(
    stream: Stream,
    detected: Detected,
    client: IpAddr,
    listener: &Rc<Listener>,
    seat: &Seat,
    port: &Rc<Port>,
) {
    port.metrics.detected[detected as usize].add(1);
    match detected {
        Detected::Http1 => {
            let clock = Rc::new(Clock::of(client));
            clock.watch(pin!(http1::serve(stream, listener, seat, Rc::clone(&clock)))).await;
        }
        Detected::Http2 if buffer::is_filling() => {
            crowded::count(port, Reason::OutOfBuffers);
            stream.reset();
        }
        Detected::Http2 => Box::pin(http2::serve(stream, client, listener, seat)).await,
        // A client that says nothing, fails or takes too long has nothing to be told.
        Detected::Nothing | Detected::Timeout | Detected::Tcp => {}
    }
}

/// What a client speaks that is to speak HTTP. Opened ahead of use and still unused, its connection need not hold up the drain.
async fn detect(stream: &TcpStream, port: &Port, listener: &Listener, seat: &Seat) -> Detected {
    let (limit, late) = first_byte(port, listener);
    let mut identify = pin!(identify(stream));
    match seat.wait(seat.deadline(limit), !late, |context| identify.as_mut().poll(context)).await {
        Ok(Ok(Spoken::Http1 | Spoken::Other)) => Detected::Http1,
        Ok(Ok(Spoken::Http2)) => Detected::Http2,
        Ok(Ok(Spoken::Nothing) | Err(_)) | Err(Called::Stop) => Detected::Nothing,
        Err(Called::Late) => Detected::Timeout,
    }
}

/// How long a client may take for its first byte, and whether it came during the drain.
fn first_byte(port: &Port, listener: &Listener) -> (Duration, bool) {
    let late = listener.is_stopping();
    (if late { LATE_FIRST_BYTE } else { port.limits.idle }, late)
}

/// A connection on a port with TLS.
enum Opened {
    /// By a client that did not begin with a handshake.
    Plain(TcpStream),
    Tls(Box<tls::Session>),
    Nothing,
}

/// Waits for a client's first byte and, if it is that of a handshake, for the rest.
async fn open(
    stream: TcpStream,
    terminator: &Terminator,
    port: &Rc<Port>,
    listener: &Listener,
    seat: &Seat,
) -> Opened {
    let (limit, late) = first_byte(port, listener);
    let begins = {
        let mut is_tls = pin!(is_tls(&stream));
        seat.wait(seat.deadline(limit), !late, |context| is_tls.as_mut().poll(context)).await
    };
    match begins {
        Ok(Ok(Some(true))) if buffer::is_filling() => {
            crowded::count(port, Reason::OutOfBuffers);
            connect::reset(&stream);
            Opened::Nothing
        }
        Ok(Ok(Some(true))) => {
            tls::accept(stream, terminator, port, seat).await.map_or(Opened::Nothing, Opened::Tls)
        }
        Ok(Ok(Some(false))) => {
            port.metrics.handshakes[Handshake::Plain as usize].add(1);
            Opened::Plain(stream)
        }
        // As of a client that says nothing elsewhere.
        _ => {
            let late = matches!(begins, Err(Called::Late));
            let nothing = if late { Detected::Timeout } else { Detected::Nothing };
            port.metrics.detected[nothing as usize].add(1);
            Opened::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    fn size_of<A, B, C, Task>(_: impl FnOnce(A, B, C) -> Task) -> usize {
        std::mem::size_of::<Task>()
    }

    /// Room for HTTP/2 in every task made 4,096 idle connections take 40 MB. The bound is that of a build of the whole workspace, whose
    /// features make some types larger than the proxy's own build has them.
    #[test]
    fn what_an_idle_connection_holds_is_small() {
        let size = size_of(super::serve);
        assert!(size <= 1800, "{size} bytes");
    }
}
