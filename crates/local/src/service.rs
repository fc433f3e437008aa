//! What kube-proxy does: an address of a Service, behind which its pods take turns.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use outrigger_runtime::bind;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// The pods behind it. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<(Vec<SocketAddr>, usize)>>);

impl Endpoints {
    /// These are its pods from now on.
    pub(crate) fn set(&self, pods: Vec<SocketAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = pods;
    }

    fn next(&self) -> Option<SocketAddr> {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (pods, turn) = &mut *endpoints;
        *turn = turn.wrapping_add(1);
        pods.get(*turn % pods.len().max(1)).copied()
    }
}

/// Serves the Service for as long as the demo runs.
pub(crate) fn serve(address: SocketAddr, endpoints: Endpoints) -> std::io::Result<()> {
    let listener = TcpListener::from_std(bind::listen(address)?)?;
    tokio::spawn(async move {
        loop {
            let Ok((mut client, _)) = listener.accept().await else { continue };
            let Some(pod) = endpoints.next() else { continue };
            tokio::spawn(async move {
                // A pod that is not there is the client's to see.
                if let Ok(mut pod) = TcpStream::connect(pod).await {
                    let _ = copy_bidirectional(&mut client, &mut pod).await;
                }
            });
        }
    });
    Ok(())
}
