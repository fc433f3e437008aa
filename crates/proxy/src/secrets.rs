//! The files of Secrets and `ConfigMap`s, looked at while the proxy runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::config::{Inbound, SidecarConfig, Upstream};
use serde::Serialize;

use crate::auth::{Keys, KeysError};
use crate::page::{Page, PageError};
use crate::tls::{Originator, Terminator, TlsError};

/// Where each `ConfigMap` has a directory, beside those of Secrets.
pub(crate) const CONFIG_MAPS: &str = "_configmaps";

/// What it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A port that was taken over: where the proxy listens, which may be the same for all, and the app's.
    Inbound(u16, u16),
    /// The upstream of this name.
    Upstream(String),
}

/// What may need Secrets.
pub(crate) trait Placed {
    fn place(&self) -> Place;
}

impl Placed for Inbound {
    fn place(&self) -> Place {
        Place::Inbound(self.listen, self.target)
    }
}

impl Placed for Upstream {
    fn place(&self) -> Place {
        Place::Upstream(self.name.clone())
    }
}

/// What a port makes of Secrets, or of a `ConfigMap`.
pub(crate) trait Held: Sized {
    /// What it is made for.
    type Of: Placed;
    type Error: std::error::Error;

    /// Reads the Secrets of a port, which lie in directories of their names. `None` where it has none of this kind.
    fn load(of: &Self::Of, secrets: &Path) -> Option<Result<Self, Self::Error>>;

    /// The same port by what its Secrets hold now; `None` where that is what they held.
    fn renewed(&self) -> Option<Result<Self, Self::Error>>;

    /// Whether it is what this port asks for.
    fn is_of(&self, of: &Self::Of) -> bool;
}

/// What the ports go by that have such.
pub(crate) type InForce<T> = BTreeMap<Place, Arc<T>>;

/// What is in force for the ports, for the worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Material {
    pub(crate) terminators: InForce<Terminator>,
    pub(crate) keys: InForce<Keys>,
    pub(crate) originators: InForce<Originator>,
    pub(crate) pages: InForce<Page>,
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
    to_upstreams: Watched<Originator>,
    pages: Watched<Page>,
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
    /// The page of a fallback.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// What is served of Secrets, as `/config` and the metrics tell it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Served {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) credentials: Vec<Credentials>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pages: Vec<FallbackPage>,
}

/// Where a certificate is served: `port`, or shown and trusted: `upstream`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum At {
    Port(String),
    Upstream(String),
}

impl At {
    pub(crate) fn labels(&self) -> [(&'static str, &str); 2] {
        match self {
            Self::Port(name) => [("direction", "inbound"), ("port", name)],
            Self::Upstream(name) => [("direction", "outbound"), ("upstream", name)],
        }
    }
}

/// A certificate that is served, shown or trusted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    #[serde(flatten)]
    pub(crate) at: At,
    /// Name of the Secret or `ConfigMap`.
    pub(crate) secret: String,
    /// When it ends, in seconds since the Unix epoch.
    pub(crate) not_after: i64,
    /// Why what the port's Secrets hold now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// The page that an upstream's fallback is made of.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FallbackPage {
    upstream: String,
    /// Of the page in force, in bytes.
    length: usize,
    /// Why what the `ConfigMap` holds now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What credentials are judged by on a port.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credentials {
    /// Name of the port.
    pub(crate) port: String,
    /// Which keys of the issuer can't be used, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    /// Why what the port's Secrets hold now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

impl Secrets {
    /// None yet, in this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let (tls, keys, to_upstreams, pages) = Default::default();
        Self { directory, tls, keys, to_upstreams, pages }
    }

    /// Those of this config instead, all of which must be usable.
    pub(crate) fn of(&self, config: &SidecarConfig) -> Result<Self, SecretError> {
        let directory = self.directory.clone();
        Ok(Self {
            tls: self.tls.of(&config.inbound, &directory)?,
            keys: self.keys.of(&config.inbound, &directory)?,
            to_upstreams: self.to_upstreams.of(&config.upstreams, &directory)?,
            pages: self.pages.of(&config.upstreams, &directory)?,
            directory,
        })
    }

    /// Looks at the files; true where something is new, be it what they hold or that it can't be used.
    pub(crate) fn look(&mut self) -> bool {
        // All, whatever the first says.
        self.tls.look("certificate")
            | self.keys.look("keys of credentials")
            | self.to_upstreams.look("certificates for an upstream")
            | self.pages.look("page of a fallback")
    }

    pub(crate) fn in_force(&self) -> Material {
        Material {
            terminators: self.tls.in_force.clone(),
            keys: self.keys.in_force.clone(),
            originators: self.to_upstreams.in_force.clone(),
            pages: self.pages.in_force.clone(),
        }
    }

    /// What is served by this config.
    pub(crate) fn served(&self, config: &SidecarConfig) -> Served {
        let mut served = Served::default();
        for upstream in &config.upstreams {
            let place = upstream.place();
            served.pages.extend(self.pages.in_force.get(&place).map(|page| FallbackPage {
                upstream: upstream.name.clone(),
                length: page.text.len(),
                refused: self.pages.refused.get(&place).cloned(),
            }));
            let ends = self.to_upstreams.in_force.get(&place).map_or(&[][..], |to| &to.not_after);
            served.certificates.extend(ends.iter().map(|(secret, not_after)| Certificate {
                at: At::Upstream(upstream.name.clone()),
                secret: secret.clone(),
                not_after: *not_after,
                refused: self.to_upstreams.refused.get(&place).cloned(),
            }));
        }
        for inbound in &config.inbound {
            let (port, place) = (&inbound.name, inbound.place());
            let ends = self.tls.in_force.get(&place).map_or(&[][..], |terminator| &terminator.not_after);
            served.certificates.extend(ends.iter().map(|(secret, not_after)| Certificate {
                at: At::Port(port.clone()),
                secret: secret.clone(),
                not_after: *not_after,
                refused: self.tls.refused.get(&place).cloned(),
            }));
            served.credentials.extend(self.keys.in_force.get(&place).map(|keys| Credentials {
                port: port.clone(),
                left_out: keys.left_out().to_vec(),
                refused: self.keys.refused.get(&place).cloned(),
            }));
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
    fn of(&self, all: &[T::Of], directory: &Path) -> Result<Self, T::Error> {
        let mut in_force = InForce::new();
        for of in all {
            let known = self.in_force.get(&of.place()).filter(|known| known.is_of(of));
            if let Some(known) = known {
                in_force.insert(of.place(), Arc::clone(known));
            } else if let Some(loaded) = T::load(of, directory) {
                in_force.insert(of.place(), Arc::new(loaded?));
            }
        }
        Ok(Self { in_force, refused: BTreeMap::new() })
    }

    fn look(&mut self, what: &str) -> bool {
        let mut new = false;
        for (place, held) in &mut self.in_force {
            match held.renewed() {
                None => new |= self.refused.remove(place).is_some(),
                Some(Ok(renewed)) => {
                    *held = Arc::new(renewed);
                    self.refused.remove(place);
                    new = true;
                    tracing::info!(?place, "{what} taken");
                }
                Some(Err(error)) => {
                    let error = error.to_string();
                    if self.refused.get(place) != Some(&error) {
                        tracing::warn!(?place, %error, "{what} refused: the last good stays in force");
                        self.refused.insert(place.clone(), error);
                        new = true;
                    }
                }
            }
        }
        new
    }
}
