//! The data plane's one thread: its listeners, and its end.
//!
//! A `LocalRuntime`, so that tasks share state by `Rc` and `Cell`. A work-stealing runtime would need locks there, and
//! measured half the requests a second in another Rust proxy (api7/aisix#891).

use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use outrigger_api::config::SidecarConfig;
use outrigger_runtime::readiness::{Condition, Readiness};
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::limits::Limits;
use crate::listener::{self, Port};
use crate::metrics::PortMetrics;
use crate::proxy::ProxyError;

pub(crate) struct Worker {
    app: Vec<IpAddr>,
    limits: Limits,
    shutdown: Shutdown,
    readiness: Readiness,
    leaving: Arc<AtomicBool>,
    drain: Drain,
}

impl Worker {
    pub(crate) fn new(
        app: Vec<IpAddr>,
        limits: Limits,
        shutdown: Shutdown,
        readiness: Readiness,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        Self { app, limits, shutdown, readiness, leaving, drain: Drain::default() }
    }

    /// Serves on this thread until the shutdown, then drains. Returns how many connections had to be cut.
    pub(crate) fn run(
        &self,
        config: &SidecarConfig,
        sockets: Vec<TcpListener>,
        ports: &[Arc<PortMetrics>],
        listening: &Condition,
    ) -> Result<usize, ProxyError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(ProxyError::start("worker"))?;
        runtime.block_on(async {
            let listeners = self.listen(config, sockets, ports)?;
            listening.set(true);
            tracing::info!(ports = listeners.len(), app = ?self.app, profile = config.profile, "proxy started");
            self.shutdown.requested().await;
            self.readiness.drain();
            let cut = self.drained().await;
            listeners.iter().for_each(JoinHandle::abort);
            Ok(cut)
        })
    }

    fn listen(
        &self,
        config: &SidecarConfig,
        sockets: Vec<TcpListener>,
        ports: &[Arc<PortMetrics>],
    ) -> Result<Vec<JoinHandle<()>>, ProxyError> {
        let mut listeners = Vec::new();
        let turned_away = Drain::default();
        for (inbound, socket) in config.inbound.iter().zip(sockets) {
            let listener =
                tokio::net::TcpListener::from_std(socket).map_err(ProxyError::start("listener"))?;
            let metrics = ports.iter().find(|port| port.name == inbound.name);
            let metrics = metrics.expect("every name in the config has its counters");
            let (metrics, leaving) = (Arc::clone(metrics), Arc::clone(&self.leaving));
            let port = Port::new(inbound, &self.app, metrics, self.limits, leaving);
            let (shutdown, served, turned_away) =
                (self.shutdown.clone(), self.drain.clone(), turned_away.clone());
            let accept = listener::accept(listener, Rc::new(port), shutdown, served, turned_away);
            listeners.push(tokio::task::spawn_local(accept));
        }
        Ok(listeners)
    }

    /// Waits until nothing has been in flight for a while, but no longer than the drain may take.
    ///
    /// The ports stay open meanwhile: a plain sidecar is told to stop while other nodes still send, and refusing them
    /// would cost requests (istio#7665). New connections get one answer, with `Connection: close`. A native sidecar is
    /// told after the app has gone; then nothing comes, and this takes [`Limits::quiet`].
    async fn drained(&self) -> usize {
        let deadline = Instant::now() + self.limits.drain;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let left = self.drain.drained(rest).await;
            if left > 0 {
                tracing::warn!(connections = left, "drain took too long: cutting what is left");
                return left;
            }
            if timeout(self.limits.quiet, self.drain.started()).await.is_err() {
                return 0;
            }
        }
    }
}
