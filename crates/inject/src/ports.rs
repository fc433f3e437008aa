//! Which ports come to the proxy, and by which of its own.
//!
//! A Service whose `targetPort` is a name follows the container port of that name, in app containers and native
//! sidecars alike (from Kubernetes 1.33 on: kubernetes#128850). Moving the name from the app's port to the proxy's brings the traffic to the proxy with no
//! privilege and no change to the Service.

use std::collections::{BTreeSet, HashMap, HashSet};

use outrigger_api::Reason;
use outrigger_api::config::{Interception, Protocol};
use outrigger_api::names::{
    ADMIN_PORT, ADMIN_PORT_NAME, FIRST_LISTEN_PORT, INBOUND_PORT, LOGS_ADMIN_PORT, LOGS_ADMIN_PORT_NAME,
    OUTBOUND_PORT, PREFIX, SYNC_ADMIN_PORT, SYNC_ADMIN_PORT_NAME,
};
use outrigger_api::port::PortRef;
use outrigger_api::profile::{InboundSpec, ProtocolSpec};

use crate::outcome::{MovedPort, Refusal};
use crate::overrides::Effective;
use crate::pod::{Container, ContainerPort, Pod};

/// Containers of Linkerd, Istio, Kuma and Consul, which redirect a pod's traffic too.
pub(crate) const MESHES: [&str; 4] = ["linkerd-proxy", "istio-proxy", "kuma-sidecar", "consul-dataplane"];
/// Dapr's, which writes no rules; its ports are for itself alone, as the others'.
const DAPR: &str = "daprd";

/// The ports that come to the proxy, and what the user should know about the others.
pub(crate) struct Takeover {
    /// Those that are declared. With redirection they keep their names, and the proxy has one port for all.
    pub(crate) ports: Vec<MovedPort>,
    pub(crate) taken: Taken,
    pub(crate) warnings: Vec<String>,
}

/// Every port whose traffic comes to the proxy, declared or not.
pub(crate) enum Taken {
    These(HashSet<u16>),
    AllBut(HashSet<u16>),
}

impl Taken {
    pub(crate) fn contains(&self, port: u16) -> bool {
        match self {
            Self::These(ports) => ports.contains(&port),
            Self::AllBut(ports) => !ports.contains(&port),
        }
    }
}

impl Takeover {
    /// The ports whose name moves.
    pub(crate) fn moved(&self) -> &[MovedPort] {
        // A name leaves its port only for another one.
        let is_redirected = self.ports.first().is_some_and(|port| port.listen == INBOUND_PORT);
        if is_redirected { &[] } else { &self.ports }
    }

    /// Whether nothing comes to the proxy.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.taken, Taken::These(ports) if ports.is_empty())
    }
}

/// Refuses a pod that declares a port of ours.
pub(crate) fn refuse_ours(pod: Pod, effective: &Effective, mode: Interception) -> Result<(), Refusal> {
    let declared = declared(pod);
    match ours(effective, mode).into_iter().find(|(port, _)| declared.contains(port)) {
        None => Ok(()),
        Some((port, what)) => Err(collision(format!(
            "port {port} is {what} and a container of the pod declares it; use another"
        ))),
    }
}

/// The ports of ours, and what they are.
pub(crate) fn ours(effective: &Effective, mode: Interception) -> Vec<(u16, &'static str)> {
    let admin = [ADMIN_PORT].into_iter().chain(of_other_sidecars(effective));
    let mut ours: Vec<_> = admin.map(|port| (port, "the sidecar's admin port")).collect();
    if mode == Interception::Redirect {
        ours.push((INBOUND_PORT, "where the proxy takes what comes in"));
        ours.push((OUTBOUND_PORT, "where the proxy takes what goes out"));
    }
    ours
}

/// The admin ports of the sidecars beside the proxy.
pub(crate) fn of_other_sidecars(effective: &Effective) -> impl Iterator<Item = u16> {
    let has_logs = !effective.profile.logs.is_empty();
    let has_sync = !effective.profile.sync.is_empty();
    [(LOGS_ADMIN_PORT, has_logs), (SYNC_ADMIN_PORT, has_sync)]
        .into_iter()
        .filter_map(|(port, is_there)| is_there.then_some(port))
}

