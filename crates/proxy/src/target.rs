//! Where connections lead to.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long the answer to a question of DNS is used. 5 s, as `CoreDNS` says of a cluster's own names by default: a Service that is
/// made anew is found by then.
const FRESH: Duration = Duration::from_secs(5);
/// How long it is not asked again where it had none: a name that is not there yet is to be found soon, and one that is wrong is not to
/// hold up each connection.
const FAILED: Duration = Duration::from_secs(1);

/// Where a port's connections lead to.
#[derive(Debug)]
pub(crate) enum Target {
    /// One of these, to be tried in their order.
    Addresses(Vec<SocketAddr>),
    /// One of those that DNS has for a name.
    Name(Rc<Name>),
}

impl Target {
    /// The addresses to be tried, in their order. Fails where a name has none and never had.
    pub(crate) async fn addresses(&self) -> io::Result<Cow<'_, [SocketAddr]>> {
        match self {
            Self::Addresses(addresses) => Ok(Cow::Borrowed(addresses)),
            Self::Name(name) => name.in_turn().await.map(Cow::Owned),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => f.debug_list().entries(addresses).finish(),
            Self::Name(name) => write!(f, "{}:{}", name.host, name.port),
        }
    }
}

/// A host and a port, with what DNS says of it.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) host: String,
    pub(crate) port: u16,
    known: RefCell<Vec<IpAddr>>,
    /// Until when DNS is not asked again.
    rests: Cell<Option<Instant>>,
    /// Held while it is asked: who comes meanwhile waits for the same answer.
    asking: Mutex<()>,
    turn: Cell<usize>,
}

impl Name {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            known: RefCell::new(host.parse().into_iter().collect()),
            rests: Cell::new(None),
            asking: Mutex::default(),
            turn: Cell::new(0),
        }
    }

    /// Whether DNS has said nothing so far.
    pub(crate) fn is_unknown(&self) -> bool {
        self.known.borrow().is_empty()
    }

    /// Whether the host has this address, as far as is known.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.known.borrow().contains(&address.to_canonical())
    }

    /// Whether DNS is to be asked before this is used, and has not been already.
    pub(crate) fn is_due(&self) -> bool {
        let rests = self.rests.get().is_some_and(|until| Instant::now() < until);
        !rests && self.host.parse::<IpAddr>().is_err()
    }

    /// Asks DNS, unless it has just been asked; whether it says something else than before. Where it does not answer, what it said before
    /// stays: a connection to an old address may work, and one to none can't.
    pub(crate) async fn refresh(&self) -> io::Result<bool> {
        let _asking = self.asking.lock().await;
        if !self.is_due() {
            return Ok(false);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map(|found| found.map(|address| address.ip().to_canonical()).collect::<Vec<_>>());
        let has_some = found.as_ref().is_ok_and(|found| !found.is_empty());
        self.rests.set(Some(Instant::now() + if has_some { FRESH } else { FAILED }));
        let found = found?;
        if found.is_empty() {
            return Ok(false);
        }
        let before = self.known.replace(found);
        let known = self.known.borrow();
        Ok(before.len() != known.len() || known.iter().any(|address| !before.contains(address)))
    }

    /// All addresses, each time beginning with another: behind a headless Service each is a pod.
    async fn in_turn(&self) -> io::Result<Vec<SocketAddr>> {
        let asked = self.refresh().await;
        let mut addresses: Vec<SocketAddr> =
            self.known.borrow().iter().map(|address| (*address, self.port).into()).collect();
        if addresses.is_empty() {
            asked?;
            return Err(io::ErrorKind::NotFound.into());
        }
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let first = turn % addresses.len();
        addresses.rotate_left(first);
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_each_of_its_addresses_in_turn() {
        let name = Name::new("localhost", 80);
        name.refresh().await.unwrap();
        assert!(name.has("127.0.0.1".parse().unwrap()) || name.has("::1".parse().unwrap()));
        name.known.replace(vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]);
        let first = name.in_turn().await.unwrap();
        let second = name.in_turn().await.unwrap();
        assert_eq!(first, ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()]);
        assert_eq!(second, ["10.0.0.2:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_address_is_a_name_without_dns() {
        let name = Name::new("fd00::7", 80);
        assert_eq!(name.in_turn().await.unwrap(), ["[fd00::7]:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_dns_said_before_stays_where_it_fails() {
        let name = Name::new("outrigger.invalid", 80);
        assert!(name.in_turn().await.is_err());
        name.known.replace(vec!["10.0.0.1".parse().unwrap()]);
        assert_eq!(name.in_turn().await.unwrap().len(), 1);
    }
}
