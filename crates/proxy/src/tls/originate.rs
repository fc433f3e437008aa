//! One handshake with an upstream.

use std::io;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::buffer::Held;
use crate::port::Port;
use crate::reason::Reason;
use crate::tls::{Handshake, Originator, Session, session};

/// What is going to be spoken on a connection to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// Nobody knows.
    Bytes,
}

impl Spoken {
    /// Each at its own number.
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Bytes];

    /// What ALPN offers (RFC 7301): the app speaks one version of HTTP, so the upstream has no choice.
    pub(crate) fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Bytes => &[],
        }
    }
}

/// Shakes hands with an upstream that has accepted a connection.
pub(crate) async fn originate(
    stream: TcpStream,
    originator: &Originator,
    spoken: Spoken,
    port: &Port,
) -> Result<Box<Session>, (Reason, io::Error)> {
    let held = Held::new(session::SIZE);
    let connector = TlsConnector::from(originator.config(spoken));
    let shaken = timeout(port.limits.handshake, connector.connect(originator.name.clone(), stream)).await;
    let (handshake, shaken) = match shaken {
        Ok(Ok(stream)) => {
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            (if resumed { Handshake::Resumed } else { Handshake::Full }, Ok(stream))
        }
        Ok(Err(error)) => {
            let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            let (handshake, reason) = match of_tls {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    (Handshake::ServerCertificate, Reason::TlsCertificate)
                }
                _ => (Handshake::Failed, Reason::TlsFailed),
            };
            (handshake, Err((reason, error)))
        }
        Err(elapsed) => (Handshake::Timeout, Err((Reason::ConnectTimeout, elapsed.into()))),
    };
    port.metrics.handshakes[handshake as usize].add(1);
    shaken.map(|stream| Box::new(Session::new(stream.into(), None, held)))
}
