//! Puts the parts together and lives until told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Api, Client};
use outrigger_inject::{Cluster, Settings};
use outrigger_runtime::admin::{self, Admin};
use outrigger_runtime::bind;
use outrigger_runtime::log::LogControl;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown::{self, Drain, Shutdown};
use rustls::crypto::SecureRandom;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::body::Bodies;
use crate::certificate::Policy;
use crate::decision::Decider;
use crate::events::Events;
use crate::known::Known;
use crate::lease::Candidate;
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::mutate::{self, Mutate};
use crate::nodes;
use crate::options::{Options, TlsMode};
use crate::overseer::Overseer;
use crate::provided::Provided;
use crate::registration::Registration;
use crate::rotation::Rotation;
use crate::secret::Store;
use crate::served::Served;
use crate::server::{Limits, Server, Stop};
use crate::watch;
use crate::x509::provider;

/// Version that the status annotation of injected pods gives.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long requests may go on after the last connection was accepted. With the delay before it, this stays within a
/// pod's default grace period of 30 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);

/// How long API servers are given to hear of a new caBundle; they mostly do within milliseconds.
const SETTLES: Duration = Duration::from_secs(10);
/// How often a replica that is to lead looks whether it is ready.
const READY_POLL: Duration = Duration::from_millis(200);

/// Why the webhook can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Someone else has the port, mostly.
    #[error("failed to listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// rustls does not know its own versions.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// A bug, whose panic is in the log.
    #[error("failed to go on: a watch or the certificate's rotation ended")]
    Background,
}

/// Runs until `shutdown`, then drains. Works through `client`, so that tests bring their own API server.
pub async fn run(
    options: Options,
    client: Client,
    log: LogControl,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let mut registry = outrigger_runtime::metrics::Metrics::new(VERSION);
    let metrics = Metrics::register(registry.own());
    let readiness = Readiness::default();
    let known = Known::new(&options.namespace, settings(&options));
    let served = Served::default();

    let mut background = JoinSet::new();
    background.spawn(certificate(&options, &client, &served, &readiness, &metrics, shutdown.clone()));
    watch_cluster(&mut background, &options, &client, &known, &readiness, &metrics);
    let events = Events::new(metrics.clone());
    let instance = options.pod_name.clone().unwrap_or_else(drawn_name);
    background.spawn(events.clone().publish(client.clone(), instance.clone()));
    let overseer = overseer(&options, &client, &known, &events, &metrics);
    let (leading, lead) = tokio::sync::watch::channel(false);
    background.spawn(overseer.run(lead));
    let leases = Api::namespaced(client.clone(), &options.namespace);
    let candidate = Candidate::new(leases, &options.lease, &instance);
    let mut candidacy = tokio::spawn(stand(candidate, leading, readiness.clone(), shutdown.clone()));

    let (admin_stop, admin_stopping) = shutdown::channel();
    let admin = admin::router(Admin { metrics: Arc::new(registry), readiness: readiness.clone(), log });
    let admin_listener = listen(options.admin_port)?;
    let admin = tokio::spawn(async move {
        admin::serve(admin_listener, admin, async move { admin_stopping.requested().await }).await;
    });

    let listener = listen(options.port)?;
    let lookup = Lookup::new(client, metrics.clone());
    let decider = decider(&options, known, lookup);
    let bodies = Bodies::default();
    let router = mutate::router(Mutate { decider, bodies, events, metrics: metrics.clone() });
    let (close, closing) = shutdown::channel();
    let open = Drain::default();
    let stop = Stop { draining: shutdown.clone(), closing };
    let tls = Arc::new(served.tls()?);
    let tls_port = Server { tls, router, stop, open: open.clone(), limits: Limits::default(), metrics };
    let accepting = tokio::spawn(tls_port.serve(listener));
    tracing::info!(port = options.port, admin_port = options.admin_port, "listening");

    tokio::select! {
        // First, because the rotation ends by it too.
        biased;
        () = shutdown.requested() => {}
        // They run for ever, so this is a panic. Without them we would look well and go stale.
        _ = background.join_next() => return Err(RunError::Background),
        _ = &mut candidacy => return Err(RunError::Background),
    }
    readiness.drain();
    tokio::time::sleep(options.shutdown_delay).await;
    close.request();
    let _ = accepting.await;
    let left = open.drained(DRAIN_DEADLINE).await;
    if left > 0 {
        tracing::warn!(left, "connections were still in a request at the deadline");
    }
    // It hands the Lease on.
    let _ = candidacy.await;
    admin_stop.request();
    let _ = admin.await;
    Ok(())
}

