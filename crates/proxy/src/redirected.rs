//! Connections that the kernel has sent here: each is served by where it was going.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use outrigger_api::config::SidecarConfig;
use outrigger_api::names::{INBOUND_PORT, OUTBOUND_PORT};
use outrigger_runtime::shutdown::InFlight;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::configured::{self, Configured, Hosts};
use crate::connect;
use crate::labels::{Direction, Labels};
use crate::listener::Listener;
use crate::metrics::Ports;
use crate::own_calls;
use crate::port::{Gate, Port, Shared, Spec};
use crate::reason::Reason;
use crate::serve;
use crate::target::{Name, Target};
use crate::tcp::Open;

/// Most destinations that are remembered while nothing is connected to them, of those that the config does not name. An app that calls more
/// has connections to the others that are not used again.
const MOST: usize = 512;
/// A destination that nothing has been connected to for so long is forgotten, and looked up anew: another may have its address by
/// then.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Most ports of unknown upstreams that have series of their own.
const MOST_PORTS: usize = 32;
/// How long a connection waits for DNS to say whom it goes to. It is counted as one to nobody known where that takes longer.
const LOOKUP: Duration = Duration::from_secs(1);
/// Most questions to DNS at a time: each holds a thread until there is an answer.
const MOST_QUESTIONS: usize = 16;

/// All that comes to one of the two sockets.
#[derive(Debug)]
pub(crate) struct Redirected {
    direction: Direction,
    shared: Shared,
    ports: Ports,
    configured: RefCell<Vec<Rc<Configured>>>,
    destinations: RefCell<HashMap<SocketAddr, Destination>>,
    /// Ports of unknown upstreams that have series.
    others: RefCell<BTreeSet<u16>>,
    unknown: OnceCell<Rc<Port>>,
    /// When what the config does not know was last warned of: not each destination's, of which clients choose the number.
    gate: Gate,
    /// Names that DNS is being asked about, or will be in their turn.
    asked: RefCell<Vec<Rc<Name>>>,
    questions: Semaphore,
    answered: Notify,
    stopping: Cell<bool>,
}

#[derive(Debug)]
struct Destination {
    listener: Rc<Listener>,
    used: Instant,
    /// Whether it outlives its connections.
    stays: bool,
}

impl Redirected {
    pub(crate) fn new(direction: Direction, config: &SidecarConfig, ports: &Ports, shared: &Shared) -> Self {
        Self {
            direction,
            shared: shared.clone(),
            ports: ports.clone(),
            configured: RefCell::new(configured::all(config, direction, &[], ports)),
            destinations: RefCell::default(),
            others: RefCell::default(),
            unknown: OnceCell::new(),
            gate: Gate::default(),
            asked: RefCell::default(),
            questions: Semaphore::new(MOST_QUESTIONS),
            answered: Notify::new(),
            stopping: Cell::new(false),
        }
    }

    /// Serves one connection, by where it was going.
    pub(crate) fn serve(
        self: Rc<Self>,
        stream: TcpStream,
        client: IpAddr,
        in_flight: InFlight,
    ) -> impl Future<Output = ()> {
        // As in `serve::serve`: neither what is over when the first request comes is to take room in the task, nor arguments twice.
        let found = Box::pin(self.find(stream, client));
        async move {
            let Some((stream, listener)) = found.await else { return };
            serve::serve(stream, client, listener, in_flight).await;
        }
    }

    /// What serves a connection, by where it was going; `None` where nothing does, and it was refused.
    async fn find(self: Rc<Self>, stream: TcpStream, client: IpAddr) -> Option<(TcpStream, Rc<Listener>)> {
        let original = match self.original(&stream) {
            Ok(original) => original,
            Err(reason) => {
                self.refuse(&stream, client, reason);
                return None;
            }
        };
        if self.direction == Direction::Outbound {
            Box::pin(self.look_up(original)).await;
        }
        Some((stream, self.listener(original)))
    }

    fn refuse(&self, stream: &TcpStream, client: IpAddr, reason: Reason) {
        let port = self.unknown();
        if reason != Reason::ClientClosed && port.may_warn(reason) {
            let (direction, why) = (self.direction, reason.sentence(self.direction));
            tracing::warn!(%client, direction = direction.as_str(), reason = reason.as_str(), "connection refused: {why}");
        }
        Open::count(&port.metrics).end(reason);
        connect::reset(stream);
    }

