//! The admin server, on a thread of its own.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
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
use outrigger_runtime::metrics::Metrics;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::{self, Trigger};
use serde::Serialize;

use crate::collector::SyncCollector;
use crate::status::{Entry, Statuses};
use crate::worker::Order;

/// The token that opens `/stats`, which may change while we run.
pub type Token = Arc<Mutex<String>>;

/// What the admin server works on.
#[derive(Debug)]
pub struct Served {
    /// What it shows.
    pub statuses: Statuses,
    /// For the metrics.
    pub config_refused: Arc<AtomicBool>,
    /// Ready once every entry has content: what the app's start waits for.
    pub readiness: Readiness,
    /// Opens `/stats`; empty opens it to nobody.
    pub token: Token,
    /// For `PUT /log-level`.
    pub log: LogControl,
    /// The workers.
    pub workers: Vec<Sender<Order>>,
    /// Told when it is time to stop.
    pub stop: Sender<()>,
}

/// Serves on a thread of its own until SIGTERM. Signals are caught before the port is open: who can reach us can stop us.
pub fn spawn(port: u16, served: Served) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    let listener = runtime.block_on(async {
        shutdown::on_signal(trigger.clone())?;
        tokio::net::TcpListener::from_std(bind::dual_stack(port)?)
    })?;
    let serve = move || {
        runtime.block_on(async {
            let stop = served.stop.clone();
            admin::serve(listener, router(served, trigger), async { shutdown.requested().await }).await;
            let _ = stop.send(());
        });
    };
    std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
    Ok(())
}

fn router(served: Served, trigger: Trigger) -> Router {
    let Served { statuses, config_refused, readiness, token, log, workers, .. } = served;
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let collector = SyncCollector { statuses: statuses.clone(), config_refused };
    metrics.own().register_collector(Box::new(collector));
    let ours = Router::new()
        .route("/stats", get(stats))
        .route("/sync", post(sync))
        .route("/shutdown", post(stop_now))
        .with_state(Arc::new(Exposed { statuses, token, workers, trigger }));
    admin::router(Admin { metrics: Arc::new(metrics), readiness, log }).merge(ours)
}

/// `/stats`: one snapshot, as the proxy's.
#[derive(Debug, Serialize)]
struct Stats {
    /// Version of this document.
    version: u32,
    sync: Vec<Entry>,
}

struct Exposed {
    statuses: Statuses,
    token: Token,
    workers: Vec<Sender<Order>>,
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
    Ok(Json(Stats { version: 1, sync: exposed.statuses.all() }))
}

/// Asks every repository now, for who has pushed and does not want to wait. For loopback peers and holders of the token.
async fn sync(
    loopback: Result<Loopback, Forbidden>,
    State(exposed): State<Arc<Exposed>>,
    headers: HeaderMap,
) -> Result<(StatusCode, String), Unauthorized> {
    if loopback.is_err() {
        exposed.authorize(&headers)?;
    }
    for worker in &exposed.workers {
        // A worker that is gone has taken the process with it.
        let _ = worker.send(Order::Poll);
    }
    Ok((StatusCode::ACCEPTED, format!("asking {} repositories; see /stats\n", exposed.workers.len())))
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
