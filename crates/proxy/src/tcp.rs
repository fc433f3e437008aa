//! Bytes from one side to the other, for whatever is not HTTP/1.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connect;
use crate::listener::Port;
use crate::metrics::PortMetrics;
use crate::reason::Reason;

/// First size of a copy buffer, each direction's own. It doubles whenever a read fills it, so that connections with
/// little to say, which most are, cost little.
const SMALL: usize = 2 * 1024;
/// Last size of a copy buffer. Larger ones were not faster over loopback in ztunnel's measurements until 10 MiB.
const LARGE: usize = 16 * 1024;

/// Relays a client's connection to the app. The app is called before the client has said anything, because in some
/// protocols (`MySQL`, SMTP) the server speaks first.
pub(crate) async fn serve(client: TcpStream, port: &Rc<Port>) {
    let open = Open::count(&port.metrics);
    match connect::app(port).await {
        Ok(app) => relay(client, app, open).await,
        Err(reason) => {
            connect::reset(&client);
            open.end(reason);
        }
    }
}

/// Relays until both sides have closed, or one has failed. When one side closes its half, so do we towards the other,
/// and its answer still comes back.
pub(crate) async fn relay(
    client: impl AsyncRead + AsyncWrite,
    app: impl AsyncRead + AsyncWrite,
    open: Open<'_>,
) {
    let (client_read, client_write) = tokio::io::split(client);
    let (app_read, app_write) = tokio::io::split(app);
    let both = tokio::try_join!(
        copy(client_read, app_write, &open.metrics.read, [Reason::ClientClosed, Reason::Reset]),
        copy(app_read, client_write, &open.metrics.written, [Reason::Reset, Reason::ClientClosed]),
    );
    open.end(both.err().unwrap_or(Reason::None));
}

/// Copies until the first side ends. A failure is the fault of the side where it is met: `faults` has both.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
    faults: [Reason; 2],
) -> Result<(), Reason> {
    let [of_from, of_to] = faults.map(|reason| {
        move |error: io::Error| {
            tracing::debug!(%error, reason = reason.as_str(), "relay ended early");
            reason
        }
    });
    let mut buffer = vec![0; SMALL];
    loop {
        let length = from.read(&mut buffer).await.map_err(of_from)?;
        if length == 0 {
            return to.shutdown().await.map_err(of_to);
        }
        // While it runs, not at the end: connections of this kind may stay for days.
        bytes.fetch_add(length as u64, Relaxed);
        to.write_all(&buffer[..length]).await.map_err(of_to)?;
        if length == buffer.len() && length < LARGE {
            buffer.resize(length * 2, 0);
        }
    }
}

/// A connection that is counted: as opened now, and as closed once, however it ends.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    metrics: &'a PortMetrics,
    reason: Reason,
}

impl<'a> Open<'a> {
    pub(crate) fn count(metrics: &'a PortMetrics) -> Self {
        metrics.opened.fetch_add(1, Relaxed);
        Self { metrics, reason: Reason::None }
    }

    pub(crate) fn end(mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.metrics.close(self.reason);
    }
}
