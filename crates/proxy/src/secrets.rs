//! The Secrets' files, looked at while the proxy runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::config::Inbound;
use serde::Serialize;

use crate::auth::{Keys, KeysError};
use crate::tls::{Terminator, TlsError};

/// Which port it is: where the proxy listens, which may be the same for all, and the app's.
pub(crate) type Place = (u16, u16);

pub(crate) fn place(inbound: &Inbound) -> Place {
    (inbound.listen, inbound.target)
}

/// What a port makes of Secrets.
pub(crate) trait Held: Sized {
    type Error: std::error::Error;

    /// Reads the Secrets of a port, which lie in directories of their names. `None` where it has none of this kind.
    fn load(inbound: &Inbound, secrets: &Path) -> Option<Result<Self, Self::Error>>;

    /// The same port by what its Secrets hold now; `None` where that is what they held.
    fn renewed(&self) -> Option<Result<Self, Self::Error>>;

    /// Whether it is what this port asks for.
    fn is_of(&self, inbound: &Inbound) -> bool;
}

/// What the ports go by that have such.
pub(crate) type InForce<T> = BTreeMap<Place, Arc<T>>;

/// What is in force for the ports, for the worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Material {
    pub(crate) terminators: InForce<Terminator>,
    pub(crate) keys: InForce<Keys>,
}

/// One kind of what is made of Secrets, on all ports.
#[derive(Debug)]
struct Watched<T> {
    in_force: InForce<T>,
    refused: BTreeMap<Place, String>,
}

/// The Secrets of all ports.
#[derive(Debug)]
pub(crate) struct Secrets {
    /// Where each Secret has a directory.
    directory: PathBuf,
    tls: Watched<Terminator>,
    keys: Watched<Keys>,
}

/// Why a port's Secrets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Keys of credentials.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What is served of Secrets, as `/config` and the metrics tell it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Served {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) credentials: Vec<Credentials>,
}

/// A certificate that is served.
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

/// What credentials are judged by on a port.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Credentials {
    /// Name of the port.
    pub(crate) port: String,
    /// Why what the port's Secrets hold now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

impl Secrets {
    /// None yet, in this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, tls: Watched::default(), keys: Watched::default() }
    }

    /// Those of these ports instead, all of which must be usable.
    pub(crate) fn of(&self, inbound: &[Inbound]) -> Result<Self, SecretError> {
        let directory = self.directory.clone();
        let (tls, keys) = (self.tls.of(inbound, &directory)?, self.keys.of(inbound, &directory)?);
        Ok(Self { directory, tls, keys })
    }

    /// Looks at the files; true where something is new, be it what they hold or that it can't be used.
    pub(crate) fn look(&mut self) -> bool {
        // Both, whatever the first says.
        self.tls.look("certificate") | self.keys.look("keys of credentials")
    }

    pub(crate) fn in_force(&self) -> Material {
        Material { terminators: self.tls.in_force.clone(), keys: self.keys.in_force.clone() }
    }

    /// What is served on these ports.
    pub(crate) fn served(&self, inbound: &[Inbound]) -> Served {
        let mut served = Served::default();
        for inbound in inbound {
            let (port, place) = (&inbound.name, place(inbound));
            let ends = self.tls.in_force.get(&place).map_or(&[][..], |terminator| &terminator.not_after);
            served.certificates.extend(ends.iter().map(|(secret, not_after)| Certificate {
                port: port.clone(),
                secret: secret.clone(),
                not_after: *not_after,
                refused: self.tls.refused.get(&place).cloned(),
            }));
            if self.keys.in_force.contains_key(&place) {
                let refused = self.keys.refused.get(&place).cloned();
                served.credentials.push(Credentials { port: port.clone(), refused });
            }
        }
        served
    }
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self { in_force: InForce::new(), refused: BTreeMap::new() }
    }
}

impl<T: Held> Watched<T> {
    fn of(&self, inbound: &[Inbound], directory: &Path) -> Result<Self, T::Error> {
        let mut in_force = InForce::new();
        for inbound in inbound {
            let known = self.in_force.get(&place(inbound)).filter(|known| known.is_of(inbound));
            if let Some(known) = known {
                in_force.insert(place(inbound), Arc::clone(known));
            } else if let Some(loaded) = T::load(inbound, directory) {
                in_force.insert(place(inbound), Arc::new(loaded?));
            }
        }
        Ok(Self { in_force, refused: BTreeMap::new() })
    }

    fn look(&mut self, what: &str) -> bool {
        let mut new = false;
        for (place, held) in &mut self.in_force {
            let port = place.1;
            match held.renewed() {
                None => new |= self.refused.remove(place).is_some(),
                Some(Ok(renewed)) => {
                    *held = Arc::new(renewed);
                    self.refused.remove(place);
                    new = true;
                    tracing::info!(port, "{what} taken");
                }
                Some(Err(error)) => {
                    let error = error.to_string();
                    if self.refused.get(place) != Some(&error) {
                        tracing::warn!(port, %error, "{what} refused: the last good stays in force");
                        self.refused.insert(*place, error);
                        new = true;
                    }
                }
            }
        }
        new
    }
}
