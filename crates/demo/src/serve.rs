//! The app.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use outrigger_runtime::{bind, shutdown};
use tokio::net::TcpListener;

use crate::health::{self, Health};
use crate::https;
use crate::log_file;
use crate::shop::{self, Shop};

/// Largest body that `/bytes/{n}` makes: what a 64 MiB pod can hold.
const MOST_BYTES: usize = 16 << 20;
/// Largest body that `/echo` takes.
const ECHO_LIMIT: usize = 16 << 20;

/// Serves the app.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Port for gRPC health checks. Default: none.
    #[arg(long)]
    grpc_port: Option<u16>,
    /// Port to serve the app over TLS too, with a certificate of its own making. Default: none.
    #[arg(long)]
    https_port: Option<u16>,
    /// Where `/shop` asks for products, reviews and prices, as `http://host:port`. Default: it shows none.
    #[arg(long, env = "API_URL")]
    api: Option<Uri>,
    /// Where `/shop` asks for payments. Default: it shows none.
    #[arg(long, env = "PAYMENTS_URL")]
    payments: Option<Uri>,
    /// Of 100 requests to its services, how many fail from the start. `PUT /fault` changes it.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100))]
    errors: u64,
    /// Writes a line for each request into this file, as apps do that nobody has told of stdout.
    #[arg(long)]
    log_file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let health = Health::default();
    if let Some(port) = args.grpc_port {
        tokio::spawn(health::serve_grpc(listen(port)?, health.clone()));
    }
    let app = app(health, Shop::new(args.api, args.payments, args.errors));
    let app = match args.log_file {
        Some(path) => log_file::logged(app, &path)?,
        None => app,
    };
    if let Some(port) = args.https_port {
        tokio::spawn(https::serve(listen(port)?, https::acceptor()?, app.clone()));
    }
    let listener = listen(args.port)?;
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger)?;
    eprintln!("listening on port {}", args.port);
    axum::serve(listener, app).with_graceful_shutdown(async move { stop.requested().await }).await?;
    Ok(())
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let socket = bind::dual_stack(port).with_context(|| format!("failed to listen on port {port}"))?;
    Ok(TcpListener::from_std(socket)?)
}

fn app(health: Health, shop: Shop) -> Router {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Router::new()
        .route("/", get(async || "Ahoy from the demo app.\n"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/status/{code}", get(status))
        .route("/slow", get(slow))
        .route("/bytes/{length}", get(bytes_of))
        .layer(DefaultBodyLimit::max(ECHO_LIMIT))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&count), count_one));
    // Outside of the count: a probe is no request, and asking for the count must not change it.
    let uncounted = Router::new()
        .route(
            "/count",
            get(async |State(count): State<Arc<AtomicU64>>| format!("{}\n", count.load(Relaxed))),
        )
        .with_state(count);
    counted.merge(uncounted).merge(health::routes(health)).merge(shop::routes(shop))
}

async fn count_one(State(count): State<Arc<AtomicU64>>, request: Request, next: Next) -> Response {
    count.fetch_add(1, Relaxed);
    next.run(request).await
}

async fn status(Path(code): Path<u16>) -> Result<(StatusCode, String), (StatusCode, &'static str)> {
    match StatusCode::from_u16(code) {
        Ok(status) if code >= 200 => Ok((status, format!("{status}\n"))),
        _ => Err((StatusCode::BAD_REQUEST, "a status is a number from 200 to 999\n")),
    }
}

#[derive(serde::Deserialize)]
struct Slow {
    #[serde(default)]
    ms: u64,
}

async fn slow(Query(Slow { ms }): Query<Slow>) -> String {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("that took {ms} ms\n")
}

async fn bytes_of(Path(length): Path<usize>) -> Result<Bytes, (StatusCode, String)> {
    if length > MOST_BYTES {
        return Err((StatusCode::BAD_REQUEST, format!("at most {MOST_BYTES} bytes\n")));
    }
    Ok(vec![b'o'; length].into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    async fn call(app: &Router, request: &str, body: &'static str) -> (u16, Bytes) {
        let (method, path) = request.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
        let response = TowerToHyperService::new(app.clone()).call(request).await.unwrap();
        let status = response.status().as_u16();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap())
    }

    #[tokio::test]
    async fn every_route_answers_and_probes_are_not_counted() {
        let app = app(Health::default(), Shop::default());
        assert_eq!(call(&app, "GET /", "").await.0, 200);
        assert_eq!(call(&app, "POST /echo", "abc").await, (200, "abc".into()));
        assert_eq!(call(&app, "GET /status/503", "").await.0, 503);
        assert_eq!(call(&app, "GET /status/7", "").await.0, 400);
        assert_eq!(call(&app, "GET /slow?ms=1", "").await.0, 200);
        assert_eq!(call(&app, "GET /bytes/1000", "").await.1.len(), 1000);
        assert_eq!(call(&app, "GET /healthz", "").await.0, 200);
        assert_eq!(call(&app, "PUT /healthz/down", "").await.0, 200);
        assert_eq!(call(&app, "GET /healthz", "").await.0, 503);
        assert_eq!(call(&app, "PUT /healthz/sideways", "").await.0, 400);
        assert_eq!(call(&app, "GET /count", "").await, (200, "6\n".into()));
    }
}