/// Keeps what admissions go by.
fn watch_cluster(
    background: &mut JoinSet<()>,
    options: &Options,
    client: &Client,
    known: &Known,
    readiness: &Readiness,
    metrics: &Metrics,
) {
    background.spawn(watch::namespaces(
        client.clone(),
        known.clone(),
        readiness.condition("namespaces"),
        metrics.clone(),
    ));
    background.spawn(watch::profiles(
        client.clone(),
        options.namespace.clone(),
        known.clone(),
        readiness.condition("profiles"),
        readiness.condition("customresourcedefinition sidecarprofiles.outrigger.dev"),
        metrics.clone(),
    ));
    let nodes = readiness.condition("nodes");
    background.spawn(nodes::oldest_node(client.clone(), known.clone(), nodes, metrics.clone()));
    let version = readiness.condition("version of the API server");
    background.spawn(nodes::server_version(client.clone(), known.clone(), version));
}

/// Stands for the Lease once it is ready: a leader that knows half of the profiles would find every pod outdated.
async fn stand(
    candidate: Candidate,
    leading: tokio::sync::watch::Sender<bool>,
    readiness: Readiness,
    stop: Shutdown,
) {
    while !readiness.missing().is_empty() && !stop.is_requested() {
        tokio::time::sleep(READY_POLL).await;
    }
    candidate.run(leading, stop).await;
}

fn overseer(
    options: &Options,
    client: &Client,
    known: &Known,
    events: &Events,
    metrics: &Metrics,
) -> Overseer {
    Overseer {
        client: client.clone(),
        known: known.clone(),
        configuration: options.webhook_configuration.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        interval: options.audit_interval,
        live_reload: options.live_reload,
    }
}

/// Keeps the certificate, ours or somebody else's.
fn certificate(
    options: &Options,
    client: &Client,
    served: &Served,
    readiness: &Readiness,
    metrics: &Metrics,
    stop: Shutdown,
) -> BoxFuture<'static, ()> {
    let secret = Store::new(client.clone(), &options.namespace, &options.secret);
    let registration = Registration {
        api: Api::all(client.clone()),
        name: options.webhook_configuration.clone(),
        server_name: format!("{}.{}.svc", options.service, options.namespace),
        served: served.clone(),
        accepted: readiness.condition("certificate"),
        metrics: metrics.clone(),
    };
    match options.tls_mode {
        TlsMode::SelfMade => {
            let name = registration.server_name.clone();
            let policy = Policy { name, lifetime: options.certificate_lifetime };
            Rotation { secret, registration, policy }.run(stop).boxed()
        }
        TlsMode::Secret => {
            let provided = Provided { secret, registration, settles: SETTLES };
            provided.run(client.clone(), options.namespace.clone(), stop).boxed()
        }
    }
}

/// For a process outside a pod: no two replicas may have the same name in the Lease.
fn drawn_name() -> String {
    let mut bytes = [0; 4];
    // Without randomness no token is drawn either, and each admission says so.
    let _ = random().fill(&mut bytes);
    format!("outrigger-webhook-{:08x}", u32::from_be_bytes(bytes))
}

fn random() -> &'static dyn SecureRandom {
    provider().secure_random
}

fn settings(options: &Options) -> Settings {
    Settings {
        sidecar_image: options.sidecar_image.clone(),
        image_pull_policy: options.image_pull_policy.clone(),
        version: VERSION.into(),
        // Unknown until the API server and the nodes tell; until then we are not ready.
        cluster: Cluster::default(),
    }
}

fn decider(options: &Options, known: Known, lookup: Lookup) -> Decider {
    Decider { known, lookup, release_namespace: options.namespace.clone(), random: random() }
}

fn listen(port: u16) -> Result<TcpListener, RunError> {
    bind::dual_stack(port).and_then(TcpListener::from_std).map_err(|source| RunError::Listen { port, source })
}
