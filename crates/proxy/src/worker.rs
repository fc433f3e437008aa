//! The data plane's one thread: its listeners, and its end.
//!
//! A `LocalRuntime`, so that tasks share state by `Rc` and `Cell`. A work-stealing runtime would need locks there, and
//! measured half the requests a second in another Rust proxy (api7/aisix#891).

use std::io;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use outrigger_api::config::Inbound;
use outrigger_api::profile as api;
use outrigger_runtime::readiness::{Condition, Readiness};
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use crate::access_log::{AccessLog, Dropped};
use crate::limits::Limits;
use crate::listener::{self, Listener, Port};
use crate::metrics::Ports;
use crate::proxy::ProxyError;
use crate::reload::Change;

pub(crate) struct Worker {
    pub(crate) app: Vec<IpAddr>,
    pub(crate) limits: Limits,
    pub(crate) ports: Ports,
    /// Clients' connections.
    pub(crate) served: Drain,
    pub(crate) leaving: Arc<AtomicBool>,
    /// Counts what the access log loses.
    pub(crate) dropped: Arc<Dropped>,
}

/// What one run works on.
struct Serving<'a> {
    worker: &'a Worker,
    listeners: Vec<Rc<Listener>>,
    served: Drain,
    turned_away: Drain,
    access_log: Rc<AccessLog>,
}

impl Worker {
    /// Serves on this thread until the shutdown, then drains. Returns how many connections had to be cut.
    pub(crate) fn run(
        &self,
        first: Change,
        mut changes: UnboundedReceiver<Change>,
        shutdown: &Shutdown,
        readiness: &Readiness,
        listening: &Condition,
    ) -> Result<usize, ProxyError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(ProxyError::start("worker"))?;
        let access_log = Rc::new(AccessLog::new(Arc::clone(&self.dropped)));
        let mut serving = Serving {
            worker: self,
            listeners: Vec::new(),
            served: self.served.clone(),
            turned_away: Drain::default(),
            access_log: Rc::clone(&access_log),
        };
        let cut = runtime.block_on(async {
            serving.apply(first).map_err(ProxyError::start("listener"))?;
            listening.set(true);
            tracing::info!(ports = serving.listeners.len(), app = ?self.app, "proxy started");
            loop {
                tokio::select! {
                    () = shutdown.requested() => break,
                    Some(change) = changes.recv() => {
                        if let Err(error) = serving.apply(change) {
                            tracing::error!(%error, "failed to serve a new port");
                        }
                    }
                }
            }
            readiness.drain();
            for listener in &serving.listeners {
                listener.stop();
            }
            Ok(serving.drained().await)
        });
        // What is cut is logged too.
        drop(runtime);
        access_log.close();
        cut
    }
}

impl Serving<'_> {
    /// Serves these ports and no others. What stays the same is not touched.
    fn apply(&mut self, change: Change) -> io::Result<()> {
        let Change { inbound: wanted, mut sockets, access_log } = change;
        self.access_log.switch(access_log == api::AccessLog::Json);
        let (kept, given_up): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(|listener| {
            wanted.iter().any(|inbound| inbound.listen == listener.port().inbound.listen)
        });
        self.listeners = kept;
        for listener in given_up {
            listener.close();
        }
        for inbound in wanted {
            let same = |listener: &&Rc<Listener>| listener.port().inbound.listen == inbound.listen;
            if let Some(listener) = self.listeners.iter().find(same) {
                if listener.port().inbound != inbound {
                    listener.replace(self.port(inbound));
                }
            } else if let Some(at) = sockets.iter().position(|(listen, _)| *listen == inbound.listen) {
                self.listen(self.port(inbound), sockets.swap_remove(at).1)?;
            }
        }
        Ok(())
    }

    fn port(&self, inbound: Inbound) -> Port {
        let metrics = self.worker.ports.named(&inbound.name, inbound.protocol.may_be_http());
        let (access_log, leaving) = (Rc::clone(&self.access_log), Arc::clone(&self.worker.leaving));
        Port::new(inbound, &self.worker.app, metrics, self.worker.limits, access_log, leaving)
    }

    fn listen(&mut self, port: Port, socket: TcpListener) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let listener = Rc::new(Listener::new(port));
        let accept =
            listener::accept(socket, Rc::clone(&listener), self.served.clone(), self.turned_away.clone());
        tokio::task::spawn_local(accept);
        self.listeners.push(listener);
        Ok(())
    }

    /// Waits until nothing has been in flight for a while, but no longer than the drain may take.
    ///
    /// The ports stay open meanwhile: a plain sidecar is told to stop while other nodes still send, and refusing them
    /// would cost requests (istio#7665). New connections get one answer, with `Connection: close`. A native sidecar is
    /// told after the app has gone; then nothing comes, and this takes [`Limits::quiet`].
    async fn drained(&self) -> usize {
        let deadline = Instant::now() + self.worker.limits.drain;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let left = self.served.drained(rest).await;
            if left > 0 {
                tracing::warn!(connections = left, "drain took too long: cutting what is left");
                return left;
            }
            if timeout(self.worker.limits.quiet, self.served.started()).await.is_err() {
                return 0;
            }
        }
    }
}
