//! Redirection: the kernel brings the ports to the proxy, so all keep their names.

use std::collections::HashSet;

use outrigger_api::config::Protocol;
use outrigger_api::names::{ADMIN_PORT, INBOUND_PORT};
use outrigger_api::port::PortRef;
use outrigger_api::profile::{InboundSpec, ProtocolSpec};

use crate::outcome::MovedPort;
use crate::overrides::Effective;
use crate::pod::{Container, ContainerPort, Pod};
use crate::ports::{self, MESHES, Taken, Takeover, resolve, wanted};

/// The name by which the ports are counted that have none, and are not declared.
const EVERY_OTHER: &str = "_other";

/// What the rules are about, of what comes to the pod.
pub(crate) struct Redirected {
    /// The only ports that come to the proxy; none for all.
    pub(crate) only: Option<Vec<u16>>,
    /// Ports that do not, with the admin ports of sidecars beside the proxy.
    pub(crate) skipped: Vec<u16>,
}

pub(crate) fn plan(pod: Pod, effective: &Effective) -> (Takeover, Redirected) {
    let containers = || pod.containers().filter(|container| container.is_long_running());
    let declared: Vec<_> = containers().flat_map(Container::tcp_ports).collect();
    let selected: Vec<_> = effective.profile.inbound.iter().map(|spec| &spec.port).collect();
    let skipped: Vec<_> = effective.profile.skip.inbound_ports.iter().collect();
    let numbers = |refs: &[&PortRef]| {
        let mut numbers: Vec<_> = refs.iter().flat_map(|port| numbers(port, &declared)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let redirected = if skipped.contains(&&PortRef::All) {
        Redirected { only: Some(Vec::new()), skipped: Vec::new() }
    } else {
        let all = selected.contains(&&PortRef::All);
        let skipped = numbers(&skipped).into_iter().chain(ports::of_other_sidecars(effective));
        Redirected { only: (!all).then(|| numbers(&selected)), skipped: skipped.collect() }
    };
    let mut takeover = Takeover { ports: Vec::new(), taken: redirected.taken(), warnings: Vec::new() };
    if takeover.is_empty() && !selected.is_empty() && !skipped.contains(&&PortRef::All) {
        let why = ports::why_none(pod, effective, &takeover);
        takeover.warnings.push(format!("nothing that comes in passes the proxy: {why}"));
    }
    for container in containers() {
        if MESHES.contains(&container.name) {
            takeover.warnings.push(beside_another_mesh(container.name));
            continue;
        }
        for port in container.tcp_ports().filter(|port| takeover.taken.contains(port.number)) {
            let Some(spec) = wanted(effective, port) else { continue };
            if takeover.ports.iter().all(|known| known.port != port.number) {
                let found = of_port(container.name, port, spec, &takeover.ports);
                takeover.ports.push(found);
            }
        }
    }
    add_undeclared(&mut takeover, effective, redirected.only.is_none());
    (takeover, redirected)
}

/// What the profile says of ports that no container declares, which the kernel brings all the same: of single ones, and with `"*"` of all
/// the others. Without it the proxy would pass on what comes there as if nothing had been said.
fn add_undeclared(takeover: &mut Takeover, effective: &Effective, all: bool) {
    for spec in &effective.profile.inbound {
        let (name, port) = match spec.port {
            PortRef::Number(number) if takeover.taken.contains(number) => (number.to_string(), number),
            PortRef::All if all && *spec != InboundSpec::default() => (EVERY_OTHER.to_owned(), 0),
            PortRef::All => return,
            PortRef::Number(_) | PortRef::Name(_) => continue,
        };
        if takeover.ports.iter().all(|known| known.port != port) {
            let protocol = protocol(spec, None);
            let container = String::new();
            takeover.ports.push(MovedPort {
                container,
                index: 0,
                name,
                port,
                listen: INBOUND_PORT,
                protocol,
            });
        }
        if port == 0 {
            return;
        }
    }
}

/// Two ports of one name are counted apart: the second by its number.
fn of_port(container: &str, port: ContainerPort, spec: &InboundSpec, known: &[MovedPort]) -> MovedPort {
    let name = port.name.filter(|name| known.iter().all(|known| known.name != *name));
    MovedPort {
        container: container.to_owned(),
        index: port.index,
        name: name.map_or_else(|| port.number.to_string(), str::to_owned),
        port: port.number,
        listen: INBOUND_PORT,
        protocol: protocol(spec, port.name),
    }
}

fn protocol(spec: &InboundSpec, name: Option<&str>) -> Protocol {
    match (spec.protocol, name) {
        (ProtocolSpec::Http, _) => Protocol::Http,
        (ProtocolSpec::Tcp, _) => Protocol::Tcp,
        (ProtocolSpec::Auto, Some(name)) => resolve(spec, name),
        (ProtocolSpec::Auto, None) => Protocol::Auto,
    }
}

fn beside_another_mesh(container: &str) -> String {
    format!(
        "container {container} is the proxy of another mesh, and the rules bring its traffic to ours too: two proxies in one pod see each \
         other's traffic. Leave one out, or set interception: ports"
    )
}

/// A name stands for every declared port that has it, a number for itself, declared or not.
fn numbers(port: &PortRef, declared: &[ContainerPort]) -> Vec<u16> {
    match port {
        PortRef::All => Vec::new(),
        PortRef::Number(number) => vec![*number],
        PortRef::Name(_) => {
            let named = declared.iter().filter(|found| port.matches(found.name, found.number));
            named.map(|found| found.number).collect()
        }
    }
}

impl Redirected {
    fn taken(&self) -> Taken {
        let skipped: HashSet<_> = self.skipped.iter().copied().chain([ADMIN_PORT]).collect();
        match &self.only {
            Some(only) => Taken::These(only.iter().copied().filter(|port| !skipped.contains(port)).collect()),
            None => Taken::AllBut(skipped),
        }
    }
}
