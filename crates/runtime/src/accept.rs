//! Accepting connections, for every server's loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause after a failed accept. It fails for want of file descriptors, mostly: without a pause the loop would spin until
/// one is free.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection. Failures are logged and tried again. Cancel safe.
pub async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let port = listener.local_addr().map_or(0, |address| address.port());
                tracing::warn!(%error, port, "failed to accept connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The next connection once there is a permit for it; those without one wait in the listen queue. Cancel safe.
pub async fn with_permit(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("nobody closes the semaphore");
    let (stream, peer) = next(listener).await;
    (stream, peer, permit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn a_connection_without_a_permit_waits_until_one_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (_, _, permit) = with_permit(&listener, &permits).await;
        let second = tokio::spawn(async move { with_permit(&listener, &permits).await.1 });
        yield_now().await;
        assert!(!second.is_finished());
        drop(permit);
        second.await.unwrap();
    }
}
