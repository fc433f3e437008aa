//! The Secrets' files, looked at while the proxy runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use outrigger_api::config::Inbound;
use serde::Serialize;

use crate::tls::{Terminator, TlsError};

/// What the ports with TLS go by.
pub(crate) type Terminators = BTreeMap<Place, Arc<Terminator>>;

/// Which port it is: where the proxy listens, which may be the same for all, and the app's.
type Place = (u16, u16);

pub(crate) fn place(inbound: &Inbound) -> Place {
    (inbound.listen, inbound.target)
}

/// A certificate that is served, as `/config` and the metrics tell it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// Name of the port.
    pub(crate) port: String,
    /// Name of the Secret.
    pub(crate) secret: String,
    /// When it ends, in seconds since the Unix epoch.
    pub(crate) not_after: i64,
    /// Why what the port's Secrets hold now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// The Secrets of all ports.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    /// Where each Secret has a directory.
    directory: PathBuf,
    in_force: Terminators,
    refused: BTreeMap<Place, String>,
}

impl Secrets {
    /// None yet, in this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, in_force: Terminators::new(), refused: BTreeMap::new() }
    }

    /// Those of these ports instead, all of which must be usable.
    pub(crate) fn of(&self, inbound: &[Inbound]) -> Result<Self, TlsError> {
        let mut in_force = Terminators::new();
        for inbound in inbound {
            let known = self.in_force.get(&place(inbound)).filter(|known| known.is_of(inbound));
            if let Some(known) = known {
                in_force.insert(place(inbound), Arc::clone(known));
            } else if let Some(loaded) = Terminator::load(inbound, &self.directory) {
                in_force.insert(place(inbound), Arc::new(loaded?));
            }
        }
        Ok(Self { in_force, refused: BTreeMap::new(), directory: self.directory.clone() })
    }

    /// Looks at the files; true where something is new, be it a certificate or that one can't be used.
    pub(crate) fn look(&mut self) -> bool {
        let mut new = false;
        for (place, terminator) in &mut self.in_force {
            match terminator.renewed() {
                None => new |= self.refused.remove(place).is_some(),
                Some(Ok(renewed)) => {
                    *terminator = Arc::new(renewed);
                    self.refused.remove(place);
                    new = true;
                    tracing::info!(port = place.1, "certificate taken");
                }
                Some(Err(error)) => {
                    let error = error.to_string();
                    if self.refused.get(place) != Some(&error) {
                        tracing::warn!(port = place.1, %error, "certificate refused: the last good one stays in force");
                        self.refused.insert(*place, error);
                        new = true;
                    }
                }
            }
        }
        new
    }

    pub(crate) fn in_force(&self) -> Terminators {
        self.in_force.clone()
    }

    /// What is served on these ports.
    pub(crate) fn certificates(&self, inbound: &[Inbound]) -> Vec<Certificate> {
        let mut certificates = Vec::new();
        for inbound in inbound {
            let (name, place) = (&inbound.name, place(inbound));
            let served = self.in_force.get(&place).map_or(&[][..], |terminator| &terminator.not_after);
            certificates.extend(served.iter().map(|(secret, not_after)| Certificate {
                port: name.clone(),
                secret: secret.clone(),
                not_after: *not_after,
                refused: self.refused.get(&place).cloned(),
            }));
        }
        certificates
    }
}
