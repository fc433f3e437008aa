//! Puts the parts together and lives until told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kube::Client;
use outrigger_runtime::admin::{self, Admin};
use outrigger_runtime::bind;
use outrigger_runtime::log::LogControl;
use outrigger_runtime::metrics;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::figures::STEP;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::shared::Shared;
use crate::{api, custom_metrics, poll, source};

/// Changes of pods that wait: each is up to some 10 kB. Beyond, the watch waits.
const WAITING: usize = 64;

/// Where the pods come from.
pub enum Source {
    /// A List of pods as JSON.
    File(PathBuf),
    /// The API server.
    Cluster(Client),
}

/// Why the collector can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Someone else has the port, mostly.
    #[error("failed to listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// A flag that can't be used.
    #[error("--custom-metrics-service {0:?} names no Service: it has the form NAMESPACE/NAME")]
    Service(String),
}

impl Options {
    /// Where custom metrics are served, and by which Service they are found.
    fn custom_metrics(&self) -> Result<Option<(u16, custom_metrics::Service)>, RunError> {
        let Some((port, text)) = self.custom_metrics_port.zip(self.custom_metrics_service.as_deref()) else {
            return Ok(None);
        };
        let service = custom_metrics::Service::parse(text);
        Ok(Some((port, service.ok_or_else(|| RunError::Service(text.to_owned()))?)))
    }
}

/// Runs until `shutdown`, on a runtime of one thread and within a `LocalSet`.
pub async fn run(
    options: Options,
    source: Source,
    log: LogControl,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let mut registry = metrics::Metrics::new(env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(registry.own());
    let readiness = Readiness::default();
    let synced = readiness.condition("pods");
    let listener = listen(options.listen)?;
    let admin_listener = options.admin_port.map(listen_everywhere).transpose()?;

    let shared = Shared::default();
    let (changes, told) = mpsc::channel(WAITING);
    let finding = match source {
        Source::File(path) => tokio::spawn(source::file(path, changes, synced)),
        Source::Cluster(client) => {
            if let Some((port, service)) = options.custom_metrics()? {
                let (listener, ready) = (listen_everywhere(port)?, readiness.condition("custom metrics"));
                let serving = custom_metrics::serve(listener, client.clone(), shared.clone(), service, ready);
                tokio::spawn(serving);
            }
            tokio::spawn(source::cluster(client, changes, synced))
        }
    };
    let polling = tokio::task::spawn_local(poll::run(told, shared.clone(), metrics.clone()));
    let stepping = tokio::spawn(step(shared.clone()));
    let admin = admin_listener.map(|listener| {
        let router = admin::router(Admin { metrics: Arc::new(registry), readiness, log });
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            admin::serve(listener, router, async move { shutdown.requested().await }).await;
        })
    });
    tracing::info!(address = %options.listen, "the dashboard is served");
    let router = api::router(shared, metrics, shutdown.clone(), options.listen);
    admin::serve(listener, router, async move { shutdown.requested().await }).await;
    for task in [finding, polling, stepping] {
        task.abort();
    }
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    Ok(())
}

/// The history goes on, whoever answers.
async fn step(shared: Shared) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.change(|mesh| mesh.step(Instant::now()));
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = bind::listen(address).and_then(TcpListener::from_std);
    listener.map_err(|error| RunError::Listen { address: address.to_string(), error })
}

fn listen_everywhere(port: u16) -> Result<TcpListener, RunError> {
    let listener = bind::dual_stack(port).and_then(TcpListener::from_std);
    listener.map_err(|error| RunError::Listen { address: format!("port {port}"), error })
}
