//! The admin server, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::header::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use outrigger_runtime::admin::{self, Admin};
use outrigger_runtime::bearer::{Token, Unauthorized};
use outrigger_runtime::log::LogControl;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::{Shutdown, Trigger};
use serde::Serialize;

use crate::collector::LogsCollector;
use crate::metrics::{Metrics, SourceMetrics};
use crate::tail::Stop;

/// What the admin server works on.
#[derive(Debug)]
pub struct Served {
    /// What it shows.
    pub metrics: Arc<Metrics>,
    /// Opens `/stats`; empty opens it to nobody.
    pub token: Token,
    /// For `PUT /log-level`.
    pub log: LogControl,
    /// Asked to stop at SIGTERM.
    pub stop: Arc<Stop>,
}

/// Serves on a thread of its own, for as long as the process lives.
pub fn spawn(port: u16, served: Served) -> io::Result<()> {
    admin::on_a_thread(port, |listener, trigger, shutdown| serve(served, listener, trigger, shutdown))
}

async fn serve(served: Served, listener: tokio::net::TcpListener, trigger: Trigger, shutdown: Shutdown) {
    let Served { metrics, token, log, stop } = served;
    let mut all = outrigger_runtime::metrics::Metrics::new(env!("CARGO_PKG_VERSION"));
    all.own().register_collector(Box::new(LogsCollector(Arc::clone(&metrics))));
    let readiness = Readiness::default();
    let admin = Admin { metrics: Arc::new(all), readiness: readiness.clone(), log };
    let exposed = Exposed { metrics, token: token.clone() };
    let ours = Router::new().route("/stats", get(stats)).with_state(Arc::new(exposed));
    let router = admin::router(admin).merge(ours).merge(admin::shutdown_route(token, trigger));
    // The server goes on while the tailer drains: somebody may want to see why that takes long.
    let answering = admin::serve(listener, router, std::future::pending());
    let stopping = async {
        shutdown.requested().await;
        readiness.drain();
        stop.request();
    };
    tokio::join!(answering, stopping);
}

/// `/stats`: one snapshot, as the proxy's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    /// Version of this document.
    version: u32,
    logs: Vec<SourceStats>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceStats {
    container: String,
    path: String,
    files: u64,
    lines: u64,
    read_bytes: u64,
    lag_bytes: u64,
    parse_errors: u64,
    truncated: u64,
    rotations: u64,
    lost_bytes: u64,
    unreadable_files: u64,
}

/// What our own routes work on.
struct Exposed {
    metrics: Arc<Metrics>,
    token: Token,
}

async fn stats(State(exposed): State<Arc<Exposed>>, headers: HeaderMap) -> Result<Json<Stats>, Unauthorized> {
    exposed.token.authorize(&headers)?;
    let sources = exposed.metrics.sources();
    Ok(Json(Stats { version: 1, logs: sources.iter().map(|source| source_stats(source)).collect() }))
}

fn source_stats(source: &SourceMetrics) -> SourceStats {
    SourceStats {
        container: source.container.clone(),
        path: source.path.clone(),
        files: source.files(),
        lines: source.lines.load(Relaxed),
        read_bytes: source.bytes.load(Relaxed),
        lag_bytes: source.lag(),
        parse_errors: source.parse_errors.load(Relaxed),
        truncated: source.truncated.load(Relaxed),
        rotations: source.rotations.load(Relaxed),
        lost_bytes: source.lost.load(Relaxed),
        unreadable_files: source.unreadable.load(Relaxed),
    }
}
