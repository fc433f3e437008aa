//! One accepted connection: find out what it speaks, and hand it on.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::config::Protocol;
use outrigger_runtime::shutdown::InFlight;
use tokio::net::TcpStream;

use crate::buffer;
use crate::connect;
use crate::crowded;
use crate::detect::{self, Found};
use crate::http1::{self, Client};
use crate::http2;
use crate::identify::{Detected, Spoken, identify, is_tls};
use crate::listener::Listener;
use crate::own_time::{self, Clock};
use crate::port::Port;
use crate::reason::Reason;
use crate::seat::{Called, Seat};
use crate::stream::Stream;
use crate::tcp;
use crate::tls::{self, Handshake, Terminator};

/// How long a client that connects during the drain may take for its first byte.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// Serves one client's connection, which counts as in flight until it ends.
///
/// Not an `async fn`, which would keep each argument twice: all of the task is cold memory with every request. So it is with the other
/// functions on a request's way in HTTP/1.
pub(crate) fn serve(
    stream: TcpStream,
    client: IpAddr,
    listener: Rc<Listener>,
    in_flight: InFlight,
) -> impl Future<Output = ()> {
    // Boxed, as it is over when the first request comes: a task is as large as the largest of what it waits for.
    let begun = Box::pin(begin(stream, client, Rc::clone(&listener)));
    async move {
        let _counts = &in_flight;
        let Some(Begun { client, seat, clock }) = own_time::apart(begun).await else { return };
        clock.watch(pin!(http1::serve(client, &listener, &seat))).await;
    }
}

/// A connection on which HTTP/1 is spoken, at its first byte.
struct Begun {
    client: Client,
    seat: Seat,
    /// The client's own. Beside it: who borrows the client for it before passing it on keeps room for both in the task.
    clock: Rc<Clock>,
}

/// Finds out what is spoken on a connection. Where that is not HTTP/1, it has been served when this returns.
async fn begin(stream: TcpStream, client: IpAddr, listener: Rc<Listener>) -> Option<Begun> {
    let port = listener.port();
    if let Some(terminator) = port.terminator() {
        return Box::pin(begin_tls(stream, client, &listener, &port, terminator)).await;
    }
    if port.protocol() == Protocol::Tcp {
        Box::pin(tcp::serve(Stream::Plain(stream), &port)).await;
        return None;
    }
    let seat = listener.seats.take();
    let (stream, detected) = if port.protocol() == Protocol::Auto {
        match Box::pin(detect::http_or_relay(stream, &port, &seat)).await {
            Found::Http1(stream) => (stream, Detected::Http1),
            Found::Http2(stream) => (stream, Detected::Http2),
            Found::Served => return None,
        }
    } else {
        let detected = detect(&stream, &port, &listener, &seat).await;
        (stream, detected)
    };
    begun(Stream::Plain(stream), client, detected, seat, &port, &listener).await
}

/// As [`begin`], on a port where TLS ends.
async fn begin_tls(
    stream: TcpStream,
    client: IpAddr,
    listener: &Rc<Listener>,
    port: &Rc<Port>,
    terminator: Arc<Terminator>,
) -> Option<Begun> {
    let (seat, is_http) = (listener.seats.take(), port.protocol() != Protocol::Tcp);
    match Box::pin(open(stream, &terminator, port, listener, &seat)).await {
        Opened::Tls(session) if is_http => {
            let detected = if session.chose_http2() { Detected::Http2 } else { Detected::Http1 };
            begun(Stream::Tls(session), client, detected, seat, port, listener).await
        }
        Opened::Tls(session) => {
            tcp::serve(Stream::Tls(session), port).await;
            None
        }
        // To be told so.
        Opened::Plain(stream) if is_http => {
            let detected = detect(&stream, port, listener, &seat).await;
            begun(Stream::Plain(stream), client, detected, seat, port, listener).await
        }
        Opened::Plain(stream) => {
            connect::reset(&stream);
            None
        }
        Opened::Nothing => None,
    }
}

/// Counts what was found to be spoken, and serves what is not HTTP/1.
async fn begun(
    stream: Stream,
    client: IpAddr,
    detected: Detected,
    seat: Seat,
    port: &Rc<Port>,
    listener: &Rc<Listener>,
) -> Option<Begun> {
    port.metrics.detected[detected as usize].add(1);
    match detected {
        Detected::Http1 => {
            let clock = Rc::new(Clock::of(client));
            Some(Begun { client: Client::new(stream, Rc::clone(&clock)), seat, clock })
        }
        Detected::Http2 if buffer::is_filling() => {
            crowded::count(port, Reason::OutOfBuffers);
            stream.reset();
            None
        }
        Detected::Http2 => {
            Box::pin(http2::serve(stream, client, listener, &seat)).await;
            None
        }
        // A client that says nothing, fails or takes too long has nothing to be told.
        Detected::Nothing | Detected::Timeout | Detected::Tcp => None,
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
    use crate::redirected::Redirected;

    fn size_of<A, B, C, D, Task>(_: impl FnOnce(A, B, C, D) -> Task) -> usize {
        std::mem::size_of::<Task>()
    }

    /// Room for HTTP/2 in every task made 4,096 idle connections take 40 MB. The bound is that of a build of the whole workspace, whose
    /// features make some types larger than the proxy's own build has them.
    #[test]
    fn what_an_idle_connection_holds_is_small() {
        let size = size_of(super::serve);
        assert!(size <= 1000, "{size} bytes");
        let redirected = size_of(Redirected::serve);
        assert!(redirected <= size + 100, "{redirected} bytes, of which {size} as on a port");
    }
}