/// What the profile says of ports and holds for none, where that is no matter of taste: guards and limits that somebody relies
/// on, and ports that were to go past the proxy. An entry without rules only chooses, and profiles are for many pods.
pub(crate) fn without_effect(pod: Pod, effective: &Effective, mode: Interception) -> Vec<String> {
    let containers = || pod.containers().filter(|container| container.is_long_running());
    let is_declared = |wanted: &PortRef| {
        let mut ports = containers().flat_map(Container::tcp_ports);
        ports.any(|port| wanted.matches(port.name, port.number))
    };
    let is_none = |wanted: &PortRef| match wanted {
        PortRef::All => false,
        // With redirection a number stands for itself, declared or not.
        PortRef::Number(number) if mode == Interception::Redirect => {
            ours(effective, mode).iter().any(|(ours, _)| ours == number)
        }
        PortRef::Number(_) | PortRef::Name(_) => !is_declared(wanted),
    };
    let declared = || {
        let declared: Vec<_> = containers().flat_map(Container::tcp_ports).map(described).collect();
        if declared.is_empty() { "no TCP port".to_owned() } else { declared.join(", ") }
    };
    let mut warnings = Vec::new();
    for spec in effective.profile.inbound.iter().filter(|spec| is_none(&spec.port)) {
        let rules = rules(spec);
        if !rules.is_empty() {
            warnings.push(format!(
                "the profile's {} of port {} hold for no port of this pod, which declares {}: name one of these, by its name or number",
                rules.join(", "),
                spec.port,
                declared()
            ));
        }
    }
    // What the pod's own annotation says is told of with that.
    let by_pod = pod.annotation(&format!("{PREFIX}skip-inbound-ports")).is_some();
    let skipped = effective.profile.skip.inbound_ports.iter();
    for name in skipped.filter(|port| !by_pod && matches!(port, PortRef::Name(_)) && is_none(port)) {
        warnings.push(format!(
            "skip.inboundPorts has {name}, and this pod declares {}: nothing goes past the proxy by it",
            declared()
        ));
    }
    warnings
}

/// What an entry says beyond which ports come to the proxy and what they speak.
fn rules(spec: &InboundSpec) -> Vec<&'static str> {
    let said = [
        ("auth", spec.auth.is_some()),
        ("tls", spec.tls.is_some()),
        ("limits", !spec.limits.is_empty()),
        ("requestHeaders", !spec.request_headers.is_empty()),
        ("responseHeaders", !spec.response_headers.is_empty()),
        ("overrides", !spec.overrides.is_empty()),
    ];
    said.into_iter().filter_map(|(name, is_said)| is_said.then_some(name)).collect()
}

fn collision(message: String) -> Refusal {
    Refusal::rejected(Reason::PortCollision, message)
}

fn declared(pod: Pod) -> BTreeSet<u16> {
    pod.containers().flat_map(Container::tcp_ports).map(|port| port.number).collect()
}

/// The ports that listeners of the proxy may have, in their order.
pub(crate) fn free(pod: Pod) -> impl Iterator<Item = u16> {
    let declared = declared(pod);
    (FIRST_LISTEN_PORT..=u16::MAX).filter(move |port| !declared.contains(port))
}

/// Named-port take-over. `free`: the ports that the proxy may listen on.
pub(crate) fn plan(
    pod: Pod,
    effective: &Effective,
    free: &mut impl Iterator<Item = u16>,
) -> Result<Takeover, Refusal> {
    let has_logs = !effective.profile.logs.is_empty();
    let has_sync = !effective.profile.sync.is_empty();
    let carriers = carriers(pod);
    let mut takeover =
        Takeover { ports: Vec::new(), taken: Taken::These(HashSet::new()), warnings: Vec::new() };
    for container in pod.containers().filter(|container| container.is_long_running()) {
        if MESHES.contains(&container.name) || container.name == DAPR {
            takeover.warnings.push(of_another_mesh(container.name));
            continue;
        }
        for port in container.tcp_ports() {
            let of_ours = |name: &&str| {
                *name == ADMIN_PORT_NAME
                    || (has_logs && *name == LOGS_ADMIN_PORT_NAME)
                    || (has_sync && *name == SYNC_ADMIN_PORT_NAME)
            };
            if let Some(name) = port.name.filter(of_ours) {
                return Err(collision(format!(
                    "port name {name} of container {} is that of the sidecar's admin port; use another",
                    container.name
                )));
            }
            let Some(spec) = wanted(effective, port) else {
                continue;
            };
            let Some(name) = port.name else {
                takeover.warnings.push(unnamed(container.name, port.number));
                continue;
            };
            let carriers = &carriers[name];
            if carriers.len() > 1 {
                let other =
                    carriers.iter().find(|other| **other != container.name).unwrap_or(&container.name);
                takeover.warnings.push(shared(name, container.name, other));
                continue;
            }
            if let Some(host_port) = port.host_port {
                takeover
                    .warnings
                    .push(format!("hostPort {host_port} of port {name} reaches the app directly"));
            }
            takeover.ports.push(MovedPort {
                container: container.name.to_owned(),
                index: port.index,
                name: name.to_owned(),
                port: port.number,
                listen: free
                    .next()
                    .ok_or_else(|| collision("no port is left for the proxy to listen on".into()))?,
                protocol: resolve(spec, name),
            });
        }
    }
    takeover.taken = Taken::These(takeover.ports.iter().map(|port| port.port).collect());
    Ok(takeover)
}

