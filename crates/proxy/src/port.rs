//! One port of the app, or one place that it calls, as the worker sees it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outrigger_api::config::{Inbound, Protocol, Upstream};

use crate::access_log::AccessLog;
use crate::host::LocalHost;
use crate::labels::Direction;
use crate::limits::Limits;
use crate::metrics::PortMetrics;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::routes::WorkersRoutes;
use crate::series::WorkersSeries;
use crate::target::Target;

/// Between two warnings with the same reason.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// Everything that a request needs is found here once, not looked up.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) target: Target,
    /// What the config says of it.
    pub(crate) spec: Spec,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<PortMetrics>,
    pub(crate) series: WorkersSeries,
    pub(crate) routes: WorkersRoutes,
    pub(crate) pool: Rc<Pool>,
    pub(crate) access_log: Rc<AccessLog>,
    /// What stands in the place of a `Host` that names a listener of ours.
    pub(crate) local_host: Option<LocalHost>,
    leaving: Arc<AtomicBool>,
    /// When each reason was last warned of.
    warned: [Cell<Option<Instant>>; Reason::ALL.len()],
}

/// What the config says of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// It was taken over.
    Inbound(Inbound),
    /// The app calls it.
    Upstream(Upstream),
    /// Nothing: redirection brings all that goes in and out.
    Unknown,
}

impl Spec {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Inbound(inbound) => inbound.protocol,
            Self::Upstream(upstream) => upstream.protocol,
            Self::Unknown => Protocol::Auto,
        }
    }
}

/// What the ports of a worker share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) access_log: Rc<AccessLog>,
    pub(crate) leaving: Arc<AtomicBool>,
}

impl Port {
    pub(crate) fn new(spec: Spec, target: Target, metrics: Arc<PortMetrics>, shared: &Shared) -> Self {
        let outbound = metrics.labels.direction == Direction::Outbound;
        let limits = if outbound { shared.limits.outbound() } else { shared.limits };
        Self {
            local_host: LocalHost::of(&spec),
            target,
            spec,
            limits,
            pool: Rc::new(Pool::new(&limits, &metrics)),
            routes: WorkersRoutes::new(&metrics.routes),
            metrics,
            series: WorkersSeries::default(),
            access_log: Rc::clone(&shared.access_log),
            // The app may call others until it ends.
            leaving: if outbound { Arc::default() } else { Arc::clone(&shared.leaving) },
            warned: Default::default(),
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.spec.protocol()
    }

    pub(crate) fn direction(&self) -> Direction {
        self.metrics.labels.direction
    }

    /// Whether a warning with this reason is due. One a minute is enough: an app that is down would otherwise fill the
    /// node's disk as fast as its callers try.
    pub(crate) fn may_warn(&self, reason: Reason) -> bool {
        let (warned, now) = (&self.warned[reason as usize], Instant::now());
        let due = warned.get().is_none_or(|last| now - last >= WARNING_PAUSE);
        if due {
            warned.set(Some(now));
        }
        due
    }

    /// Whether the pod is on its way out, so that clients should connect elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
