//! The sockets that a config asks for.

use std::io;
use std::net::TcpListener;

use outrigger_api::config::{Interception, SidecarConfig};
use outrigger_api::names::{INBOUND_PORT, OUTBOUND_PORT};
use outrigger_runtime::bind;

/// A port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    pub(crate) port: u16,
    /// Of the port taken over, or of the upstream.
    pub(crate) name: &'a str,
    only_for_us: bool,
}

/// The ports that a config asks for.
pub(crate) fn wanted(config: &SidecarConfig) -> Vec<Wanted<'_>> {
    let mut wanted = Vec::new();
    if config.interception == Interception::Redirect {
        wanted.push(Wanted { port: INBOUND_PORT, name: "inbound", only_for_us: false });
        // The kernel sends there by way of loopback.
        wanted.push(Wanted { port: OUTBOUND_PORT, name: "outbound", only_for_us: true });
    } else {
        let inbound = config.inbound.iter();
        wanted.extend(inbound.map(|port| Wanted { port: port.listen, name: &port.name, only_for_us: false }));
    }
    let listening =
        |(name, listen): (_, Option<u16>)| Some(Wanted { port: listen?, name, only_for_us: true });
    let upstreams = config.upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream.listen));
    wanted.extend(upstreams.filter_map(listening));
    wanted
}

impl Wanted<'_> {
    /// Listens there: on every address, or on those of loopback.
    pub(crate) fn bind(&self) -> io::Result<Vec<TcpListener>> {
        if self.only_for_us { bind::loopback(self.port) } else { bind::each_family(self.port) }
    }
}
