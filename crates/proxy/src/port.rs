//! One port of the app, or one place that it calls, as the worker sees it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use outrigger_api::config::{Inbound, Protocol, Upstream};
use outrigger_api::tls::PlainHttp;

use crate::access_log::AccessLog;
use crate::answer::OwnAnswer;
use crate::headers::Edits;
use crate::host::LocalHost;
use crate::labels::Direction;
use crate::limits::Limits;
use crate::metrics::PortMetrics;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::request::Request;
use crate::routes::WorkersRoutes;
use crate::series::WorkersSeries;
use crate::target::Target;
use crate::tls::{self, Terminator, Terminators};

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
    terminators: Rc<RefCell<Terminators>>,
    /// The request header that tells the subject of a client's certificate.
    subject_header: Option<String>,
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
    /// What handshakes go by, of all ports. Apart from the ports, as a new certificate changes nothing else.
    pub(crate) terminators: Rc<RefCell<Terminators>>,
}

fn subject_header(spec: &Spec) -> Option<String> {
    let Spec::Inbound(Inbound { tls: Some(tls), .. }) = spec else { return None };
    tls.client_certificates.as_ref()?.subject_header.clone()
}

impl Port {
    pub(crate) fn new(spec: Spec, target: Target, metrics: Arc<PortMetrics>, shared: &Shared) -> Self {
        let outbound = metrics.labels.direction == Direction::Outbound;
        let limits = if outbound { shared.limits.outbound() } else { shared.limits };
        Self {
            local_host: LocalHost::of(&spec),
            subject_header: subject_header(&spec),
            terminators: Rc::clone(&shared.terminators),
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

    /// What handshakes go by now; `None` where there is no TLS.
    pub(crate) fn terminator(&self) -> Option<Arc<Terminator>> {
        let Spec::Inbound(inbound) = &self.spec else { return None };
        self.terminators.borrow().get(&tls::place(inbound)).map(Arc::clone)
    }

    /// What a client gets that speaks plain HTTP where TLS is spoken.
    pub(crate) fn refuses_plain(&self, request: &Request<'_>) -> Option<OwnAnswer> {
        let Spec::Inbound(Inbound { tls: Some(tls), .. }) = &self.spec else { return None };
        let redirect = match tls.plain_http {
            PlainHttp::Refuse => None,
            PlainHttp::Redirect => OwnAnswer::redirect(request),
        };
        Some(redirect.unwrap_or_else(|| OwnAnswer::of(Reason::PlainHttp, Direction::Inbound)))
    }

    /// What is done to the headers of a request by a client whose certificate has this subject; `None` where nothing is.
    pub(crate) fn request_edits(&self, subject: Option<&HeaderValue>) -> Option<Edits> {
        let name = self.subject_header.as_ref()?;
        let mut edits = Edits::default();
        match subject {
            Some(subject) => edits.set(name, subject.clone()),
            // Nobody else's word for it.
            None => edits.remove(name),
        }
        Some(edits)
    }

    /// Whether the pod is on its way out, so that clients should connect elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
