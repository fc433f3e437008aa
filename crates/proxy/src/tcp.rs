//! Bytes from one side to the other, for whatever is not HTTP/1.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connect;
use crate::listener::Port;
use crate::metrics::PortMetrics;

/// First size of a copy buffer, each direction's own. It doubles whenever a read fills it, so that connections with
/// little to say, which most are, cost little.
const SMALL: usize = 2 * 1024;
/// Last size of a copy buffer. Larger ones were not faster over loopback in ztunnel's measurements until 10 MiB.
const LARGE: usize = 16 * 1024;

/// Relays a client's connection to the app. The app is called before the client has said anything, because in some
/// protocols (`MySQL`, SMTP) the server speaks first.
pub(crate) async fn serve(client: TcpStream, port: &Rc<Port>) {
    match connect::app(&port.app, port.limits.connect).await {
        Ok(app) => relay(client, app, &port.metrics).await,
        Err(reason) => {
            // As the client would have seen it without us: a reset, not an orderly end.
            let _ = SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO));
            tracing::debug!(reason = reason.as_str(), port = port.metrics.name, "connection refused");
        }
    }
}

/// Relays until both sides have closed, or one has failed. When one side closes its half, so do we towards the other,
/// and its answer still comes back.
pub(crate) async fn relay(
    client: impl AsyncRead + AsyncWrite,
    app: impl AsyncRead + AsyncWrite,
    metrics: &PortMetrics,
) {
    let _open = Open::count(metrics);
    let (client_read, client_write) = tokio::io::split(client);
    let (app_read, app_write) = tokio::io::split(app);
    let both = tokio::try_join!(
        copy(client_read, app_write, &metrics.read),
        copy(app_read, client_write, &metrics.written),
    );
    if let Err(error) = both {
        tracing::debug!(%error, port = metrics.name, "relay ended early");
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; SMALL];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        // While it runs, not at the end: connections of this kind may stay for days.
        bytes.fetch_add(length as u64, Relaxed);
        to.write_all(&buffer[..length]).await?;
        if length == buffer.len() && length < LARGE {
            buffer.resize(length * 2, 0);
        }
    }
}

/// Counts a connection as opened, and as closed when it is dropped.
struct Open<'a>(&'a PortMetrics);

impl<'a> Open<'a> {
    fn count(metrics: &'a PortMetrics) -> Self {
        metrics.opened.fetch_add(1, Relaxed);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}