/// The containers with a port of each name. Services follow the first, app containers before native sidecars; as one port at
/// most can give its name to the proxy, whose own place is before or behind the others, a name that two have would then lead
/// to another port than before.
fn carriers(pod: Pod<'_>) -> HashMap<&str, Vec<&str>> {
    let mut carriers: HashMap<_, Vec<_>> = HashMap::new();
    for container in pod.containers().filter(|container| container.is_long_running()) {
        for name in container.tcp_ports().filter_map(|port| port.name) {
            carriers.entry(name).or_default().push(container.name);
        }
    }
    carriers
}

/// The first entry that matches the port, unless it is to be left alone.
pub(crate) fn wanted<'a>(effective: &'a Effective, port: ContainerPort) -> Option<&'a InboundSpec> {
    let matches = |port_ref: &PortRef| port_ref.matches(port.name, port.number);
    if effective.profile.skip.inbound_ports.iter().any(matches) {
        return None;
    }
    effective.profile.inbound.iter().find(|spec| matches(&spec.port))
}

/// What the profile says of a port that is taken over.
pub(crate) fn spec_of<'a>(effective: &'a Effective, pod: Pod, port: &MovedPort) -> Option<&'a InboundSpec> {
    // Not by the name that it is counted by: of two ports with one name, the second has another.
    let container = pod.container(&port.container);
    let declared =
        container.into_iter().flat_map(Container::tcp_ports).find(|found| found.index == port.index);
    let name = declared.and_then(|declared| declared.name).unwrap_or(&port.name);
    effective.profile.inbound.iter().find(|spec| spec.port.matches(Some(name), port.port))
}

/// Why there is no port to take over: which are declared, and what was asked. A slip of the pen in a list of ports is
/// found only by who sees both beside each other.
pub(crate) fn why_none(pod: Pod, effective: &Effective, takeover: &Takeover) -> String {
    if !takeover.warnings.is_empty() {
        return takeover.warnings.join("; ");
    }
    let containers = pod.containers().filter(|container| container.is_long_running());
    let declared: Vec<_> = containers.flat_map(Container::tcp_ports).map(described).collect();
    if declared.is_empty() {
        return "the pod declares no TCP port; give the app's container one with a name (ports: [{name: http, \
                containerPort: 8080}])"
            .to_owned();
    }
    let list = |ports: &mut dyn Iterator<Item = &PortRef>| {
        let names: Vec<_> = ports.map(PortRef::to_string).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let selected = list(&mut effective.profile.inbound.iter().map(|spec| &spec.port));
    let mut why =
        format!("the pod declares {}; the profile and annotations select {selected}", declared.join(", "));
    let skipped = &effective.profile.skip.inbound_ports;
    if !skipped.is_empty() {
        why = format!("{why}, and skip {}", list(&mut skipped.iter()));
    }
    why
}

/// `http (8080)`, or the number alone.
fn described(port: ContainerPort) -> String {
    port.name.map_or_else(|| port.number.to_string(), |name| format!("{name} ({})", port.number))
}

/// By the port's name, as `appProtocol`-less Services are read by Istio and others: `http`, `http-web`.
pub(crate) fn resolve(spec: &InboundSpec, name: &str) -> Protocol {
    let is = |protocol: &str| name == protocol || name.starts_with(&format!("{protocol}-"));
    match spec.protocol {
        ProtocolSpec::Http => Protocol::Http,
        ProtocolSpec::Tcp => Protocol::Tcp,
        ProtocolSpec::Auto if is("http") => Protocol::Http,
        // What is in the TLS is seen only where it ends here.
        ProtocolSpec::Auto if is("https") && spec.tls.is_some() => Protocol::Http,
        ProtocolSpec::Auto => Protocol::Tcp,
    }
}

fn of_another_mesh(container: &str) -> String {
    format!(
        "container {container} is the proxy of another mesh: its ports are left alone. Two proxies in one pod see each other's \
         traffic; leave one out"
    )
}

fn unnamed(container: &str, number: u16) -> String {
    format!(
        "port {number} of container {container} stays outside the proxy: it has no name. Give it one (name: http) \
         and let the Service use it (targetPort: http)"
    )
}

fn shared(name: &str, container: &str, other: &str) -> String {
    format!(
        "port {name} of container {container} stays outside the proxy: container {other} has a port of that name too, and with \
         the name moved, Services would reach another port than now. Give one of the two another name"
    )
}
