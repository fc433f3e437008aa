//! Bytes from one side to the other, for whatever is not HTTP.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::buffer::{self, SIZE};
use crate::connect::{self, AppStream};
use crate::counter::Counter;
use crate::metrics::PortMetrics;
use crate::pipe::Pipe;
use crate::port::Port;
use crate::reason::Reason;
use crate::stream::{ReadHalf, Stream, WriteHalf};
use crate::tls::Spoken;

/// Relays a client's connection to the app. The app is called before the client has said anything, because in some
/// protocols (`MySQL`, SMTP) the server speaks first.
pub(crate) async fn serve(client: Stream, port: &Rc<Port>) {
    serve_as(client, port, Some(Spoken::Bytes)).await;
}

/// As [`serve`], where it is known what is spoken: `None` is TLS of the client's own.
pub(crate) async fn serve_as(client: Stream, port: &Rc<Port>, spoken: Option<Spoken>) {
    let open = Open::count(&port.metrics);
    match call(port, spoken).await {
        Ok(app) => relay(client, &[], app, &[], open).await,
        Err(reason) => {
            client.reset();
            open.end(reason);
        }
    }
}

/// Calls the app, if the circuit breaker lets it.
async fn call(port: &Port, spoken: Option<Spoken>) -> Result<AppStream, Reason> {
    let Some(circuit) = &port.circuit else { return connect::app(port, spoken).await };
    let (permit, started) = (circuit.ask().map_err(|_| Reason::CircuitOpen)?, Instant::now());
    let called = connect::app(port, spoken).await;
    let reason = called.as_ref().err().copied().unwrap_or(Reason::None);
    circuit.report_call(permit, reason, started.elapsed());
    called
}

/// What the circuit breaker says to a call that was made before it was known what for, and counts of it. Of HTTP it is not asked: that a
/// connection came about is no answer to any request.
pub(crate) fn judge_call(port: &Port, reason: Reason, took: Duration) -> Result<(), Reason> {
    let Some(circuit) = &port.circuit else { return Ok(()) };
    let permit = circuit.ask().map_err(|_| Reason::CircuitOpen)?;
    circuit.report_call(permit, reason, took);
    Ok(())
}

/// Relays until both sides have closed, or one has failed. When one side closes its half, so do we towards the other,
/// and its answer still comes back. What was read already goes first.
pub(crate) async fn relay(
    mut client: Stream,
    from_client: &[u8],
    mut app: AppStream,
    from_app: &[u8],
    open: Open<'_>,
) {
    let (client_read, client_write) = client.split();
    let (app_read, app_write) = app.split();
    let (to_app, to_client) = ([Reason::ClientClosed, Reason::Reset], [Reason::Reset, Reason::ClientClosed]);
    let both = tokio::try_join!(
        copy(client_read, from_client, app_write, &open.metrics.relayed.read, to_app),
        copy(app_read, from_app, client_write, &open.metrics.relayed.written, to_client),
    );
    open.end(both.err().unwrap_or(Reason::None));
}

/// Copies until the first side ends. A failure is the fault of the side where it is met: `faults` has both.
async fn copy(
    mut from: ReadHalf<'_>,
    first: &[u8],
    mut to: WriteHalf<'_>,
    bytes: &Counter,
    faults: [Reason; 2],
) -> Result<(), Reason> {
    let [of_from, of_to] = faults.map(|reason| {
        move |error: io::Error| {
            tracing::debug!(%error, reason = reason.as_str(), "relay ended early");
            reason
        }
    });
    bytes.add(first.len() as u64);
    to.write_all(first).await.map_err(of_to)?;
    let mut in_bulk = false;
    loop {
        if buffer::is_scarce() {
            to.writable().await.map_err(of_to)?;
        }
        if in_bulk && let (Some(source), Some(sink)) = (from.plain(), to.plain()) {
            source.readable().await.map_err(of_from)?;
            if let Some(pipe) = Pipe::fill(source, u64::MAX).map_err(of_from)? {
                if pipe.holds() == 0 {
                    return to.shutdown().await.map_err(of_to);
                }
                bytes.add(pipe.holds() as u64);
                in_bulk = pipe.holds() >= SIZE;
                pipe.empty(sink).await.map_err(of_to)?;
                continue;
            }
        }
        let piece = buffer::receive(&mut from).await.map_err(of_from)?;
        if piece.is_empty() {
            return to.shutdown().await.map_err(of_to);
        }
        // While it runs, not at the end: connections of this kind may stay for days.
        bytes.add(piece.len() as u64);
        in_bulk = piece.is_full();
        to.write_all(&piece).await.map_err(of_to)?;
        // What TLS has kept back would wait for the next piece.
        to.flush().await.map_err(of_to)?;
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
        metrics.relayed.opened.add(1);
        Self { metrics, reason: Reason::None }
    }

    pub(crate) fn end(mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.metrics.relayed.closed.add(self.reason);
    }
}
