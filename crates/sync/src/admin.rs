//! The admin server, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use outrigger_runtime::admin::{self, Admin, Forbidden, Loopback};
use outrigger_runtime::bearer::{Token, Unauthorized};
use outrigger_runtime::log::LogControl;
use outrigger_runtime::metrics::Metrics;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::Trigger;
use serde::Serialize;

use crate::collector::SyncCollector;
use crate::status::{Entry, Statuses};
use crate::worker::Order;

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

/// Serves on a thread of its own until SIGTERM.
pub fn spawn(port: u16, served: Served) -> io::Result<()> {
    admin::on_a_thread(port, async |listener, trigger, shutdown| {
        let stop = served.stop.clone();
        admin::serve(listener, router(served, trigger), async { shutdown.requested().await }).await;
        let _ = stop.send(());
    })
}

fn router(served: Served, trigger: Trigger) -> Router {
    let Served { statuses, config_refused, readiness, token, log, workers, .. } = served;
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let collector = SyncCollector { statuses: statuses.clone(), config_refused };
    metrics.own().register_collector(Box::new(collector));
    let ours = Router::new()
        .route("/stats", get(stats))
        .route("/sync", post(sync))
        .route("/retry", post(retry))
        .with_state(Arc::new(Exposed { statuses, token: token.clone(), workers }));
    let all = admin::router(Admin { metrics: Arc::new(metrics), readiness, log });
    all.merge(ours).merge(admin::shutdown_route(token, trigger))
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
}

async fn stats(State(exposed): State<Arc<Exposed>>, headers: HeaderMap) -> Result<Json<Stats>, Unauthorized> {
    exposed.token.authorize(&headers)?;
    Ok(Json(Stats { version: 1, sync: exposed.statuses.all() }))
}

/// Asks every repository now, for who has pushed and does not want to wait. For loopback peers and holders of the token.
async fn sync(
    loopback: Result<Loopback, Forbidden>,
    State(exposed): State<Arc<Exposed>>,
    headers: HeaderMap,
) -> Result<(StatusCode, String), Unauthorized> {
    exposed.order(loopback, &headers, || Order::Poll)
}

/// The same, and takes versions that were bad as if they were new: what was wrong may have been something else.
async fn retry(
    loopback: Result<Loopback, Forbidden>,
    State(exposed): State<Arc<Exposed>>,
    headers: HeaderMap,
) -> Result<(StatusCode, String), Unauthorized> {
    exposed.order(loopback, &headers, || Order::Retry)
}

impl Exposed {
    fn order(
        &self,
        loopback: Result<Loopback, Forbidden>,
        headers: &HeaderMap,
        order: impl Fn() -> Order,
    ) -> Result<(StatusCode, String), Unauthorized> {
        if loopback.is_err() {
            self.token.authorize(headers)?;
        }
        for worker in &self.workers {
            // A worker that is gone has taken the process with it.
            let _ = worker.send(order());
        }
        Ok((StatusCode::ACCEPTED, format!("asking {} repositories; see /stats\n", self.workers.len())))
    }
}
