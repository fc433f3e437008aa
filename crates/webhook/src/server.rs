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
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use outrigger_runtime::accept;
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connections::{Connections, Place};
use crate::metrics::Metrics;

/// How long a handshake may take. An API server needs two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle, and a request's head may take. Longer than the 90 s after which Go closes an idle
/// connection itself: were we the first, a request could be on its way.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// When to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// From here on each answer is the last of its connection.
    pub draining: Shutdown,
    /// From here on nothing is accepted and idle connections are closed.
    pub closing: Shutdown,
}

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more closes the one without progress for longest.
    pub connections: usize,
    /// How long one request may take after its head, its body included.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two API servers with all their 200 mutating requests in flight, at some 20 KB each.
            connections: 512,
            // Less than the 5 s that API servers wait by the chart's default. Ours takes a millisecond, or a few
            // seconds where each question to the API server runs into its own limit.
            request: Duration::from_secs(4),
        }
    }
}

/// The server and what its connections share.
#[derive(Clone)]
pub struct Server {
    /// Gives the certificate.
    pub tls: Arc<rustls::ServerConfig>,
    /// Answers requests.
    pub router: Router,
    /// When it ends.
    pub stop: Stop,
    /// Counts the open connections.
    pub open: Drain,
    /// What clients may take.
    pub limits: Limits,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Server {
    /// Serves until [`Stop::closing`]. Connections then finish the request that they are in.
    pub async fn serve(self, listener: TcpListener) {
        let connections = Connections::new(self.limits.connections);
        loop {
            let (stream, peer) = tokio::select! {
                () = self.stop.closing.requested() => return,
                accepted = accept::next(&listener) => accepted,
            };
            let (place, evicted) = connections.enter().await;
            if evicted {
                self.metrics.connections_evicted.inc();
            }
            let (server, guard) = (self.clone(), self.open.start());
            tokio::spawn(async move {
                server.metrics.connections.inc();
                tokio::select! {
                    () = server.connection(stream, peer, &place) => {}
                    () = place.needed() => tracing::debug!(%peer, "closed to make room for another connection"),
                }
                server.metrics.connections.dec();
                drop(guard);
            });
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, place: &Place) {
        // An answer is one write, so waiting for more to send would only delay it.
        let _ = stream.set_nodelay(true);
        let Some(stream) = self.handshake(stream, peer).await else { return };
        let service = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            place.progress();
            let answer = tokio::time::timeout(self.limits.request, service.call(request));
            async move {
                let mut response = answer.await.unwrap_or_else(|_| Ok(self.too_slow(peer)))?;
                place.progress();
                if self.stop.draining.is_requested() {
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
            () = self.stop.closing.requested() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "connection ended early");
        }
    }

    async fn handshake(&self, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            // Debug: port scanners and TCP probes end here too.
            Ok(Err(error)) => tracing::debug!(%error, %peer, "failed to shake hands"),
            Err(_) => tracing::debug!(%peer, "failed to shake hands in time"),
        }
        self.metrics.handshake_failures.inc();
        None
    }

    /// The connection ends with it: the rest of the body may still come, at whatever pace.
    fn too_slow(&self, peer: SocketAddr) -> Response {
        let (reason, limit) = ("Timeout", self.limits.request);
        self.metrics.count("error", reason, "unknown");
        tracing::warn!(result = "error", reason, %peer, error = %format_args!("request took longer than {limit:?}"), "admission");
        let close = [(CONNECTION, HeaderValue::from_static("close"))];
        (StatusCode::REQUEST_TIMEOUT, close, format!("request took longer than {limit:?}\n")).into_response()
    }
}
