//! The ports that the proxy has taken over.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outrigger_api::config::{Inbound, Protocol};
use outrigger_runtime::accept;
use outrigger_runtime::shutdown::{Drain, Shutdown};
use tokio::net::TcpListener;

use crate::connect;
use crate::inbound;
use crate::limits::Limits;
use crate::metrics::{PortMetrics, RequestCounters};
use crate::pool::Pool;

/// One port of the app, as the worker sees it. Everything that a request needs is found here once, not looked up.
#[derive(Debug)]
pub(crate) struct Port {
    /// Where the app listens, to be tried in this order.
    pub(crate) app: Vec<SocketAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<PortMetrics>,
    pub(crate) counters: RequestCounters,
    pub(crate) pool: Rc<Pool>,
    leaving: Arc<AtomicBool>,
}

impl Port {
    pub(crate) fn new(
        inbound: &Inbound,
        app: &[IpAddr],
        metrics: Arc<PortMetrics>,
        limits: Limits,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        Self {
            app: app.iter().map(|address| (*address, inbound.target).into()).collect(),
            protocol: inbound.protocol,
            limits,
            metrics,
            counters: RequestCounters::default(),
            pool: Rc::new(Pool::new(limits.pool_idle)),
            leaving,
        }
    }

    /// Whether the pod is on its way out, so that clients should connect elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// Accepts connections for ever; each gets a task of its own.
pub(crate) async fn accept(listener: TcpListener, port: Rc<Port>, shutdown: Shutdown, drain: Drain) {
    loop {
        let (stream, _) = accept::next(&listener).await;
        connect::prepare(&stream);
        let (port, shutdown, drain) = (Rc::clone(&port), shutdown.clone(), drain.clone());
        let in_flight = drain.start();
        tokio::task::spawn_local(async move {
            inbound::serve(stream, port, shutdown, &drain).await;
            drop(in_flight);
        });
    }
}
