//! Secrets that the profile names: each a volume, which the proxy's container mounts in a directory of the Secret's name.

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
    let of_tls = config.inbound.iter().flat_map(|inbound| &inbound.tls).flat_map(TlsSpec::secrets);
    let of_auth = config.inbound.iter().flat_map(|inbound| &inbound.auth).flat_map(AuthSpec::secrets);
    let secrets: Vec<_> =
        of_tls.chain(of_auth).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect();
    if secrets.len() > MAX_SECRETS {
        let message = format!("the profile names {} Secrets: at most {MAX_SECRETS}", secrets.len());
        return Err(Refusal::rejected(Reason::InvalidProfile, message));
    }
    Ok(secrets)
}

/// The volumes. None is optional: the kubelet says in an Event which Secret is missing, and starts the pod when it is there.
pub(crate) fn volumes(secrets: &[String]) -> impl Iterator<Item = Value> {
    secrets
        .iter()
        .enumerate()
        .map(|(number, secret)| json!({"name": volume_name(number), "secret": {"secretName": secret}}))
}

/// Where the proxy's container mounts them. Whole directories: a file mounted by `subPath` would never change.
pub(crate) fn mounts(secrets: &[String]) -> impl Iterator<Item = Value> {
    secrets.iter().enumerate().map(|(number, secret)| {
        json!({"name": volume_name(number), "mountPath": format!("{SECRETS_DIR}/{secret}"), "readOnly": true})
    })
}

pub(crate) fn volume_name(number: usize) -> String {
    format!("{SECRET_VOLUME_PREFIX}{number}")
}