    /// What stands for all that the config does not know.
    pub(crate) fn unknown(&self) -> Rc<Port> {
        let make = || {
            let labels = match self.direction {
                Direction::Inbound => Labels::of_other_inbound(),
                Direction::Outbound => Labels::of_other_outbound(None),
            };
            Rc::new(self.unknown_port(&labels, Vec::new()))
        };
        Rc::clone(self.unknown.get_or_init(make))
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.destinations.borrow().values().for_each(|destination| destination.listener.stop());
    }

    /// Another config counts, for open connections too.
    pub(crate) fn replace(&self, config: &SidecarConfig) {
        let configured = configured::all(config, self.direction, &self.configured.borrow(), &self.ports);
        self.configured.replace(configured);
        for (original, destination) in &*self.destinations.borrow() {
            let configured = self.configured_at(*original);
            let spec = configured.as_ref().map_or(&Spec::Unknown, |configured| configured.spec());
            if destination.listener.port().spec != *spec {
                destination.listener.replace(self.port(*original, configured.as_deref()));
            }
            destination.listener.set_hosts(self.hosts(*original, configured.as_deref()));
        }
    }

    /// Where the connection was going. None is served that was made to the proxy itself: that would be to call oneself, for
    /// ever; and none that came for an address that nobody outside can call the pod by. The rules see packets before the
    /// kernel has judged them: a neighbour could reach the app's loopback, or have the pod call others for it.
    fn original(&self, stream: &TcpStream) -> Result<SocketAddr, Reason> {
        let original =
            stream.local_addr().and_then(|local| Ok((original_destination(stream, local)?, local)));
        let (original, local) = original.map_err(|error| {
            tracing::debug!(%error, "original destination not known");
            // A client that has cut it off again, as port scanners do, is told by the kernel in the same way.
            let is_gone = stream.peer_addr().is_err();
            if is_gone { Reason::ClientClosed } else { Reason::UnknownDestination }
        })?;
        let inbound = self.direction == Direction::Inbound;
        let ours = [INBOUND_PORT, OUTBOUND_PORT].contains(&original.port());
        if original == canonical(local) || (ours && inbound) {
            return Err(Reason::Loop);
        }
        // Where the rules leave another user's calls alone than the one that this runs as.
        if !inbound && stream.peer_addr().is_ok_and(|client| own_calls::has(client, original)) {
            return Err(Reason::Loop);
        }
        if inbound && !is_own(original.ip()) {
            return Err(Reason::ForeignAddress);
        }
        Ok(original)
    }

    /// Asks DNS about the upstreams that this may be a connection to, where it has not just been asked. It is waited for only where nothing
    /// is known of the address; otherwise what it says counts for what comes next.
    async fn look_up(self: &Rc<Self>, original: SocketAddr) {
        let is_known = self.is_remembered(original) || self.configured_at(original).is_some();
        for configured in &*self.configured.borrow() {
            let is_due = |name: &&Rc<Name>| name.port == original.port() && name.is_due();
            let Some(name) = configured.name().filter(is_due) else { continue };
            // One question a name, whoever waits for it: while DNS is silent, each connection would add one for each.
            let is_asked = self.asked.borrow().iter().any(|asked| Rc::ptr_eq(asked, name));
            if !is_asked {
                self.asked.borrow_mut().push(Rc::clone(name));
                tokio::task::spawn_local(Rc::clone(self).ask(Rc::clone(name)));
            }
        }
        if !is_known {
            let answered = async {
                while self.configured_at(original).is_none() && self.is_asking(original.port()) {
                    self.answered.notified().await;
                }
            };
            let _ = tokio::time::timeout(LOOKUP, answered).await;
        }
    }

    async fn ask(self: Rc<Self>, name: Rc<Name>) {
        // Closed by nobody.
        let turn = self.questions.acquire().await;
        match name.refresh().await {
            Ok(false) => {}
            Ok(true) => self.judge_anew(name.port),
            Err(error) => tracing::debug!(%error, host = name.host, "upstream not found"),
        }
        drop(turn);
        self.asked.borrow_mut().retain(|asked| !Rc::ptr_eq(asked, &name));
        self.answered.notify_waiters();
    }

    fn is_asking(&self, port: u16) -> bool {
        self.asked.borrow().iter().any(|name| name.port == port)
    }

