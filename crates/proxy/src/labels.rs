//! What series, lines and statistics of traffic are told apart by.

use outrigger_api::config::{Inbound, Upstream};

/// Which way connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the app.
    Inbound,
    /// From the app.
    Outbound,
}

impl Direction {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// In the place of a name that the config does not have.
pub(crate) const UNNAMED: &str = "_other";

/// Where traffic goes, in words of the config. A host that a caller names is never one: anybody could fill the memory of Prometheus
/// by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) direction: Direction,
    /// Of inbound traffic, the name of the port in the config; of outbound traffic, the number of the port elsewhere.
    pub(crate) port: String,
    /// Of outbound traffic, the name of the upstream in the config.
    pub(crate) upstream: Option<String>,
}

impl Labels {
    pub(crate) fn of_inbound(inbound: &Inbound) -> Self {
        Self { direction: Direction::Inbound, port: inbound.name.clone(), upstream: None }
    }

    /// Of ports that nobody has declared.
    pub(crate) fn of_other_inbound() -> Self {
        Self { direction: Direction::Inbound, port: UNNAMED.to_owned(), upstream: None }
    }

    pub(crate) fn of_upstream(upstream: &Upstream) -> Self {
        Self {
            direction: Direction::Outbound,
            port: upstream.port.to_string(),
            upstream: Some(upstream.name.clone()),
        }
    }

    /// Of what goes to nobody that the config names; without a port where there are too many of them.
    pub(crate) fn of_other_outbound(port: Option<u16>) -> Self {
        let port = port.map_or_else(|| UNNAMED.to_owned(), |port| port.to_string());
        Self { direction: Direction::Outbound, port, upstream: Some(UNNAMED.to_owned()) }
    }

    /// For log lines: the port's name, or the upstream and its port.
    pub(crate) fn name(&self) -> String {
        match &self.upstream {
            Some(upstream) => format!("{upstream}:{}", self.port),
            None => self.port.clone(),
        }
    }
}
