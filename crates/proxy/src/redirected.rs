//! Connections that the kernel has sent here: each is served by where it was going.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use outrigger_api::config::{SidecarConfig, Upstream};
use outrigger_api::names::{INBOUND_PORT, OUTBOUND_PORT};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::TcpStream;

use crate::connect;
use crate::labels::{Direction, Labels};
use crate::listener::Listener;
use crate::metrics::Ports;
use crate::port::{Port, Shared, Spec};
use crate::reason::Reason;
use crate::serve;
use crate::target::{Name, Target};
use crate::tcp::Open;

/// Most destinations that are remembered. An app that calls more has connections to the others that are not used again.
const MOST: usize = 512;
/// A destination that nothing has been connected to for so long is forgotten, and looked up anew: another may have its address by
/// then.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Most ports of unknown upstreams that have series of their own.
const MOST_PORTS: usize = 32;
/// How long a connection waits for DNS to say whom it goes to. It is counted as one to nobody known where that takes longer.
const LOOKUP: Duration = Duration::from_secs(1);

/// All that comes to one of the two sockets.
#[derive(Debug)]
pub(crate) struct Redirected {
    direction: Direction,
    shared: Shared,
    ports: Ports,
    config: RefCell<Rc<SidecarConfig>>,
    /// Of the upstreams, in the config's order.
    names: RefCell<Vec<Rc<Name>>>,
    destinations: RefCell<HashMap<SocketAddr, Destination>>,
    /// Ports of unknown upstreams that have series.
    others: RefCell<BTreeSet<u16>>,
    unknown: OnceCell<Rc<Port>>,
    stopping: Cell<bool>,
}

#[derive(Debug)]
struct Destination {
    listener: Rc<Listener>,
    used: Instant,
}

impl Redirected {
    pub(crate) fn new(
        direction: Direction,
        config: Rc<SidecarConfig>,
        ports: &Ports,
        shared: &Shared,
    ) -> Self {
        Self {
            direction,
            shared: shared.clone(),
            ports: ports.clone(),
            names: RefCell::new(names(&config.upstreams, &[])),
            config: RefCell::new(config),
            destinations: RefCell::default(),
            others: RefCell::default(),
            unknown: OnceCell::new(),
            stopping: Cell::new(false),
        }
    }

    /// Serves one connection, by where it was going.
    pub(crate) async fn serve(&self, stream: TcpStream, client: IpAddr) {
        let Some(original) = self.original(&stream) else {
            let port = self.unknown();
            if port.may_warn(Reason::Loop) {
                tracing::warn!(%client, direction = self.direction.as_str(), reason = Reason::Loop.as_str(),
                    "refused a connection that was made to the proxy itself, or to an address that the pod does not have");
            }
            Open::count(&port.metrics).end(Reason::Loop);
            return connect::reset(&stream);
        };
        if self.direction == Direction::Outbound {
            Box::pin(self.look_up(original)).await;
        }
        let listener = self.listener(original);
        serve::serve(stream, client, &listener).await;
    }

    /// What stands for all that the config does not know.
    pub(crate) fn unknown(&self) -> Rc<Port> {
        let make = || {
            let labels = match self.direction {
                Direction::Inbound => Labels::of_other_inbound(),
                Direction::Outbound => Labels::of_other_outbound(None),
            };
            Rc::new(self.port(Spec::Unknown, &labels, Vec::new()))
        };
        Rc::clone(self.unknown.get_or_init(make))
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.destinations.borrow().values().for_each(|destination| destination.listener.stop());
    }

    /// Another config counts, for open connections too.
    pub(crate) fn replace(&self, config: &Rc<SidecarConfig>) {
        let names = names(&config.upstreams, &self.names.borrow());
        self.names.replace(names);
        self.config.replace(Rc::clone(config));
        for (original, destination) in &*self.destinations.borrow() {
            let (port, hosts) = self.ports_of(*original);
            if destination.listener.port().spec != port.spec {
                destination.listener.replace(port);
            }
            destination.listener.set_hosts(hosts);
        }
    }

    /// Where the connection was going. None where it was made to the proxy itself: to serve it would be to call oneself, for
    /// ever; and none where what came in was for an address that nobody outside can call the pod by. The rules see packets before the
    /// kernel has judged them: a neighbour could reach the app's loopback, or have the pod call others for it.
    fn original(&self, stream: &TcpStream) -> Option<SocketAddr> {
        let local = stream.local_addr().ok()?;
        let original = original_destination(stream, local).ok()?;
        let ours = [INBOUND_PORT, OUTBOUND_PORT].contains(&original.port());
        let to_us = original == canonical(local) || (ours && self.direction == Direction::Inbound);
        let misled = self.direction == Direction::Inbound && !is_own(original.ip());
        (!to_us && !misled).then_some(original)
    }

