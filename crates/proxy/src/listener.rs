//! The sockets that clients connect to.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use outrigger_runtime::accept;
use outrigger_runtime::shutdown::{self, Drain, Shutdown, Trigger};
use tokio::net::{TcpListener, TcpStream};

use crate::configured::Hosts;
use crate::connect;
use crate::crowded;
use crate::limits::TURNED_AWAY;
use crate::own_time;
use crate::port::Port;
use crate::reason::Reason;
use crate::redirected::Redirected;
use crate::seat::Seats;
use crate::serve;

/// What stands for one port at a time. A changed config puts another in its place, which counts for the next request, also on
/// connections that are open.
#[derive(Debug)]
pub(crate) struct Listener {
    port: RefCell<Rc<Port>>,
    /// Ports for requests that name the host of an upstream; of redirected calls only.
    hosts: RefCell<Option<Hosts>>,
    pub(crate) seats: Rc<Seats>,
    /// Streams under way by HTTP/2, on all its connections.
    pub(crate) streams: Cell<usize>,
    stopping: Cell<bool>,
}

impl Listener {
    pub(crate) fn new(port: Port) -> Self {
        Self {
            port: RefCell::new(Rc::new(port)),
            hosts: RefCell::default(),
            seats: Rc::default(),
            streams: Cell::new(0),
            stopping: Cell::new(false),
        }
    }

    /// The port that it stands for now.
    pub(crate) fn port(&self) -> Rc<Port> {
        Rc::clone(&self.port.borrow())
    }

    /// The port for a request that names this host.
    pub(crate) fn port_for<'a>(&self, host: impl FnOnce() -> Option<&'a [u8]>) -> Rc<Port> {
        let hosts = self.hosts.borrow();
        let named = hosts.as_ref().and_then(|hosts| hosts.port(host()?));
        named.unwrap_or_else(|| self.port())
    }

    pub(crate) fn replace(&self, port: Port) {
        self.port.replace(Rc::new(port));
    }

    /// Gives requests that name these hosts ports of their own. Those that are the same keep theirs, with its connections.
    pub(crate) fn set_hosts(&self, hosts: Option<Hosts>) {
        let is_same = match (&*self.hosts.borrow(), &hosts) {
            (Some(known), Some(hosts)) => known.is_as(hosts),
            _ => false,
        };
        if !is_same {
            self.hosts.replace(hosts);
        }
    }

    /// Lets its connections end: those under way after their answer, new ones after one request.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.seats.stop();
    }

    /// Whether connections are to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

/// What stands behind a socket.
#[derive(Clone, Debug)]
pub(crate) enum Behind {
    /// One port.
    Port(Rc<Listener>),
    /// One for each place that the kernel took connections from.
    Redirected(Rc<Redirected>),
}

impl Behind {
    /// The port that clients are counted for who are not served.
    fn port(&self) -> Rc<Port> {
        match self {
            Self::Port(listener) => listener.port(),
            Self::Redirected(redirected) => redirected.unknown(),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Port(listener) => listener.stop(),
            Self::Redirected(redirected) => redirected.stop(),
        }
    }
}

/// A socket that is served.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) behind: Behind,
    close: (Trigger, Shutdown),
}

impl Open {
    pub(crate) fn new(behind: Behind) -> Self {
        Self { behind, close: shutdown::channel() }
    }

    /// Lets its connections end, and takes no new ones.
    pub(crate) fn close(&self) {
        self.behind.stop();
        self.close.0.request();
    }
}

/// Accepts connections until the socket is closed; each gets a task of its own, as long as `served` are not too many.
pub(crate) async fn accept(socket: TcpListener, open: Rc<Open>, served: Drain, turned_away: Drain) {
    loop {
        let (stream, client) = tokio::select! {
            // In this order: whoever has connected is served.
            biased;
            accepted = accept::next(&socket) => accepted,
            () = open.close.1.requested() => return,
        };
        connect::prepare(&stream);
        // Many may come at once.
        own_time::pause();
        let port = open.behind.port();
        if served.count() < port.limits.connections {
            let in_flight = served.start();
            match open.behind.clone() {
                Behind::Port(listener) => {
                    tokio::task::spawn_local(serve::serve(stream, client.ip(), listener, in_flight))
                }
                Behind::Redirected(redirected) => {
                    tokio::task::spawn_local(redirected.serve(stream, client.ip(), in_flight))
                }
            };
            continue;
        }
        crowded::count(&port, Reason::TooManyConnections);
        turn_away(stream, &port, &turned_away);
    }
}

/// Not with an answer where nothing was asked yet, or where it could not be read.
fn turn_away(stream: TcpStream, port: &Rc<Port>, turned_away: &Drain) {
    if port.protocol() != outrigger_api::config::Protocol::Http || turned_away.count() >= TURNED_AWAY {
        return connect::reset(&stream);
    }
    let (in_flight, direction) = (turned_away.start(), port.direction());
    tokio::task::spawn_local(async move {
        crowded::turn_away(stream, direction).await;
        drop(in_flight);
    });
}
