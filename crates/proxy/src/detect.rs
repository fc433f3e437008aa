//! Connections that may carry anything: what is spoken on them is found out without holding anybody up.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::connect::{self, AppStream};
use crate::identify::{Detected, Spoken, identify_any, is_tls};
use crate::port::Port;
use crate::reason::Reason;
use crate::seat::{Called, Seat};
use crate::stream::Stream;
use crate::tcp::{self, Open};
use crate::tls;

/// How long a client may take for its first byte before the server is called, which may be one that speaks first, as those of `MySQL`
/// and SMTP do. A time limit alone makes each of their connections wait for as long (linkerd2#1505); this delays them by so much,
/// and a client that speaks first, as most do, by nothing.
const SPEAKS_FIRST: Duration = Duration::from_millis(10);
/// How long it may take from a first byte that may be HTTP's to the end of the first line.
const FIRST_LINE: Duration = Duration::from_secs(1);

/// What a connection turned out to be.
pub(crate) enum Found {
    Http1(TcpStream),
    Http2(TcpStream),
    /// It is served: as bytes, or not at all.
    Served,
}

/// Finds out what is spoken on a connection. What is not HTTP is relayed until it ends.
pub(crate) async fn http_or_relay(stream: TcpStream, port: &Rc<Port>, seat: &Seat) -> Found {
    let mut server = None;
    // Not by its readiness: an accepted socket counts as readable until somebody has looked.
    if tokio::time::timeout(SPEAKS_FIRST, stream.peek(&mut [0])).await.is_err() {
        let started = Instant::now();
        match connect::app(port, Some(tls::Spoken::Bytes)).await {
            Ok(connected) => server = Some((connected, started.elapsed())),
            Err(reason) => {
                let _ = tcp::judge_call(port, reason, started.elapsed());
                Open::count(&port.metrics).end(reason);
                connect::reset(&stream);
                return Found::Served;
            }
        }
    }
    if let Some((connected, _)) = &server {
        let first = {
            let mut first = pin!(first_to_speak(&stream, connected));
            let limit = seat.deadline(port.limits.idle);
            seat.wait(limit, true, |context| first.as_mut().poll(context)).await
        };
        match first {
            Ok(Side::Client) => {}
            Err(Called::Stop) => return Found::Served,
            // After so long without a word it stays as it is, perhaps for days.
            Ok(Side::Server) | Err(Called::Late) => return relay(stream, server, port).await,
        }
    }
    let spoken = {
        let mut identify = pin!(identify_any(&stream));
        seat.wait(seat.deadline(FIRST_LINE), false, |context| identify.as_mut().poll(context)).await
    };
    match spoken {
        Ok(Ok(Spoken::Http2)) => Found::Http2(stream),
        Ok(Ok(Spoken::Http1)) => {
            if let Some((connected, _)) = server {
                // For the first request.
                port.pool.put(Box::new(connected));
            }
            Found::Http1(stream)
        }
        // By the app's own hand: another around it would be one too many.
        Ok(_) if port.originates && matches!(is_tls(&stream).await, Ok(Some(true))) => {
            drop(server);
            port.metrics.detected[Detected::Tcp as usize].add(1);
            Box::pin(tcp::serve_as(Stream::Plain(stream), port, None)).await;
            Found::Served
        }
        _ => relay(stream, server, port).await,
    }
}

enum Side {
    Client,
    Server,
}

/// The end of a connection is a word too.
async fn first_to_speak(client: &TcpStream, server: &AppStream) -> Side {
    tokio::select! {
        _ = client.readable() => Side::Client,
        () = server.speaks() => Side::Server,
    }
}

async fn relay(stream: TcpStream, server: Option<(AppStream, Duration)>, port: &Rc<Port>) -> Found {
    port.metrics.detected[Detected::Tcp as usize].add(1);
    match server {
        Some((server, took)) => {
            if let Err(reason) = tcp::judge_call(port, Reason::None, took) {
                Open::count(&port.metrics).end(reason);
                connect::reset(&stream);
                return Found::Served;
            }
            tcp::relay(Stream::Plain(stream), &[], server, &[], Open::count(&port.metrics)).await;
        }
        None => tcp::serve(Stream::Plain(stream), port).await,
    }
    Found::Served
}
