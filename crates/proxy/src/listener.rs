//! The ports that the proxy has taken over.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outrigger_api::config::Inbound;
use outrigger_runtime::accept;
use outrigger_runtime::shutdown::{self, Drain, Shutdown, Trigger};
use tokio::net::TcpListener;

use crate::access_log::AccessLog;
use crate::connect;
use crate::crowded;
use crate::inbound;
use crate::limits::{Limits, TURNED_AWAY};
use crate::metrics::PortMetrics;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::routes::WorkersRoutes;
use crate::seat::Seats;
use crate::series::WorkersSeries;

/// Between two warnings with the same reason.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// One port of the app, as the worker sees it. Everything that a request needs is found here once, not looked up.
#[derive(Debug)]
pub(crate) struct Port {
    /// Where the app listens, to be tried in this order.
    pub(crate) app: Vec<SocketAddr>,
    /// What the config says of it.
    pub(crate) inbound: Inbound,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<PortMetrics>,
    pub(crate) series: WorkersSeries,
    pub(crate) routes: WorkersRoutes,
    pub(crate) pool: Rc<Pool>,
    pub(crate) access_log: Rc<AccessLog>,
    leaving: Arc<AtomicBool>,
    /// When each reason was last warned of.
    warned: [Cell<Option<Instant>>; Reason::ALL.len()],
}

impl Port {
    pub(crate) fn new(
        inbound: Inbound,
        app: &[IpAddr],
        metrics: Arc<PortMetrics>,
        limits: Limits,
        access_log: Rc<AccessLog>,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        Self {
            app: app.iter().map(|address| (*address, inbound.target).into()).collect(),
            inbound,
            limits,
            pool: Rc::new(Pool::new(limits.pool_idle, &metrics)),
            routes: WorkersRoutes::new(&metrics.routes),
            metrics,
            series: WorkersSeries::default(),
            access_log,
            leaving,
            warned: Default::default(),
        }
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

/// A socket that clients connect to, and the port that it stands for now. A changed config puts another in its place,
/// which counts for the next request, also on connections that are open.
#[derive(Debug)]
pub(crate) struct Listener {
    port: RefCell<Rc<Port>>,
    pub(crate) seats: Rc<Seats>,
    /// Streams under way by HTTP/2, on all its connections.
    pub(crate) streams: Cell<usize>,
    stopping: Cell<bool>,
    close: (Trigger, Shutdown),
}

impl Listener {
    pub(crate) fn new(port: Port) -> Self {
        Self {
            port: RefCell::new(Rc::new(port)),
            seats: Rc::default(),
            streams: Cell::new(0),
            stopping: Cell::new(false),
            close: shutdown::channel(),
        }
    }

    /// The port that it stands for now.
    pub(crate) fn port(&self) -> Rc<Port> {
        Rc::clone(&self.port.borrow())
    }

    pub(crate) fn replace(&self, port: Port) {
        self.port.replace(Rc::new(port));
    }

    /// Lets its connections end: those under way after their answer, new ones after one request.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.seats.stop();
    }

    /// As [`stop`](Self::stop), and takes no new ones.
    pub(crate) fn close(&self) {
        self.stop();
        self.close.0.request();
    }

    /// Whether connections are to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

/// Accepts connections until the listener is closed; each gets a task of its own, as long as `served` are not too many.
pub(crate) async fn accept(socket: TcpListener, listener: Rc<Listener>, served: Drain, turned_away: Drain) {
    loop {
        let (stream, client) = tokio::select! {
            // In this order: whoever has connected is served.
            biased;
            accepted = accept::next(&socket) => accepted,
            () = listener.close.1.requested() => return,
        };
        connect::prepare(&stream);
        let port = listener.port();
        if served.count() < port.limits.connections {
            let (listener, served) = (Rc::clone(&listener), served.clone());
            let in_flight = served.start();
            tokio::task::spawn_local(async move {
                inbound::serve(stream, client.ip(), &listener).await;
                drop(in_flight);
            });
            continue;
        }
        crowded::count(&port);
        if port.inbound.protocol.may_be_http() && turned_away.count() < TURNED_AWAY {
            let in_flight = turned_away.start();
            tokio::task::spawn_local(async move {
                crowded::turn_away(stream).await;
                drop(in_flight);
            });
        } else {
            connect::reset(&stream);
        }
    }
}
