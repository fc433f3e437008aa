//! Whether the app says that it is well: over HTTP, and over gRPC where it has a port for that.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// `HealthCheckResponse { status = SERVING }` and `NOT_SERVING`, framed as gRPC does: not compressed, two bytes.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 2];

/// Well at first, until somebody says otherwise. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<AtomicBool>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

/// `GET /healthz`, and `PUT /healthz/up` or `/healthz/down`, which decide what it and gRPC say from then on.
pub(crate) fn routes(health: Health) -> Router {
    Router::new().route("/healthz", get(say)).route("/healthz/{state}", put(set)).with_state(health)
}

async fn say(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.0.load(Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "down\n")
    }
}

async fn set(State(health): State<Health>, Path(state): Path<String>) -> (StatusCode, &'static str) {
    match state.as_str() {
        "up" => health.0.store(true, Relaxed),
        "down" => health.0.store(false, Relaxed),
        _ => return (StatusCode::BAD_REQUEST, "it is up or down\n"),
    }
    (StatusCode::OK, "ok\n")
}

/// Serves `grpc.health.v1.Health/Check` for ever, for the server as a whole and any service alike.
/// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
pub(crate) async fn serve_grpc(listener: TcpListener, health: Health) {
    loop {
        // What can't be accepted is the client's loss: a demo has no more to do about it.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let health = health.clone();
        tokio::spawn(async move {
            let service =
                service_fn(|request| std::future::ready(Ok::<_, Infallible>(check(&request, &health))));
            let connection = http2::Builder::new(TokioExecutor::new());
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("gRPC connection ended early: {error}");
            }
        });
    }
}

fn check(
    request: &Request<Incoming>,
    health: &Health,
) -> Response<impl Body<Data = Bytes, Error = Infallible> + use<>> {
    let known = request.uri().path() == "/grpc.health.v1.Health/Check";
    let up = health.0.load(Relaxed);
    let message: &'static [u8] = if !known {
        &[]
    } else if up {
        &SERVING
    } else {
        &NOT_SERVING
    };
    let mut trailers = HeaderMap::new();
    // 12 is UNIMPLEMENTED.
    trailers.insert("grpc-status", (if known { 0 } else { 12 }).into());
    let body = Full::from(message).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().expect("it is a header's value"));
    response
}