    /// Connections to addresses of which DNS says now whose they are become the upstream's, open ones too. An address that it says no longer stays
    /// whose it was until it is forgotten: names with many addresses are told with some of them at a time.
    fn judge_anew(&self, port: u16) {
        for (original, destination) in &*self.destinations.borrow() {
            let Some(configured) = self.configured_at(*original).filter(|_| original.port() == port) else {
                continue;
            };
            let is_another = destination.listener.port().spec != *configured.spec();
            if is_another {
                destination.listener.replace(self.port(*original, Some(&configured)));
            }
            let hosts = self.hosts(*original, Some(&configured));
            // As above: one of two that is not told of now stays.
            if is_another || hosts.is_some() {
                destination.listener.set_hosts(hosts);
            }
        }
    }

    fn is_remembered(&self, original: SocketAddr) -> bool {
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
        let configured = self.configured_at(original);
        let configured = configured.as_deref();
        let listener = Listener::new(self.port(original, configured));
        listener.set_hosts(self.hosts(original, configured));
        if self.stopping.get() {
            listener.stop();
        }
        let listener = Rc::new(listener);
        let mut destinations = self.destinations.borrow_mut();
        destinations.retain(|_, known| known.is_remembered());
        // The others are known as long as they have connections, of which there are so many at most: the end of the proxy and a changed
        // config are for these too.
        let staying = destinations.values().filter(|known| known.stays).count();
        let stays = staying < MOST || configured.is_some_and(Configured::has_few_addresses);
        let destination = Destination { listener: Rc::clone(&listener), used: Instant::now(), stays };
        destinations.insert(original, destination);
        listener
    }

    /// What the config has for connections to this address.
    fn configured_at(&self, original: SocketAddr) -> Option<Rc<Configured>> {
        self.configured.borrow().iter().find(|configured| configured.is_at(original)).map(Rc::clone)
    }

    /// The port for connections to this address.
    fn port(&self, original: SocketAddr, configured: Option<&Configured>) -> Port {
        if let Some(configured) = configured {
            return configured.at(original, &self.shared);
        }
        let labels = match self.direction {
            Direction::Inbound => Labels::of_other_inbound(),
            Direction::Outbound => Labels::of_other_outbound(self.with_series(original.port())),
        };
        self.unknown_port(&labels, vec![original])
    }

    /// Those for requests that name an upstream's host: on connections to an address that is nobody's, and to one that several have, as
    /// those behind one ingress.
    fn hosts(&self, original: SocketAddr, configured: Option<&Configured>) -> Option<Hosts> {
        let outbound = self.direction == Direction::Outbound;
        outbound.then(|| Hosts::of(&self.configured.borrow(), original, configured, &self.shared)).flatten()
    }

    /// The port, if it may have series of its own.
    fn with_series(&self, port: u16) -> Option<u16> {
        let mut others = self.others.borrow_mut();
        if others.len() < MOST_PORTS {
            others.insert(port);
        }
        others.contains(&port).then_some(port)
    }

    fn unknown_port(&self, labels: &Labels, addresses: Vec<SocketAddr>) -> Port {
        let metrics = self.ports.of(labels, false);
        Port::new(Spec::Unknown, Target::Addresses(addresses), metrics, self.gate.clone(), &self.shared)
    }
}

/// Whether the pod has this address, and others can call it there. Asked of the kernel: `POD_IPS` lacks those of further networks.
///
/// Of the addresses that a socket may have, those that mean no one host are left out. A call to `0.0.0.0` or `::` would even come
/// to the pod's loopback, and neighbours can send packets for these. The kernel knows which are for broadcasts: it connects no
/// socket to them that has not asked for that.
fn is_own(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return false;
    }
    // Any port does: nothing is sent.
    UdpSocket::bind((address, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

impl Destination {
    fn is_remembered(&self) -> bool {
        Rc::strong_count(&self.listener) > 1 || (self.stays && self.used.elapsed() < FORGOTTEN)
    }
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
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but loopback's passed: sockets may be bound to them. What an app opens on loopback only was open to neighbours by `0.0.0.0`.
    #[test]
    fn an_address_that_is_no_hosts_is_not_the_pods() {
        let loopback = ["127.0.0.1", "127.255.255.255", "::1"];
        let nobodys = ["0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1"];
        for address in loopback.into_iter().chain(nobodys) {
            let address = SocketAddr::new(address.parse().unwrap(), 8080);
            assert!(!is_own(canonical(address).ip()), "{address}");
        }
    }
}
