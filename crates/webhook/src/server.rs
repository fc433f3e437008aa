//! The TLS port: our own accept loop, for a bound on everything that a peer may take, and a stop that loses nothing.
//!
//! API servers keep connections open and send each admission on one of them. Go does not repeat a POST whose
//! connection closes under it, so we close none that may be in use: from the moment of SIGTERM every answer says
//! `connection: close`, new connections are still accepted while the endpoints propagate, and only then are the idle
//! ones closed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;

/// How long a handshake may take. An API server needs two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle, and a request's head may take. Longer than the 90 s after which Go closes an idle
/// connection itself: were we the first, a request could be on its way.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Connections at a time: two API servers with all their 200 mutating requests in flight, at some 20 KB each. More wait
/// in the listen queue.
const MAX_CONNECTIONS: usize = 512;

/// When to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// From here on each answer is the last of its connection.
    pub draining: Shutdown,
    /// From here on nothing is accepted and idle connections are closed.
    pub closing: Shutdown,
}

/// Serves `router` over TLS until [`Stop::closing`]. Connections then finish the request that they are in; `open` counts
/// them.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    stop: Stop,
    open: Drain,
    metrics: Metrics,
) {
    let acceptor = TlsAcceptor::from(tls);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.closing.requested() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let guard = (open.start(), permit);
        let (acceptor, router, stop, metrics) =
            (acceptor.clone(), router.clone(), stop.clone(), metrics.clone());
        tokio::spawn(async move {
            metrics.connections.inc();
            connection(stream, peer, acceptor, router, stop, &metrics).await;
            metrics.connections.dec();
            drop(guard);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            // Out of file descriptors, mostly: without a pause the loop would spin until one is free.
            tracing::warn!(%error, "failed to accept connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    stop: Stop,
    metrics: &Metrics,
) {
    // An answer is one write, so waiting for more to send would only delay it.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics.handshake_failures.inc();
            // Debug: port scanners and TCP probes end here too.
            tracing::debug!(%error, %peer, "failed to shake hands");
            return;
        }
        Err(_) => {
            metrics.handshake_failures.inc();
            tracing::debug!(%peer, "failed to shake hands in time");
            return;
        }
    };
    let service = TowerToHyperService::new(router);
    let draining = &stop.draining;
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = service.call(request);
        async move {
            let mut response = answer.await?;
            if draining.is_requested() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.closing.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "connection ended early");
    }
}
