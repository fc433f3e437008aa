//! The data plane's one thread: its listeners, and its end.
//!
//! A `LocalRuntime`, so that tasks share state by `Rc` and `Cell`. A work-stealing runtime would need locks there, and
//! measured half the requests a second in another Rust proxy (api7/aisix#891).

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use outrigger_api::config::{Interception, Protocol, SidecarConfig};
use outrigger_api::names::{INBOUND_PORT, OUTBOUND_PORT};
use outrigger_api::profile as api;
use outrigger_runtime::readiness::{Condition, Readiness};
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use crate::access_log::{AccessLog, Dropped};
use crate::buffer;
use crate::labels::{Direction, Labels};
use crate::limits::Limits;
use crate::listener::{self, Behind, Listener, Open};
use crate::metrics::Ports;
use crate::own_time;
use crate::port::{Gate, Port, Shared, Spec};
use crate::proxy::ProxyError;
use crate::redirected::Redirected;
use crate::reload::Change;
use crate::sockets;
use crate::tap::Reader;
use crate::target::{Name, Target};

/// Polls between two looks at what has come, as long as there is something to do: about a millisecond of small requests. Measured with
/// those: by tokio's 61 a request costs 1 to 5 % more from 256 connections on; beyond 256 polls it makes no difference.
const POLLS: u32 = 256;

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
    /// Each with its port.
    open: Vec<(u16, Rc<Open>)>,
    served: Drain,
    turned_away: Drain,
    access_log: Rc<AccessLog>,
    shared: Shared,
}

impl Worker {
    /// Serves on this thread until the shutdown, then drains. Returns how many connections had to be cut.
    pub(crate) fn run(
        &self,
        first: Change,
        mut changes: UnboundedReceiver<Change>,
        mut readers: UnboundedReceiver<Reader>,
        shutdown: &Shutdown,
        readiness: &Readiness,
        listening: &Condition,
    ) -> Result<usize, ProxyError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_unpark(own_time::pause)
            .event_interval(POLLS)
            .build_local(LocalOptions::default())
            .map_err(ProxyError::start("worker"))?;
        buffer::bound(self.limits.buffers);
        let access_log = Rc::new(AccessLog::new(Arc::clone(&self.dropped)));
        let mut serving = Serving {
            worker: self,
            open: Vec::new(),
            served: self.served.clone(),
            turned_away: Drain::default(),
            access_log: Rc::clone(&access_log),
            shared: Shared {
                limits: self.limits,
                access_log: Rc::clone(&access_log),
                tap: Rc::default(),
                leaving: Arc::clone(&self.leaving),
                material: Rc::default(),
            },
        };
        let cut = runtime.block_on(async {
            serving.apply(first).map_err(ProxyError::start("listener"))?;
            listening.set(true);
            tracing::info!(ports = serving.open.len(), app = ?self.app, "proxy started");
            loop {
                tokio::select! {
                    () = shutdown.requested() => break,
                    Some(change) = changes.recv() => {
                        own_time::pause();
                        if let Err(error) = serving.apply(change) {
                            tracing::error!(%error, "failed to serve a new port");
                        }
                    }
                    Some(reader) = readers.recv() => serving.shared.tap.add(reader),
                }
            }
            readiness.drain();
            for (_, open) in &serving.open {
                open.behind.stop();
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
    /// Serves what this config asks for and nothing else. What stays the same is not touched.
    fn apply(&mut self, change: Change) -> io::Result<()> {
        let Change { config, mut sockets, material, access_log } = change;
        let config = Rc::new(config);
        self.shared.material.replace(material);
        self.access_log.switch(access_log == api::AccessLog::Json);
        self.shared.tap.allow(config.tap);
        let wanted = sockets::wanted(&config);
        let (kept, given_up): (Vec<_>, Vec<_>) =
            self.open.drain(..).partition(|(port, _)| wanted.iter().any(|wanted| wanted.port == *port));
        self.open = kept;
        for (_, open) in given_up {
            open.close();
        }
        for wanted in &wanted {
            if let Some((_, open)) = self.open.iter().find(|(port, _)| *port == wanted.port) {
                self.change(open, wanted.port, &config);
                continue;
            }
            // All before any is served, so that none is served that nobody could stop.
            let its = sockets.extract_if(.., |(port, _)| *port == wanted.port);
            let its: Vec<_> =
                its.map(|(_, socket)| TcpListener::from_std(socket)).collect::<Result<_, _>>()?;
            let open = Rc::new(Open::new(self.behind(wanted.port, &config)));
            for socket in its {
                let (served, turned_away) = (self.served.clone(), self.turned_away.clone());
                tokio::task::spawn_local(listener::accept(socket, Rc::clone(&open), served, turned_away));
            }
            self.open.push((wanted.port, open));
        }
        Ok(())
    }

    /// Lets what stands behind a socket go by another config.
    fn change(&self, open: &Open, listen: u16, config: &Rc<SidecarConfig>) {
        match &open.behind {
            Behind::Redirected(redirected) => redirected.replace(config),
            Behind::Port(listener) => {
                let spec = spec(listen, config);
                if listener.port().spec != spec {
                    listener.replace(self.port(spec));
                }
            }
        }
    }

    fn behind(&self, listen: u16, config: &Rc<SidecarConfig>) -> Behind {
        let direction = match listen {
            INBOUND_PORT => Direction::Inbound,
            OUTBOUND_PORT => Direction::Outbound,
            _ => return Behind::Port(Rc::new(Listener::new(self.port(spec(listen, config))))),
        };
        let redirected = Redirected::new(direction, config, &self.worker.ports, &self.shared);
        Behind::Redirected(Rc::new(redirected))
    }

    fn port(&self, spec: Spec) -> Port {
        let (labels, target) = match &spec {
            Spec::Inbound(inbound) => {
                let addresses = self.worker.app.iter().map(|address| (*address, inbound.target).into());
                (Labels::of_inbound(inbound), Target::Addresses(addresses.collect()))
            }
            Spec::Upstream(upstream) => {
                let name = Name::new(&upstream.host, upstream.port);
                (Labels::of_upstream(upstream), Target::Name(Rc::new(name)))
            }
            Spec::Unknown => (Labels::of_other_inbound(), Target::Addresses(Vec::new())),
        };
        let metrics = self.worker.ports.of(&labels, spec.protocol() == Protocol::Http);
        let gate = Gate::of(&spec, &metrics);
        Port::new(spec, target, metrics, gate, &self.shared)
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

/// What the config says of what listens on this port.
fn spec(listen: u16, config: &SidecarConfig) -> Spec {
    let inbound = config.inbound.iter().find(|inbound| inbound.listen == listen);
    let inbound = inbound.filter(|_| config.interception == Interception::Ports);
    let upstream = || config.upstreams.iter().find(|upstream| upstream.listen == Some(listen));
    match inbound {
        Some(inbound) => Spec::Inbound(Box::new(inbound.clone())),
        None => upstream().map_or(Spec::Unknown, |upstream| Spec::Upstream(Box::new(upstream.clone()))),
    }
}
