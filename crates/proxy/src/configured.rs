//! What the config names of redirected connections: ports of the app, and upstreams.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use outrigger_api::config::{Protocol, SidecarConfig, Upstream};

use crate::circuit::Circuit;
use crate::labels::{Direction, Labels};
use crate::metrics::{PortMetrics, Ports};
use crate::port::{Gate, Port, Shared, Spec};
use crate::target::{Name, Target};

/// Most circuit breakers of one upstream that are remembered, beyond those that are open or in use.
const MOST_CIRCUITS: usize = 512;

/// A port of the app or an upstream, with what must not go when one of its addresses is forgotten: its limits and budgets, which are one for all
/// addresses, and its circuit breakers. It lives as long as its entry in the config stays as it is.
#[derive(Debug)]
pub(crate) struct Configured {
    spec: Spec,
    metrics: Arc<PortMetrics>,
    /// One for all addresses, but for the circuit breaker.
    gate: Gate,
    /// One for each address: of a headless Service each is a pod, and one that fails must not keep calls from the others.
    circuits: RefCell<HashMap<SocketAddr, Rc<Circuit>>>,
    /// Of an upstream.
    name: Option<Rc<Name>>,
}

/// All that the config has for one direction, in its order. What is `known` and stays the same is not made anew; names keep what DNS
/// said of them.
pub(crate) fn all(
    config: &SidecarConfig,
    direction: Direction,
    known: &[Rc<Configured>],
    ports: &Ports,
) -> Vec<Rc<Configured>> {
    let of = |spec: Spec| {
        let same = known.iter().find(|known| known.spec == spec);
        same.map_or_else(|| Rc::new(Configured::new(spec, known, ports)), Rc::clone)
    };
    match direction {
        Direction::Inbound => {
            let specs = config.inbound.iter().map(|inbound| Spec::Inbound(Box::new(inbound.clone())));
            specs.map(of).collect()
        }
        Direction::Outbound => {
            let specs = config.upstreams.iter().map(|upstream| Spec::Upstream(Box::new(upstream.clone())));
            specs.map(of).collect()
        }
    }
}

impl Configured {
    fn new(spec: Spec, known: &[Rc<Self>], ports: &Ports) -> Self {
        let (labels, name) = match &spec {
            Spec::Inbound(inbound) => (Labels::of_inbound(inbound), None),
            Spec::Upstream(upstream) => (Labels::of_upstream(upstream), Some(name(upstream, known))),
            Spec::Unknown => (Labels::of_other_inbound(), None),
        };
        let metrics = ports.of(&labels, spec.protocol() == Protocol::Http);
        let gate = Gate::without_circuit(&spec);
        Self { spec, metrics, gate, circuits: RefCell::default(), name }
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn name(&self) -> Option<&Rc<Name>> {
        self.name.as_ref()
    }

    /// Whether it is what connections to this address are for; of an upstream, as far as DNS has said so.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        match (&self.spec, &self.name) {
            (Spec::Inbound(inbound), _) => inbound.is_for(address.port()),
            (_, Some(name)) => name.port == address.port() && name.has(address.ip()),
            (_, None) => false,
        }
    }

    /// Whether it has no more addresses than the pod, or than DNS says.
    pub(crate) fn has_few_addresses(&self) -> bool {
        !matches!(&self.spec, Spec::Inbound(inbound) if inbound.is_for_rest())
    }

    /// The port for connections to this address.
    pub(crate) fn at(&self, address: SocketAddr, shared: &Shared) -> Port {
        let gate = Gate { circuit: self.circuit(address), ..self.gate.clone() };
        let (spec, metrics) = (self.spec.clone(), Arc::clone(&self.metrics));
        Port::new(spec, Target::Addresses(vec![address]), metrics, gate, shared)
    }

    fn circuit(&self, address: SocketAddr) -> Option<Rc<Circuit>> {
        let Spec::Upstream(upstream) = &self.spec else { return None };
        let mut circuits = self.circuits.borrow_mut();
        if let Some(known) = circuits.get(&address) {
            return Some(Rc::clone(known));
        }
        let circuit = Rc::new(Circuit::of(upstream, &self.metrics)?);
        if circuits.len() >= MOST_CIRCUITS {
            circuits.retain(|_, known| Rc::strong_count(known) > 1 || !known.is_closed());
        }
        circuits.insert(address, Rc::clone(&circuit));
        Some(circuit)
    }

    fn is_named(&self, host: &[u8]) -> bool {
        let Some(name) = &self.name else { return false };
        // The port is the one that the connection goes to.
        let host = host.split(|byte| *byte == b':').next().unwrap_or_default();
        let host = host.strip_suffix(b".").unwrap_or(host);
        name.host.trim_end_matches('.').as_bytes().eq_ignore_ascii_case(host)
    }
}

fn name(upstream: &Upstream, known: &[Rc<Configured>]) -> Rc<Name> {
    let mut names = known.iter().filter_map(|known| known.name());
    let same = names.find(|name| name.host == upstream.host && name.port == upstream.port);
    same.map_or_else(|| Rc::new(Name::new(&upstream.host, upstream.port)), Rc::clone)
}

/// Upstreams that requests may name on a connection to an address: that is nobody's, as far as is known, or not one's alone.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Each with its port for this address, made for the first request that names it: most connections see none.
    upstreams: Vec<(Rc<Configured>, OnceCell<Rc<Port>>)>,
    address: SocketAddr,
    shared: Shared,
}

impl Hosts {
    /// `first`: whose the address is where no other's host is named. `None` where there is no other.
    pub(crate) fn of(
        all: &[Rc<Configured>],
        address: SocketAddr,
        first: Option<&Configured>,
        shared: &Shared,
    ) -> Option<Self> {
        let may_be_named = |known: &&Rc<Configured>| match first {
            Some(first) => known.is_at(address) && !std::ptr::eq(Rc::as_ptr(known), first),
            None => known.name.as_ref().is_some_and(|name| name.port == address.port()),
        };
        let upstreams: Vec<_> =
            all.iter().filter(may_be_named).map(|known| (Rc::clone(known), OnceCell::new())).collect();
        (!upstreams.is_empty()).then(|| Self { upstreams, address, shared: shared.clone() })
    }

    /// Whether requests may name the same upstreams.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let (ours, others) = (&self.upstreams, &other.upstreams);
        ours.len() == others.len()
            && ours.iter().zip(others).all(|((one, _), (other, _))| Rc::ptr_eq(one, other))
    }

    /// The port for requests that name this host.
    pub(crate) fn port(&self, host: &[u8]) -> Option<Rc<Port>> {
        let (configured, port) = self.upstreams.iter().find(|(configured, _)| configured.is_named(host))?;
        Some(Rc::clone(port.get_or_init(|| Rc::new(configured.at(self.address, &self.shared)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_api::config::Inbound;

    fn configured(inbound: Inbound) -> Configured {
        Configured::new(Spec::Inbound(Box::new(inbound)), &[], &Ports::default())
    }

    #[test]
    fn a_port_of_the_app_is_found_by_its_number_and_every_other_by_none() {
        let one = configured(Inbound { target: 8080, ..Inbound::default() });
        let rest = configured(Inbound { target: 0, ..Inbound::default() });
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        assert!(one.is_at(at(8080)) && !one.is_at(at(8081)) && one.has_few_addresses());
        assert!(rest.is_at(at(8081)) && !rest.has_few_addresses());
    }
}
