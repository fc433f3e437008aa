//! The admin server, on a thread of its own.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::routing::{get, post};
use axum::{Json, Router};
use outrigger_runtime::admin::{self, Admin, Forbidden, Loopback};
use outrigger_runtime::bearer::bears;
use outrigger_runtime::bind;
use outrigger_runtime::log::LogControl;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::{self, Shutdown, Trigger};
use serde::Serialize;

use crate::collector::LogsCollector;
use crate::metrics::{Metrics, SourceMetrics};
use crate::tail::Stop;

/// The token that opens `/stats`, which may change while we run.
pub type Token = Arc<Mutex<String>>;

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

/// Serves on a thread of its own, for as long as the process lives. Signals are caught before the port is open: who can reach us can
/// stop us.
pub fn spawn(port: u16, served: Served) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    // Before anything is written: a first process without a handler would not even be told.
    let listener = runtime.block_on(async {
        shutdown::on_signal(trigger.clone())?;
        tokio::net::TcpListener::from_std(bind::dual_stack(port)?)
    })?;
    let serve = move || runtime.block_on(serve(served, listener, trigger, shutdown));
    std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
    Ok(())
}

async fn serve(served: Served, listener: tokio::net::TcpListener, trigger: Trigger, shutdown: Shutdown) {
    let Served { metrics, token, log, stop } = served;
    let mut all = outrigger_runtime::metrics::Metrics::new(env!("CARGO_PKG_VERSION"));
    all.own().register_collector(Box::new(LogsCollector(Arc::clone(&metrics))));
    let readiness = Readiness::default();
    let admin = Admin { metrics: Arc::new(all), readiness: readiness.clone(), log };
    let exposed = Exposed { metrics, token, trigger };
    let ours = Router::new()
        .route("/stats", get(stats))
        .route("/shutdown", post(stop_now))
        .with_state(Arc::new(exposed));
    // The server goes on while the tailer drains: somebody may want to see why that takes long.
    let answering = admin::serve(listener, admin::router(admin).merge(ours), std::future::pending());
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
    trigger: Trigger,
}

type Unauthorized = (StatusCode, &'static str);

impl Exposed {
    fn authorize(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        if bears(given, &self.token.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        Err((StatusCode::UNAUTHORIZED, "needs the token of the pod's outrigger.dev/config annotation\n"))
    }
}

async fn stats(State(exposed): State<Arc<Exposed>>, headers: HeaderMap) -> Result<Json<Stats>, Unauthorized> {
    exposed.authorize(&headers)?;
    let sources = exposed.metrics.sources();
    Ok(Json(Stats { version: 1, logs: sources.iter().map(|source| source_stats(source)).collect() }))
}

/// For loopback peers and holders of the token, as the proxy's: who ends the sidecars of a Job ends this one too.
async fn stop_now(
    loopback: Result<Loopback, Forbidden>,
    State(exposed): State<Arc<Exposed>>,
    headers: HeaderMap,
) -> Result<&'static str, Unauthorized> {
    if loopback.is_err() {
        exposed.authorize(&headers)?;
    }
    tracing::info!("stopping: asked by POST /shutdown");
    exposed.trigger.request();
    Ok("stopping\n")
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