    /// Asks DNS about the upstreams that this may be a connection to, if none is known to be.
    async fn look_up(&self, original: SocketAddr) {
        if self.is_known(original) || self.upstream(original).is_some() {
            return;
        }
        let names: Vec<_> =
            self.names.borrow().iter().filter(|name| name.port == original.port()).map(Rc::clone).collect();
        let all = async {
            for name in names {
                if let Err(error) = name.refresh().await {
                    tracing::debug!(%error, host = name.host, "upstream not found");
                }
            }
        };
        let _ = tokio::time::timeout(LOOKUP, all).await;
    }

    fn is_known(&self, original: SocketAddr) -> bool {
        self.destinations.borrow().get(&original).is_some_and(Destination::is_remembered)
    }

    /// What serves connections to this address.
    fn listener(&self, original: SocketAddr) -> Rc<Listener> {
        if let Some(known) =
            self.destinations.borrow_mut().get_mut(&original).filter(|known| known.is_remembered())
        {
            known.used = Instant::now();
            return Rc::clone(&known.listener);
        }
        let (port, hosts) = self.ports_of(original);
        let listener = Listener::new(port);
        listener.set_hosts(hosts);
        if self.stopping.get() {
            listener.stop();
        }
        let listener = Rc::new(listener);
        let mut destinations = self.destinations.borrow_mut();
        destinations.retain(|_, known| known.is_remembered());
        if destinations.len() < MOST {
            let destination = Destination { listener: Rc::clone(&listener), used: Instant::now() };
            destinations.insert(original, destination);
        }
        listener
    }

    /// The port for connections to this address, and those for requests on them that name an upstream's host.
    fn ports_of(&self, original: SocketAddr) -> (Port, Vec<(String, Rc<Port>)>) {
        let to = || vec![original];
        if self.direction == Direction::Inbound {
            let config = self.config.borrow();
            let inbound = config.inbound.iter().find(|inbound| inbound.target == original.port());
            let (labels, spec) = match inbound {
                Some(inbound) => (Labels::of_inbound(inbound), Spec::Inbound(Box::new(inbound.clone()))),
                None => (Labels::of_other_inbound(), Spec::Unknown),
            };
            return (self.port(spec, &labels, to()), Vec::new());
        }
        let of = |upstream: &Upstream| {
            self.port(Spec::Upstream(Box::new(upstream.clone())), &Labels::of_upstream(upstream), to())
        };
        if let Some(upstream) = self.upstream(original) {
            return (of(&upstream), Vec::new());
        }
        let hosts = self
            .config
            .borrow()
            .upstreams
            .iter()
            .filter(|upstream| upstream.port == original.port())
            .map(|upstream| {
                let host = upstream.host.trim_end_matches('.').to_ascii_lowercase();
                (host, Rc::new(of(upstream)))
            })
            .collect();
        let labels = Labels::of_other_outbound(self.with_series(original.port()));
        (self.port(Spec::Unknown, &labels, to()), hosts)
    }

    /// The upstream that has this address, as far as DNS has said so.
    fn upstream(&self, original: SocketAddr) -> Option<Upstream> {
        let names = self.names.borrow();
        let at = names.iter().position(|name| name.port == original.port() && name.has(original.ip()))?;
        self.config.borrow().upstreams.get(at).cloned()
    }

    /// The port, if it may have series of its own.
    fn with_series(&self, port: u16) -> Option<u16> {
        let mut others = self.others.borrow_mut();
        if others.len() < MOST_PORTS {
            others.insert(port);
        }
        others.contains(&port).then_some(port)
    }

    fn port(&self, spec: Spec, labels: &Labels, addresses: Vec<SocketAddr>) -> Port {
        let http = spec.protocol() == outrigger_api::config::Protocol::Http;
        let metrics = self.ports.of(labels, http);
        Port::new(spec, Target::Addresses(addresses), metrics, &self.shared)
    }
}

/// Whether the pod has this address, and others can call it there. Asked of the kernel: `POD_IPS` lacks those of further networks.
fn is_own(address: IpAddr) -> bool {
    !address.is_loopback() && UdpSocket::bind((address, 0)).is_ok()
}

impl Destination {
    fn is_remembered(&self) -> bool {
        Rc::strong_count(&self.listener) > 1 || self.used.elapsed() < FORGOTTEN
    }
}

/// One for each upstream; those that are known keep what DNS said of them.
fn names(upstreams: &[Upstream], known: &[Rc<Name>]) -> Vec<Rc<Name>> {
    let of = |upstream: &Upstream| {
        let same = known.iter().find(|name| name.host == upstream.host && name.port == upstream.port);
        same.map_or_else(|| Rc::new(Name::new(&upstream.host, upstream.port)), Rc::clone)
    };
    upstreams.iter().map(of).collect()
}

/// What the connection was made to before a rule sent it here.
fn original_destination(stream: &TcpStream, local: SocketAddr) -> io::Result<SocketAddr> {
    if local.ip().to_canonical().is_ipv4() {
        Ok(ip_original_dst(stream)?.into())
    } else {
        Ok(ipv6_original_dst(stream).map(|address| canonical(address.into()))?)
    }
}

/// As IPv4 where it is that, and without what only tells interfaces apart.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
