//! Who has which loopback address: on Linux all of 127.0.0.0/8 is there without being set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use outrigger_api::names::ADMIN_PORT;
use outrigger_runtime::bind;

use crate::cluster::DEPLOYMENTS;

/// The webhook's.
const WEBHOOK_PORT: u16 = 10250;
/// Of each Service.
const SERVICE_PORT: u16 = 8080;

/// All of them begin with 127 and this number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses(pub(crate) u8);

impl Addresses {
    /// The webhook's.
    pub(crate) fn webhook(self) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, 90, 1), WEBHOOK_PORT).into()
    }

    /// Of its admin server.
    pub(crate) fn webhook_admin(self) -> SocketAddr {
        (self.webhook().ip(), ADMIN_PORT).into()
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

    /// What must be free: of each pod the admin port stands for all.
    pub(crate) fn all(self) -> impl Iterator<Item = SocketAddr> {
        let pods = (0..).zip(&DEPLOYMENTS).flat_map(move |(place, deployment)| {
            (1..=deployment.pods).map(move |number| (self.pod(place, number), ADMIN_PORT).into())
        });
        let services = DEPLOYMENTS.iter().map(move |deployment| self.service(deployment.name));
        pods.chain(services).chain([self.webhook(), self.webhook_admin()])
    }
}

/// An error that helps, where this address can't be listened on.
pub(crate) fn free(address: SocketAddr) -> anyhow::Result<()> {
    bind::listen(address).map(drop).map_err(|error| {
        anyhow!(
            "failed to listen on {address}: {error}\n\nhint: does another demo run? `ss -ltnp` tells who listens there; \
             `scripts/demo --dashboard 127.0.0.1:PORT` puts the dashboard elsewhere, `--block NUMBER` everything else"
        )
    })
}
