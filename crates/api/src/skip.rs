//! What is never intercepted, as users write it.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::cidr::Cidr;
use crate::port::PortRef;
#[cfg(feature = "crd")]
use crate::profile::MAX_ENTRIES;
use crate::profile::too_many;

/// Traffic that goes past the proxy. All but `inboundPorts` is about `interception: redirect`, where everything else goes
/// through it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct SkipSpec {
    /// Ports of the pod that are left alone, by name or number, whatever `inbound` says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ENTRIES)))]
    pub inbound_ports: Vec<PortRef>,
    /// Ports elsewhere that the app calls directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ENTRIES), inner(range(min = 1, max = 65535))))]
    pub outbound_ports: Vec<u16>,
    /// Addresses that the app calls directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ENTRIES)))]
    pub outbound_cidrs: Vec<Cidr>,
    /// Users of the pod, by number, whose calls go out directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ENTRIES), inner(range(min = 0, max = 4_294_967_294_u32))))]
    pub outbound_uids: Vec<u32>,
}

impl SkipSpec {
    /// Whether nothing is skipped.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The faults that types can't express.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(too_many(&format!("{at}.inboundPorts"), self.inbound_ports.len()));
        faults.extend(too_many(&format!("{at}.outboundPorts"), self.outbound_ports.len()));
        faults.extend(too_many(&format!("{at}.outboundCidrs"), self.outbound_cidrs.len()));
        faults.extend(too_many(&format!("{at}.outboundUids"), self.outbound_uids.len()));
        if let Some(index) = self.outbound_ports.iter().position(|port| *port == 0) {
            let field = format!("{at}.outboundPorts[{index}]");
            faults.push(Fault::new(field, "it takes a port from 1 to 65535"));
        }
        // The kernel's "no user".
        if let Some(index) = self.outbound_uids.iter().position(|uid| *uid == u32::MAX) {
            let field = format!("{at}.outboundUids[{index}]");
            faults.push(Fault::new(field, "it takes the number of a user"));
        }
        faults
    }
}
