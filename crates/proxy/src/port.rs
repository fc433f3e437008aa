//! One port of the app, or one place that it calls, as the worker sees it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use outrigger_api::config::{Inbound, Protocol, Upstream};

use crate::access_log::AccessLog;
use crate::auth::{Auth, Keys};
use crate::circuit::Circuit;
use crate::headers::Edits;
use crate::host::LocalHost;
use crate::labels::Direction;
use crate::limits::Limits;
use crate::metrics::PortMetrics;
use crate::overrides::{Answers, Rules};
use crate::page::Page;
use crate::policy::Guard;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::request::Request;
use crate::retry::Retries;
use crate::routes::WorkersRoutes;
use crate::secrets::{Material, Place, Placed};
use crate::series::WorkersSeries;
use crate::tap::Tap;
use crate::target::Target;
use crate::tls::{Offer, Originator, Terminator};

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
    pub(crate) tap: Rc<Tap>,
    /// What stands in the place of a `Host` that names a listener of ours.
    pub(crate) local_host: Option<LocalHost>,
    leaving: Arc<AtomicBool>,
    material: Rc<RefCell<Material>>,
    /// Which versions of HTTP clients may choose from by TLS.
    pub(crate) offer: Offer,
    /// Where Secrets are for it.
    place: Option<Place>,
    /// Whether the proxy speaks TLS to it.
    pub(crate) originates: bool,
    /// What credentials it asks for.
    pub(crate) auth: Option<Box<Auth>>,
    /// The request header that tells the subject of a client's certificate.
    subject_header: Option<String>,
    /// What the config does to the headers of each request.
    request_headers: Option<Edits>,
    /// Whether requests go on without their trailers: servers that put these among the headers would take a client's word for what is
    /// taken out of its headers.
    pub(crate) keeps_trailers_back: bool,
    /// What it does to answers.
    answers: Option<Box<Answers>>,
    /// What keeps requests from it.
    pub(crate) guard: Option<Rc<Guard>>,
    /// What keeps them from an upstream that fails.
    pub(crate) circuit: Option<Rc<Circuit>>,
    /// What has requests that failed sent to it once more.
    pub(crate) retries: Option<Rc<Retries>>,
    warned: Rc<Warned>,
}

/// When each reason was last warned of.
#[derive(Debug, Default)]
pub(crate) struct Warned([Cell<Option<Instant>>; Reason::ALL.len()]);

/// What keeps requests from a port, and when that was last told. Given to it, as it may outlive it, and be that of others too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    pub(crate) warned: Rc<Warned>,
    pub(crate) guard: Option<Rc<Guard>>,
    pub(crate) circuit: Option<Rc<Circuit>>,
    pub(crate) retries: Option<Rc<Retries>>,
}

impl Gate {
    pub(crate) fn of(spec: &Spec, metrics: &Arc<PortMetrics>) -> Self {
        let circuit = spec.upstream().and_then(|upstream| Circuit::of(upstream, metrics));
        Self { circuit: circuit.map(Rc::new), ..Self::without_circuit(spec) }
    }

    /// All but what each address has of its own.
    pub(crate) fn without_circuit(spec: &Spec) -> Self {
        let retries = spec.upstream().and_then(|upstream| upstream.retries.as_ref());
        Self {
            guard: Guard::of(spec).map(Rc::new),
            circuit: None,
            warned: Rc::default(),
            retries: retries.map(|retries| Rc::new(Retries::new(retries))),
        }
    }
}

/// What the config says of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// It was taken over.
    Inbound(Box<Inbound>),
    /// The app calls it.
    Upstream(Box<Upstream>),
    /// Nothing: redirection brings all that goes in and out.
    Unknown,
}

impl Spec {
    /// A port that was taken over.
    fn inbound(&self) -> Option<&Inbound> {
        match self {
            Self::Inbound(inbound) => Some(inbound),
            Self::Upstream(_) | Self::Unknown => None,
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Self::Inbound(inbound) => Some(inbound.place()),
            Self::Upstream(upstream) => Some(upstream.place()),
            Self::Unknown => None,
        }
    }

    fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Upstream(upstream) => Some(upstream),
            Self::Inbound(_) | Self::Unknown => None,
        }
    }

    /// The limits, with what this port has of its own.
    fn limits(&self, limits: Limits) -> Limits {
        match self {
            Self::Inbound(inbound) => limits.with(&inbound.timeouts),
            Self::Upstream(upstream) => limits.with(&upstream.timeouts),
            Self::Unknown => limits,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Inbound(inbound) => inbound.spoken(),
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
    pub(crate) tap: Rc<Tap>,
    pub(crate) leaving: Arc<AtomicBool>,
    /// What all ports make of Secrets. Apart from the ports, as a new certificate changes nothing else.
    pub(crate) material: Rc<RefCell<Material>>,
}

fn subject_header(spec: &Spec) -> Option<String> {
    spec.inbound()?.tls.as_ref()?.client_certificates.as_ref()?.subject_header.clone()
}

impl Port {
    pub(crate) fn new(
        spec: Spec,
        target: Target,
        metrics: Arc<PortMetrics>,
        gate: Gate,
        shared: &Shared,
    ) -> Self {
        let Gate { guard, circuit, retries, warned } = gate;
        let outbound = metrics.labels.direction == Direction::Outbound;
        let limits = spec.limits(if outbound { shared.limits.outbound() } else { shared.limits });
        let request_headers = spec.inbound().and_then(|inbound| Edits::of(&inbound.request_headers));
        let subject_header = subject_header(&spec);
        let auth = spec.inbound().and_then(|inbound| inbound.auth.as_ref());
        let auth = auth.map(|auth| Box::new(Auth::new(auth)));
        Self {
            local_host: LocalHost::of(&spec),
            keeps_trailers_back: auth.is_some() || subject_header.is_some() || request_headers.is_some(),
            subject_header,
            request_headers,
            guard,
            circuit,
            retries,
            answers: spec.inbound().and_then(Answers::of).map(Box::new),
            material: Rc::clone(&shared.material),
            offer: Offer::default(),
            place: spec.place(),
            originates: spec.upstream().is_some_and(|upstream| upstream.tls.is_some()),
            auth,
            target,
            spec,
            limits,
            pool: Rc::new(Pool::new(&limits, &metrics)),
            routes: WorkersRoutes::new(&metrics.routes),
            metrics,
            series: WorkersSeries::default(),
            access_log: Rc::clone(&shared.access_log),
            tap: Rc::clone(&shared.tap),
            // The app may call others until it ends.
            leaving: if outbound { Arc::default() } else { Arc::clone(&shared.leaving) },
            warned,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.spec.protocol()
    }

    pub(crate) fn direction(&self) -> Direction {
        self.metrics.labels.direction
    }

    /// Whether a warning with this reason is due. One a minute is enough, for all addresses of an upstream and for all that is nobody's: an app that is down would otherwise fill the
    /// node's disk as fast as its callers try.
    pub(crate) fn may_warn(&self, reason: Reason) -> bool {
        let (warned, now) = (&self.warned.0[reason as usize], Instant::now());
        let due = warned.get().is_none_or(|last| now - last >= WARNING_PAUSE);
        if due {
            warned.set(Some(now));
        }
        due
    }

    /// What handshakes go by now; `None` where there is no TLS.
    pub(crate) fn terminator(&self) -> Option<Arc<Terminator>> {
        self.material.borrow().terminators.get(self.place.as_ref()?).map(Arc::clone)
    }

    /// What credentials are judged by now.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.material.borrow().keys.get(self.place.as_ref()?).map(Arc::clone)
    }

    /// What handshakes with the upstream go by now; `None` where the proxy speaks to it plainly.
    pub(crate) fn originator(&self) -> Option<Arc<Originator>> {
        if !self.originates {
            return None;
        }
        self.material.borrow().originators.get(self.place.as_ref()?).map(Arc::clone)
    }

    /// The page that is answered in the upstream's place now; `None` where the config says what is.
    pub(crate) fn page(&self) -> Option<Arc<Page>> {
        self.material.borrow().pages.get(self.place.as_ref()?).map(Arc::clone)
    }

    /// What is done to the answer to this request; `None` where nothing is.
    pub(crate) fn answer_rules(&self, request: &Request<'_>, is_grpc: bool) -> Option<Rules> {
        self.answers.as_ref()?.to(request, is_grpc)
    }

    /// What is done to the headers of a request by a client whose certificate has this subject; `None` where nothing is.
    pub(crate) fn request_edits(&self, subject: Option<&HeaderValue>) -> Option<Cow<'_, Edits>> {
        let Some(name) = &self.subject_header else {
            return self.request_headers.as_ref().map(Cow::Borrowed);
        };
        let mut edits = self.request_headers.clone().unwrap_or_default();
        match subject {
            Some(subject) => edits.set(name, subject.clone()),
            // Nobody else's word for it.
            None => edits.remove(name),
        }
        Some(Cow::Owned(edits))
    }

    /// Whether the pod is on its way out, so that clients should connect elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
