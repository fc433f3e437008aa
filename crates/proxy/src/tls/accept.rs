//! One client's handshake.

use std::io::{self, ErrorKind};
use std::pin::pin;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::buffer::Held;
use crate::port::Port;
use crate::seat::Seat;
use crate::tls::{Session, Terminator, session, subject};

/// How a handshake went: the `result` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// With a key exchange and a certificate.
    Full,
    /// On a session that the client had.
    Resumed,
    /// The client spoke no TLS.
    Plain,
    /// The client's certificate was missing or refused.
    ClientCertificate,
    /// The upstream's certificate was refused.
    ServerCertificate,
    /// It took too long.
    Timeout,
    /// The client left.
    ClientClosed,
    /// The two have no version, cipher or protocol in common, the client did not trust our certificate, or what it sent is
    /// no TLS.
    Failed,
}

impl Handshake {
    /// Each at its own number, with its label.
    pub(crate) const ALL: [(Self, &str); 8] = [
        (Self::Full, "full"),
        (Self::Resumed, "resumed"),
        (Self::Plain, "plain"),
        (Self::ClientCertificate, "client_certificate"),
        (Self::ServerCertificate, "server_certificate"),
        (Self::Timeout, "timeout"),
        (Self::ClientClosed, "client_closed"),
        (Self::Failed, "failed"),
    ];
}

/// The most that the library keeps of a message of a handshake that has not come whole, in bytes (`MAX_HANDSHAKE_SIZE` of rustls).
const UNFINISHED: usize = 64 * 1024;

/// Shakes hands with a client that has begun to. Without a session there is nothing more to say to it: TLS has told it why.
pub(crate) async fn accept(
    stream: TcpStream,
    terminator: &Terminator,
    port: &Port,
    seat: &Seat,
) -> Option<Box<Session>> {
    let held = Held::new(session::SIZE);
    // For all of the handshake: a certificate can come in pieces as a hello can, and the library does not tell what it has.
    let unfinished = Held::new(UNFINISHED);
    let http2 = terminator.is_http() && port.offer.has_http2(&port.target).await;
    let mut shake = pin!(TlsAcceptor::from(terminator.config(http2)).accept(stream));
    let deadline = seat.deadline(port.limits.handshake);
    let shaken = seat.wait(deadline, false, |context| shake.as_mut().poll(context)).await;
    drop(unfinished);
    let handshake = match &shaken {
        Ok(Ok(stream)) if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) => {
            Handshake::Resumed
        }
        Ok(Ok(_)) => Handshake::Full,
        Ok(Err(error)) => {
            tracing::debug!(%error, port = port.metrics.labels.name(), "TLS handshake failed");
            why(error)
        }
        Err(_) => Handshake::Timeout,
    };
    port.metrics.handshakes[handshake as usize].add(1);
    let stream = shaken.ok()?.ok()?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let subject = shown.filter(|_| terminator.tells_subject()).and_then(|leaf| subject::of(leaf));
    Some(Box::new(Session::new(stream.into(), subject, held)))
}

fn why(error: &io::Error) -> Handshake {
    let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match (of_tls, error.kind()) {
        (Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)), _) => {
            Handshake::ClientCertificate
        }
        (None, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            Handshake::ClientClosed
        }
        _ => Handshake::Failed,
    }
}
