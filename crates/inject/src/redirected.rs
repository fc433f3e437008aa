//! Redirection: the kernel brings the ports to the proxy, so all keep their names.

use std::collections::HashSet;

use outrigger_api::config::Protocol;
use outrigger_api::names::{ADMIN_PORT, INBOUND_PORT, LOGS_ADMIN_PORT, SYNC_ADMIN_PORT};
use outrigger_api::port::PortRef;
use outrigger_api::profile::{InboundSpec, ProtocolSpec};

use crate::outcome::MovedPort;
use crate::overrides::Effective;
use crate::pod::{Container, ContainerPort, Pod};
use crate::ports::{PROXIES_OF_OTHERS, Taken, Takeover, of_another_mesh, resolve, wanted};

/// What the rules are about, of what comes to the pod.
pub(crate) struct Redirected {
    /// The only ports that come to the proxy; none for all.
    pub(crate) only: Option<Vec<u16>>,
    /// Ports that do not.
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
        Redirected { only: (!all).then(|| numbers(&selected)), skipped: numbers(&skipped) }
    };
    let mut takeover = Takeover { ports: Vec::new(), taken: redirected.taken(), warnings: Vec::new() };
    let guards_all =
        |spec: &InboundSpec| spec.port == PortRef::All && (spec.auth.is_some() || spec.tls.is_some());
    if redirected.only.is_none() && effective.profile.inbound.iter().any(guards_all) {
        takeover.warnings.push(
            "the profile asks for auth or tls on every port: one that no container declares is open all the same".to_owned(),
        );
    }
    for container in containers() {
        if PROXIES_OF_OTHERS.contains(&container.name) {
            takeover.warnings.push(of_another_mesh(container.name));
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
    (takeover, redirected)
}

/// Two ports of one name are counted apart: the second by its number.
fn of_port(container: &str, port: ContainerPort, spec: &InboundSpec, known: &[MovedPort]) -> MovedPort {
    let name = port.name.filter(|name| known.iter().all(|known| known.name != *name));
    let protocol = match (spec.protocol, port.name) {
        (ProtocolSpec::Http, _) => Protocol::Http,
        (ProtocolSpec::Tcp, _) => Protocol::Tcp,
        (ProtocolSpec::Auto, Some(name)) => resolve(spec, name),
        (ProtocolSpec::Auto, None) => Protocol::Auto,
    };
    MovedPort {
        container: container.to_owned(),
        index: port.index,
        name: name.map_or_else(|| port.number.to_string(), str::to_owned),
        port: port.number,
        listen: INBOUND_PORT,
        protocol,
    }
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
        let ours = [ADMIN_PORT, LOGS_ADMIN_PORT, SYNC_ADMIN_PORT];
        let skipped: HashSet<_> = self.skipped.iter().copied().chain(ours).collect();
        match &self.only {
            Some(only) => Taken::These(only.iter().copied().filter(|port| !skipped.contains(port)).collect()),
            None => Taken::AllBut(skipped),
        }
    }
}
