//! The rules, as data.

use std::net::IpAddr;
use std::str::FromStr;

use outrigger_api::cidr::Cidr;
use outrigger_api::names::{ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT};

/// The table's name, in the family `inet`: for IPv4 and IPv6 alike.
pub const TABLE: &str = "outrigger";

/// TCP's port of DNS, which is left alone as UDP is: a proxy that is down must not take names away too.
const DNS: u16 = 53;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose connections are the proxy's own, and are left alone.
    pub proxy_uid: u32,
    /// Ports of the pod that go through the proxy.
    pub inbound: Inbound,
    /// Ports of the pod that do not. The proxy's admin port never does.
    pub skip_inbound_ports: Vec<u16>,
    /// Ports elsewhere that are called directly.
    pub skip_outbound_ports: Vec<u16>,
    /// Addresses that are called directly.
    pub skip_outbound_cidrs: Vec<Cidr>,
    /// Users whose calls are direct.
    pub skip_outbound_uids: Vec<u32>,
}

/// Which ports of the pod go through the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// All of them.
    #[default]
    All,
    /// These and no others.
    Only(Vec<u16>),
}

/// Why a text says no ports.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither all, none, nor a list of ports as 8080,8443")]
pub struct InboundError(String);

impl FromStr for Inbound {
    type Err = InboundError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Only(Vec::new())),
            _ => {
                let port = |port: &str| port.parse().ok().filter(|port| *port > 0);
                let ports: Option<Vec<u16>> = text.split(',').map(port).collect();
                ports.map(Self::Only).ok_or_else(|| InboundError(text.to_owned()))
            }
        }
    }
}

/// One base chain, and its rules in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// Where a chain sees packets. Only the first of a connection comes by: the kernel remembers what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What comes to the pod.
    Prerouting,
    /// What the pod's processes send.
    Output,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// All must hold.
    pub(crate) matches: Vec<Match>,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It came by loopback.
    FromLoopback,
    /// It leaves by loopback: to this pod itself.
    ToLoopback,
    Tcp,
    /// Of TCP; stands behind [`Match::Tcp`].
    Port(u16),
    User(u32),
    To(Cidr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes where it was going.
    LeaveAlone,
    /// It goes to this port of the pod.
    Redirect(u16),
}

impl Wanted {
    pub(crate) fn chains(&self) -> [Chain; 2] {
        [
            Chain { name: "inbound", hook: Hook::Prerouting, rules: self.inbound() },
            Chain { name: "outbound", hook: Hook::Output, rules: self.outbound() },
        ]
    }

    fn inbound(&self) -> Vec<Rule> {
        let mut rules = vec![leave_alone([Match::FromLoopback])];
        // Those of other sidecars are skipped where there are such: a port that passes for one of theirs would go past every rule.
        let ports = [ADMIN_PORT].iter().chain(&self.skip_inbound_ports);
        rules.extend(ports.map(|port| leave_alone([Match::Tcp, Match::Port(*port)])));
        let redirect =
            |matches: &[Match]| Rule { matches: matches.to_vec(), verdict: Verdict::Redirect(INBOUND_PORT) };
        match &self.inbound {
            Inbound::All => rules.push(redirect(&[Match::Tcp])),
            Inbound::Only(ports) => {
                rules.extend(ports.iter().map(|port| redirect(&[Match::Tcp, Match::Port(*port)])));
            }
        }
        rules
    }

    fn outbound(&self) -> Vec<Rule> {
        let mut rules = vec![leave_alone([Match::ToLoopback]), leave_alone([Match::User(self.proxy_uid)])];
        rules.push(leave_alone([Match::To(link_local())]));
        rules.extend(self.skip_outbound_uids.iter().map(|uid| leave_alone([Match::User(*uid)])));
        let ports = [DNS].iter().chain(&self.skip_outbound_ports);
        rules.extend(ports.map(|port| leave_alone([Match::Tcp, Match::Port(*port)])));
        rules.extend(self.skip_outbound_cidrs.iter().map(|range| leave_alone([Match::To(*range)])));
        rules.push(Rule { matches: vec![Match::Tcp], verdict: Verdict::Redirect(OUTBOUND_PORT) });
        rules
    }
}

/// Addresses of IPv6 that mean something on one interface only, of which the kernel tells the proxy nothing: it could not call them.
fn link_local() -> Cidr {
    "fe80::/10".parse().expect("a range of RFC 4291 section 2.4")
}

fn leave_alone<const N: usize>(matches: [Match; N]) -> Rule {
    Rule { matches: matches.to_vec(), verdict: Verdict::LeaveAlone }
}

/// The bytes of an address, as packets have them.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
