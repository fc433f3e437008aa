//! A proxy from start to stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::profile::AccessLog;
use outrigger_runtime::admin::{self, Admin};
use outrigger_runtime::bind;
use outrigger_runtime::log::LogControl;
use outrigger_runtime::metrics::Metrics;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::{self, Drain, Shutdown, Trigger};
use tokio::sync::mpsc;

use crate::access_log::Dropped;
use crate::admin::Exposed;
use crate::app_metrics;
use crate::collector::ProxyCollector;
use crate::config::Loaded;
use crate::labels::Labels;
use crate::limits::Limits;
use crate::live::{ConfigCollector, Live};
use crate::metrics::Ports;
use crate::probe::{self, Prober};
use crate::reload::{Change, Watch};
use crate::secrets::{SecretError, Secrets};
use crate::sockets;
use crate::tap;
use crate::worker::Worker;

/// Why a proxy can't run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A port is taken, or not ours to take.
    #[error("failed to listen on port {port} for {purpose}: {error}")]
    Bind {
        /// The port.
        port: u16,
        /// `admin`, or the name of the port taken over, or of the upstream.
        purpose: String,
        /// Why.
        error: io::Error,
    },
    /// No thread, no event queue, or the like.
    #[error("failed to start {what}: {error}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A Secret does not hold what its port needs.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl ProxyError {
    /// For `map_err`.
    pub(crate) fn start(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Start { what, error }
    }
}

/// The sockets that a proxy serves, bound before anything runs, so that a port that is taken stops it at once.
#[derive(Debug)]
pub struct Sockets {
    /// The admin server's.
    pub admin: TcpListener,
    /// Those of the config, each with the port that it is for there. One port may have a socket for each family.
    pub served: Vec<(u16, TcpListener)>,
}

impl Sockets {
    /// Binds the ports that the config names.
    pub fn bind(config: &SidecarConfig, admin_port: u16) -> Result<Self, ProxyError> {
        let failed = |port, purpose: &str| {
            let purpose = purpose.to_owned();
            move |error| ProxyError::Bind { port, purpose, error }
        };
        let mut served = Vec::new();
        for wanted in sockets::wanted(config) {
            let bound = wanted.bind().map_err(failed(wanted.port, wanted.name))?;
            served.extend(bound.into_iter().map(|socket| (wanted.port, socket)));
        }
        let admin = bind::dual_stack(admin_port).map_err(failed(admin_port, "admin"))?;
        Ok(Self { admin, served })
    }
}

/// Everything that a proxy needs to run.
#[derive(Debug)]
pub struct Proxy {
    /// What to do. Its file is looked at again while the proxy runs.
    pub loaded: Loaded,
    /// Where to do it.
    pub sockets: Sockets,
    /// The app's addresses, to be tried in this order.
    pub app: Vec<IpAddr>,
    /// Where each Secret that the config names has a directory of its name.
    pub secrets: PathBuf,
    /// How long and how much.
    pub limits: Limits,
    /// For `PUT /log-level`.
    pub log: LogControl,
    /// Whether a changed config may change the log level. Not where a flag has set it.
    pub log_level_follows: bool,
    /// The access log, where a flag says it, whatever the config says.
    pub access_log: Option<AccessLog>,
    /// For `POST /shutdown`, and for signals.
    pub trigger: Trigger,
    /// What `trigger` triggers.
    pub shutdown: Shutdown,
    /// Whether SIGTERM and SIGINT pull the trigger. Not in tests: the process is not theirs.
    pub catch_signals: bool,
}

/// Runs the proxy until it is told to stop and has drained. Returns how many connections had to be cut.
///
/// The calling thread becomes the worker; the admin server gets a thread of its own, so that a scrape delays no request.
pub fn run(proxy: Proxy) -> Result<usize, ProxyError> {
    let config = &proxy.loaded.config;
    let access_log = proxy.access_log.unwrap_or(config.access_log);
    let secrets = Secrets::new(proxy.secrets).of(config)?;
    let served_secrets = secrets.served(config);
    let material = secrets.in_force();
    let first = Change { config: config.clone(), sockets: proxy.sockets.served, material, access_log };
    let (worker, changes) = mpsc::unbounded_channel();
    let (taps, readers) = tap::channel();

    let (ports, dropped, served) = (Ports::default(), Arc::<Dropped>::default(), Drain::default());
    // The first scrape may come before the worker has begun.
    for inbound in &config.inbound {
        ports.of(&Labels::of_inbound(inbound), inbound.spoken() == Protocol::Http);
    }
    for upstream in &config.upstreams {
        ports.of(&Labels::of_upstream(upstream), upstream.protocol == Protocol::Http);
    }
    let readiness = Readiness::default();
    let listening = readiness.condition("listeners");
    let leaving = Arc::new(AtomicBool::new(false));
    let live = Live::new(&proxy.loaded, served_secrets);
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    metrics.own().register_collector(Box::new(ProxyCollector {
        ports: ports.clone(),
        served: served.clone(),
        connections: proxy.limits.connections,
        dropped: Arc::clone(&dropped),
        taps: taps.clone(),
    }));
    metrics.own().register_collector(Box::new(ConfigCollector(live.clone())));
    let common = admin::router(Admin {
        metrics: Arc::new(metrics),
        readiness: readiness.clone(),
        log: proxy.log.clone(),
    });
    let own = crate::admin::router(Exposed {
        ports: ports.clone(),
        live: live.clone(),
        trigger: proxy.trigger.clone(),
        leaving: Arc::clone(&leaving),
        taps,
    });
    let app = proxy.app.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let of_app = app_metrics::router(live.clone(), app).merge(probe::router(Prober::new(live.clone(), app)));
    let routes = common.merge(admin::limited(own)).merge(of_app);
    let log = proxy.log_level_follows.then_some(proxy.log);
    let watch = Watch { log, access_log: proxy.access_log, live, secrets, worker };
    let signals = proxy.catch_signals.then_some(proxy.trigger);
    let (done, until_done) = shutdown::channel();
    let admin = start_admin(proxy.sockets.admin, routes, watch.run(proxy.loaded), signals, until_done)?;

    let worker = Worker { app: proxy.app, limits: proxy.limits, ports, served, leaving, dropped };
    let cut = worker.run(first, changes, readers, &proxy.shutdown, &readiness, &listening)?;

    done.request();
    // It panicked, or it stopped; either way there is nothing left to wait for.
    let _ = admin.join();
    tracing::info!(connections_cut = cut, "proxy stopped");
    Ok(cut)
}

/// The admin server, and what else is not to delay requests, on its own thread until `until` is requested: it must outlive the drain, whose end `/ready` and
/// `/metrics` tell about.
fn start_admin(
    socket: TcpListener,
    routes: axum::Router,
    watch: impl Future<Output = ()> + Send + 'static,
    signals: Option<Trigger>,
    until: Shutdown,
) -> Result<JoinHandle<()>, ProxyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProxyError::start("admin server"))?;
    let listener = {
        let _context = runtime.enter();
        if let Some(trigger) = signals {
            shutdown::on_signal(trigger).map_err(ProxyError::start("signal handler"))?;
        }
        tokio::net::TcpListener::from_std(socket).map_err(ProxyError::start("admin server"))?
    };
    let serve = move || {
        runtime.spawn(watch);
        runtime.block_on(admin::serve(listener, routes, async move { until.requested().await }));
        // A peer that is still connected must not hold up the end of the process.
        runtime.shutdown_timeout(Duration::ZERO);
    };
    let thread = thread::Builder::new().name("admin".to_owned());
    thread.spawn(serve).map_err(ProxyError::start("admin thread"))
}
