//! Connections to the app.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::limits::KEEPALIVE;
use crate::reason::Reason;

/// Connects to the app's port on loopback: IPv4 first, as most apps listen on `0.0.0.0` or on both, then IPv6 for those
/// that listen on `::1` alone. A refusal on loopback is immediate, so the second try costs nothing.
pub(crate) async fn app(port: u16, limit: Duration) -> Result<TcpStream, Reason> {
    let connect = async {
        match TcpStream::connect((IpAddr::from(Ipv4Addr::LOCALHOST), port)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Where this fails too, the first refusal is what counts: a node without IPv6 would report that instead.
                TcpStream::connect((IpAddr::from(Ipv6Addr::LOCALHOST), port)).await.map_err(|_| error)
            }
            result => result,
        }
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(stream)) => {
            prepare(&stream);
            Ok(stream)
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Reason::ConnectRefused),
        Ok(Err(error)) => {
            tracing::warn!(%error, port, "failed to connect to the app");
            Err(Reason::ConnectFailed)
        }
        Err(_) => Err(Reason::ConnectTimeout),
    }
}

/// Sets what every connection has. A failure leaves a connection that works less well, so it is not one of ours.
pub(crate) fn prepare(stream: &TcpStream) {
    // We write whole heads and chunks; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A peer whose node died never closes: without this its relay would stay for ever (linkerd2#8033).
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}
