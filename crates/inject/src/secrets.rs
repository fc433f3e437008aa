//! Secrets that the profile names: each a volume, which the sidecar that needs it mounts in a directory of the Secret's name.

use std::collections::BTreeSet;

use outrigger_api::Reason;
use outrigger_api::auth::AuthSpec;
use outrigger_api::config::SidecarConfig;
use outrigger_api::names::{SECRET_VOLUME_PREFIX, SECRETS_DIR};
use outrigger_api::tls::TlsSpec;
use serde_json::{Value, json};

use crate::outcome::Refusal;

/// The most Secrets of one pod.
pub(crate) const MAX_SECRETS: usize = 64;

/// The Secrets of a sidecar config, each once and in order, so that each keeps its volume from one admission to the next.
pub(crate) fn plan(config: &SidecarConfig) -> Result<Vec<String>, Refusal> {
    let of_sync = config.sync.iter().filter_map(|source| source.spec.git.secret_name.as_deref());
    let secrets: BTreeSet<_> = of_proxy(config).into_iter().chain(of_sync).collect();
    let secrets: Vec<_> = secrets.into_iter().map(str::to_owned).collect();
    if secrets.len() > MAX_SECRETS {
        let message = format!("the profile names {} Secrets: at most {MAX_SECRETS}", secrets.len());
        return Err(Refusal::rejected(Reason::InvalidProfile, message));
    }
    Ok(secrets)
}

/// Those that the proxy reads.
pub(crate) fn of_proxy(config: &SidecarConfig) -> Vec<&str> {
    let of_tls = config.inbound.iter().flat_map(|inbound| &inbound.tls).flat_map(TlsSpec::secrets);
    let of_auth = config.inbound.iter().flat_map(|inbound| &inbound.auth).flat_map(AuthSpec::secrets);
    of_tls.chain(of_auth).collect()
}

/// The volumes. None is optional: the kubelet says in an Event which Secret is missing, and starts the pod when it is there.
pub(crate) fn volumes(secrets: &[String]) -> impl Iterator<Item = Value> {
    secrets
        .iter()
        .enumerate()
        .map(|(number, secret)| json!({"name": volume_name(number), "secret": {"secretName": secret}}))
}

/// Where a container mounts those that it needs, of all of the pod. Whole directories: a file mounted by `subPath` would never change.
pub(crate) fn mounts(all: &[String], needed: &[&str]) -> impl Iterator<Item = Value> {
    let needed = all.iter().enumerate().filter(|(_, secret)| needed.contains(&secret.as_str()));
    needed.map(|(number, secret)| {
        json!({"name": volume_name(number), "mountPath": format!("{SECRETS_DIR}/{secret}"), "readOnly": true})
    })
}

pub(crate) fn volume_name(number: usize) -> String {
    format!("{SECRET_VOLUME_PREFIX}{number}")
}
