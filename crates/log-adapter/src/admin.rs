//! The admin server, on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::routing::get;
use axum::{Json, Router};
use outrigger_runtime::admin::{self, Admin};
use outrigger_runtime::bearer::bears;
use outrigger_runtime::log::LogControl;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown;
use serde::Serialize;

use crate::collector::LogsCollector;
use crate::metrics::{Metrics, SourceMetrics};
use crate::tail::Stop;

/// The token that opens `/stats`, which may change while we run.
pub type Token = Arc<Mutex<String>>;

/// What the admin server works on.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub listener: TcpListener,
    /// What it shows.
    pub metrics: Arc<Metrics>,
    /// Opens `/stats`; empty opens it to nobody.
    pub token: Token,
    /// For `PUT /log-level`.
    pub log: LogControl,
    /// Asked to stop at SIGTERM.
    pub stop: Arc<Stop>,
}

/// Serves on a thread of its own, and catches signals there, for as long as the process lives.
pub fn spawn(served: Served) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(serve(served));
    std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
    Ok(())
}

async fn serve(served: Served) {
    let Served { listener, metrics, token, log, stop } = served;
    let (trigger, shutdown) = shutdown::channel();
    let mut all = outrigger_runtime::metrics::Metrics::new(env!("CARGO_PKG_VERSION"));
    all.own().register_collector(Box::new(LogsCollector(Arc::clone(&metrics))));
    let readiness = Readiness::default();
    let admin = Admin { metrics: Arc::new(all), readiness: readiness.clone(), log };
    let stats = Router::new().route("/stats", get(stats)).with_state(Arc::new((metrics, token)));
    let caught = shutdown::on_signal(trigger).and_then(|()| tokio::net::TcpListener::from_std(listener));
    match caught {
        // The server goes on while the tailer drains: somebody may want to see why that takes long.
        Ok(listener) => {
            let answering = admin::serve(listener, admin::router(admin).merge(stats), std::future::pending());
            let stopping = async {
                shutdown.requested().await;
                readiness.drain();
                stop.request();
            };
            tokio::join!(answering, stopping);
        }
        Err(error) => {
            tracing::error!(%error, "failed to start the admin server");
            std::process::exit(1);
        }
    }
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

type Known = State<Arc<(Arc<Metrics>, Token)>>;

async fn stats(State(known): Known, headers: HeaderMap) -> Result<Json<Stats>, (StatusCode, &'static str)> {
    let (metrics, token) = &*known;
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    if !bears(given, &token.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Err((
            StatusCode::UNAUTHORIZED,
            "needs the token of the pod's outrigger.dev/config annotation\n",
        ));
    }
    Ok(Json(Stats {
        version: 1,
        logs: metrics.sources().iter().map(|source| source_stats(source)).collect(),
    }))
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
