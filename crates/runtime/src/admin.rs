//! The admin server that every process has: metrics, probes, log level. A binary merges its own routes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::bearer::{Token, Unauthorized};
use crate::log::LogControl;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use crate::shutdown::{self, Shutdown, Trigger};
use crate::{accept, bind};

/// How long a peer may take for a request's head, and sit idle between two. Prometheus scrapes less often than that
/// and then connects anew, which costs it nothing here.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a handler may take, its reading of the body included.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for requests under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request body. A log level is a word.
const BODY_LIMIT: usize = 64 * 1024;
/// Connections at a time. The kubelet, a Prometheus or two and some people; more is somebody's mistake, and must not
/// cost the memory of the pod.
const MAX_CONNECTIONS: usize = 64;

/// What the routes that every process has work on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/ready`.
    pub readiness: Readiness,
    /// For `PUT /log-level`.
    pub log: LogControl,
}

/// The routes that every process has: `GET /metrics`, `/live`, `/ready` and, for loopback peers, `PUT /log-level`.
pub fn router(admin: Admin) -> Router {
    let routes = Router::new()
        .route("/metrics", get(encode_metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/log-level", put(log_level))
        .with_state(admin);
    limited(routes)
}

/// Routes whose handlers may take 10 s. Without it they may take as long as their peer waits, which is right for what
/// passes a question on.
pub fn limited(routes: Router) -> Router {
    routes.layer(middleware::from_fn(async |request: Request, next: Next| {
        let answer = tokio::time::timeout(HANDLER_TIMEOUT, next.run(request)).await;
        answer.unwrap_or_else(|_| (StatusCode::REQUEST_TIMEOUT, "request took too long\n").into_response())
    }))
}

/// Serves `router` until `shutdown`; connections then finish the request that they are in, within 5 s. Unlike `axum::serve` it
/// bounds how long a peer may take for a request's head.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let router = router.layer(DefaultBodyLimit::max(BODY_LIMIT));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopping) = tokio::sync::watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        let (stream, peer, permit) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept::with_permit(&listener, &permits) => accepted,
        };
        let (router, mut stopping) = (router.clone(), stopping.clone());
        tokio::spawn(async move {
            let stopped = async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            serve_connection(stream, peer, router, stopped).await;
            drop(permit);
        });
    }
    drop((listener, stopping));
    stop.send_replace(true);
    // Each connection holds a receiver until it is done.
    if tokio::time::timeout(STOP_TIMEOUT, stop.closed()).await.is_err() {
        tracing::debug!(connections = stop.receiver_count(), "admin connections cut");
    }
}

/// Serves the admin port on a thread of its own, for programs whose work is not asynchronous. Signals are caught before the port is open:
/// who can reach us can stop us, and a first process without a handler would not even be told.
pub fn on_a_thread<Serving: Future<Output = ()>>(
    port: u16,
    serve: impl FnOnce(TcpListener, Trigger, Shutdown) -> Serving + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    let listener = runtime.block_on(async {
        shutdown::on_signal(trigger.clone())?;
        TcpListener::from_std(bind::dual_stack(port)?)
    })?;
    let serve = move || runtime.block_on(serve(listener, trigger, shutdown));
    std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
    Ok(())
}

/// `POST /shutdown` of a sidecar, for loopback peers and holders of the token: who ends the proxy of a Job ends its other sidecars too.
pub fn shutdown_route(token: Token, trigger: Trigger) -> Router {
    Router::new().route("/shutdown", post(stop_now)).with_state((token, trigger))
}

async fn stop_now(
    loopback: Result<Loopback, Forbidden>,
    State((token, trigger)): State<(Token, Trigger)>,
    headers: HeaderMap,
) -> Result<&'static str, Unauthorized> {
    if loopback.is_err() {
        token.authorize(&headers)?;
    }
    tracing::info!("stopping: asked by POST /shutdown");
    trigger.request();
    Ok("stopping\n")
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stopped: impl Future<Output = ()>,
) {
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = TowerToHyperService::new(router.clone()).call(request);
        async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<HangUp>() {
                None => Ok(response),
                Some(HangUp) => Err(io::Error::other("hung up")),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection, stopped);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = &mut stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "admin connection ended early");
    }
}

/// A response that is none: the peer's connection ends without a word.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

impl IntoResponse for HangUp {
    fn into_response(self) -> Response {
        let mut response = StatusCode::BAD_GATEWAY.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What peers that are not on loopback are told.
pub type Forbidden = (StatusCode, &'static str);

/// Lets a handler run only for peers on loopback: `kubectl port-forward`, `kubectl exec` and the pod's own containers.
/// Others get 403.
#[derive(Clone, Copy, Debug)]
pub struct Loopback;

impl<S: Sync> FromRequestParts<S> for Loopback {
    type Rejection = Forbidden;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // A dual-stack socket sees 127.0.0.1 as ::ffff:127.0.0.1.
        if peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback()) {
            return Ok(Self);
        }
        Err((StatusCode::FORBIDDEN, "only from loopback: use kubectl port-forward\n"))
    }
}

async fn encode_metrics(
    State(admin): State<Admin>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let text = admin.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
}

async fn log_level(_: Loopback, State(admin): State<Admin>, level: String) -> (StatusCode, String) {
    match admin.log.set_level(level.trim()) {
        Ok(()) => {
            tracing::info!(level = level.trim(), "log level changed");
            (StatusCode::OK, format!("log level: {}\n", level.trim()))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn admin() -> Admin {
        Admin {
            metrics: Arc::new(Metrics::new("0")),
            readiness: Readiness::default(),
            log: crate::log::detached(),
        }
    }

    async fn answer(admin: &Admin, peer: &str, request: Request<Body>) -> (StatusCode, String) {
        let mut request = request;
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = TowerToHyperService::new(router(admin.clone())).call(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_names_what_is_missing() {
        let admin = admin();
        let certificate = admin.readiness.condition("certificate");
        let ready = || Request::get("/ready").body(Body::empty()).unwrap();
        let (status, body) = answer(&admin, "10.0.0.9:1", ready()).await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not ready: certificate\n"));
        certificate.set(true);
        assert_eq!(answer(&admin, "10.0.0.9:1", ready()).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn log_level_is_for_loopback_peers_only() {
        let set = |level: &'static str| Request::put("/log-level").body(Body::from(level)).unwrap();
        assert_eq!(answer(&admin(), "10.0.0.9:1", set("debug")).await.0, StatusCode::FORBIDDEN);
        for peer in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(answer(&admin(), peer, set("debug\n")).await.0, StatusCode::OK, "{peer}");
        }
        assert_eq!(answer(&admin(), "127.0.0.1:1", set("loud")).await.0, StatusCode::BAD_REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn limited_routes_answer_in_10_s_and_others_when_they_can() {
        let slow = || {
            Router::new().route(
                "/",
                get(async || {
                    tokio::time::sleep(Duration::from_secs(11)).await;
                    "late"
                }),
            )
        };
        for (routes, status) in [(limited(slow()), StatusCode::REQUEST_TIMEOUT), (slow(), StatusCode::OK)] {
            let request = Request::get("/").body(Body::empty()).unwrap();
            let response = TowerToHyperService::new(routes).call(request).await.unwrap();
            assert_eq!(response.status(), status);
        }
    }

    #[tokio::test]
    async fn serves_over_a_socket_and_stops_when_told() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = crate::shutdown::channel();
        let server = tokio::spawn(async move {
            serve(listener, router(admin()), async move { shutdown.requested().await }).await;
        });
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        idle.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        trigger.request();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
