//! Secrets and `ConfigMaps` that the profile names: each a volume, which the sidecar that needs it mounts in a directory of its name.

use std::collections::BTreeSet;

use outrigger_api::Reason;
use outrigger_api::auth::AuthSpec;
use outrigger_api::config::SidecarConfig;
use outrigger_api::names::{CONFIG_MAPS_DIR, SECRET_VOLUME_PREFIX, SECRETS_DIR};
use outrigger_api::origination::UpstreamTlsSpec;
use outrigger_api::tls::TlsSpec;
use serde_json::{Value, json};

use crate::outcome::Refusal;

/// The most Secrets and `ConfigMaps` of one pod.
pub(crate) const MAX_SECRETS: usize = 64;

/// What a sidecar mounts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mounted {
    Secret(String),
    ConfigMap(String),
}

/// The Secrets and `ConfigMaps` of a sidecar config, each once and in order, so that each keeps its volume from one admission to the next.
pub(crate) fn plan(config: &SidecarConfig) -> Result<Vec<Mounted>, Refusal> {
    let of_sync = config.sync.iter().filter_map(|source| source.spec.git.secret_name.clone());
    let all: BTreeSet<_> = of_proxy(config).into_iter().chain(of_sync.map(Mounted::Secret)).collect();
    if all.len() > MAX_SECRETS {
        let message =
            format!("the profile names {} Secrets and ConfigMaps: at most {MAX_SECRETS}", all.len());
        return Err(Refusal::rejected(Reason::InvalidProfile, message));
    }
    Ok(all.into_iter().collect())
}

/// Those that the proxy reads.
pub(crate) fn of_proxy(config: &SidecarConfig) -> Vec<Mounted> {
    let of_tls = config.inbound.iter().flat_map(|inbound| &inbound.tls).flat_map(TlsSpec::secrets);
    let of_auth = config.inbound.iter().flat_map(|inbound| &inbound.auth).flat_map(AuthSpec::secrets);
    let to_upstreams = || config.upstreams.iter().flat_map(|upstream| &upstream.tls);
    let secrets = of_tls.chain(of_auth).chain(to_upstreams().flat_map(UpstreamTlsSpec::secrets));
    let of_authorities = to_upstreams().filter_map(|tls| tls.ca.config_map_name.clone());
    let breakers = config.upstreams.iter().flat_map(|upstream| &upstream.circuit_breaker);
    let pages = breakers.flat_map(|breaker| &breaker.fallback.body_from);
    let of_pages = pages.map(|from| from.config_map_name.clone());
    let maps = of_authorities.chain(of_pages).map(Mounted::ConfigMap);
    secrets.map(|name| Mounted::Secret(name.to_owned())).chain(maps).collect()
}

/// The volumes. None is optional: the kubelet says in an Event which object is missing, and starts the pod when it is there.
pub(crate) fn volumes(mounted: &[Mounted]) -> impl Iterator<Item = Value> {
    mounted.iter().enumerate().map(|(number, mounted)| match mounted {
        Mounted::Secret(name) => json!({"name": volume_name(number), "secret": {"secretName": name}}),
        Mounted::ConfigMap(name) => json!({"name": volume_name(number), "configMap": {"name": name}}),
    })
}

/// Where a container mounts those that it needs, of all of the pod. Whole directories: a file mounted by `subPath` would never change.
pub(crate) fn mounts(all: &[Mounted], needed: &[Mounted]) -> impl Iterator<Item = Value> {
    let needed = all.iter().enumerate().filter(|(_, mounted)| needed.contains(mounted));
    needed.map(|(number, mounted)| {
        let path = match mounted {
            Mounted::Secret(name) => format!("{SECRETS_DIR}/{name}"),
            Mounted::ConfigMap(name) => format!("{CONFIG_MAPS_DIR}/{name}"),
        };
        json!({"name": volume_name(number), "mountPath": path, "readOnly": true})
    })
}

pub(crate) fn volume_name(number: usize) -> String {
    format!("{SECRET_VOLUME_PREFIX}{number}")
}
