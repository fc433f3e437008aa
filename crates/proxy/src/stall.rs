//! Clients that take nothing of an answer, or send nothing of a body, while they are waited for.
//!
//! The app has no such limit: it may be silent within an answer as long as before it, as servers of events are. A peer whose machine
//! is gone is found by the kernel (`connect::prepare`).

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::buffer;
use crate::reason::Reason;
use crate::stream::WriteHalf;

/// Waits for a client's next step, but no longer than this.
pub(crate) async fn wait<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Reason> {
    match tokio::time::timeout(limit, step).await {
        Ok(done) => done.map_err(|_| Reason::ClientClosed),
        Err(_) => Err(Reason::BodyTimeout),
    }
}

/// Writes what the client takes at once: how much.
pub(crate) fn write_now(client: &WriteHalf<'_>, bytes: &[u8]) -> Result<usize, Reason> {
    match client.try_write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        taken => taken.map_err(|_| Reason::ClientClosed),
    }
}

/// Writes all of it, as the client takes it: to the last byte, also where TLS would keep that back until there is more.
pub(crate) async fn write(client: &WriteHalf<'_>, mut bytes: &[u8], limit: Duration) -> Result<(), Reason> {
    while !bytes.is_empty() || client.keeps_back() {
        let taken = write_now(client, bytes)?;
        bytes = &bytes[taken..];
        if !client.keeps_back() && (taken > 0 || bytes.is_empty()) {
            continue;
        }
        // What is written stands in a buffer.
        if buffer::is_scarce() {
            return Err(Reason::OutOfBuffers);
        }
        // Boxed, so that the tasks of clients that never wait have no room for it.
        Box::pin(wait(limit, client.writable())).await?;
    }
    Ok(())
}
