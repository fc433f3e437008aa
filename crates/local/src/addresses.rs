//! Who has which loopback address: on Linux all of 127.0.0.0/8 is there without being set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use outrigger_runtime::bind;

use crate::cluster::DEPLOYMENTS;

/// Of each Service.
const SERVICE_PORT: u16 = 8080;

/// All of them begin with 127 and this number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses(pub(crate) u8);

impl Addresses {
    /// The webhook's.
    pub(crate) fn webhook(self) -> IpAddr {
        Ipv4Addr::new(127, self.0, 90, 1).into()
    }

    /// Of a pod of the Deployment with this place in the list.
    pub(crate) fn pod(self, deployment: u8, number: u8) -> IpAddr {
        Ipv4Addr::new(127, self.0, 10 + deployment, number).into()
    }

    /// Of the Service of this name.
    pub(crate) fn service(self, name: &str) -> SocketAddr {
        let number = DEPLOYMENTS.iter().position(|deployment| deployment.name == name).unwrap_or_default();
        let number = u8::try_from(number + 1).unwrap_or(u8::MAX);
        (Ipv4Addr::new(127, self.0, 80, number), SERVICE_PORT).into()
    }

    /// The same, without its port.
    pub(crate) fn host(self, name: &str) -> String {
        self.service(name).ip().to_string()
    }
}

/// An error that helps, where this address can't be listened on.
pub(crate) fn free(address: SocketAddr) -> anyhow::Result<()> {
    bind::listen(address).map(drop).with_context(|| {
        format!(
            "{address} can't be used\n\nhint: `ss -ltnp` tells who listens there; --dashboard 127.0.0.1:PORT puts the dashboard elsewhere, \
             --block NUMBER all else, beside another demo"
        )
    })
}
