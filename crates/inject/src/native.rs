//! Native sidecar or plain container: which of the two the proxy becomes, and why.
//!
//! A native sidecar is an init container with `restartPolicy: Always`: it starts before the user's own init containers and the
//! app, ends after them, and keeps no Job from completing (istio#11130, istio#11045).
//! <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>

use outrigger_api::Reason;
use outrigger_api::profile::NativeSidecars;
use serde_json::Value;

use crate::outcome::{Placement, Refusal};
use crate::pod::Pod;
use crate::{Cluster, Version};

/// The first version that has them switched on. An older API server drops the `restartPolicy`, and an older kubelet waits for the
/// end of such a container for ever; so both must be of this version (linkerd2#12391, istio#51883).
const HAS_THEM: Version = Version { major: 1, minor: 29 };
/// The first version whose Services follow a port's name into a native sidecar (kubernetes#128850).
const FOLLOWS_THEIR_PORTS: Version = Version { major: 1, minor: 33 };

/// How long a pod may take to end, in seconds, where it does not say.
const DEFAULT_GRACE_SECONDS: u64 = 30;

/// Decides. `takes_ports`: whether the proxy takes over named ports, which Services must follow.
pub(crate) fn place(
    wanted: NativeSidecars,
    cluster: Cluster,
    takes_ports: bool,
) -> Result<Placement, Refusal> {
    match (wanted, obstacle(cluster, takes_ports)) {
        (NativeSidecars::Never, _) => Ok(plain("nativeSidecars is never")),
        (_, None) => Ok(Placement { native: true, why: supported(cluster) }),
        (NativeSidecars::Auto, Some(obstacle)) => Ok(plain(obstacle)),
        (NativeSidecars::Always, Some(obstacle)) => Err(Refusal::rejected(
            Reason::NativeSidecarsUnavailable,
            format!("nativeSidecars is always, but {obstacle}; auto takes plain containers there"),
        )),
    }
}

fn plain(why: impl Into<String>) -> Placement {
    Placement { native: false, why: why.into() }
}

/// What keeps the proxy from being a native sidecar.
fn obstacle(cluster: Cluster, takes_ports: bool) -> Option<String> {
    let older = |version: Option<Version>, than: Version| version.filter(|version| *version < than);
    if let Some(version) = older(cluster.server, HAS_THEM) {
        return Some(format!("the API server is {version} and native sidecars came with {HAS_THEM}"));
    }
    if let Some(version) = older(cluster.oldest_node, HAS_THEM) {
        return Some(format!("a node runs kubelet {version} and native sidecars came with {HAS_THEM}"));
    }
    let version = older(cluster.server, FOLLOWS_THEIR_PORTS).filter(|_| takes_ports)?;
    Some(format!(
        "the cluster is {version} and its Services follow named ports into native sidecars only from {FOLLOWS_THEIR_PORTS} on"
    ))
}

fn supported(cluster: Cluster) -> String {
    match cluster.server {
        Some(version) => format!("the cluster is {version}"),
        None => "the cluster's version is not known and taken to be modern".to_owned(),
    }
}

/// What the user should know about a plain container. Nothing where it was asked for, unless the pod might never complete.
pub(crate) fn warnings(pod: Pod, wanted: NativeSidecars, placement: &Placement, token: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if placement.native {
        return warnings;
    }
    if wanted == NativeSidecars::Auto {
        warnings.push(format!(
            "the proxy is a plain container and not a native sidecar: {}. The user's init containers run before it",
            placement.why
        ));
    }
    if must_be_finished(pod, placement) && token.is_empty() {
        warnings.push(
            "the pod completes only when its proxy is told to stop: let the app end with \
             `curl -X POST http://localhost:15190/shutdown`, or let the webhook inject the pod, which then does it"
                .to_owned(),
        );
    }
    warnings
}

/// Whether somebody must end the proxy: the pod is to complete, as those of Jobs are, and a plain proxy would keep it running.
pub(crate) fn must_be_finished(pod: Pod, placement: &Placement) -> bool {
    let completes = |policy: &Value| policy == "Never" || policy == "OnFailure";
    !placement.native && pod.at("/spec/restartPolicy").is_some_and(completes)
}

/// How long a plain proxy's preStop hook may wait for the end of the app, in seconds: what the pod's grace period leaves when
/// the proxy has had a while to end what is in flight.
pub(crate) fn wait_for_app_seconds(pod: Pod) -> u64 {
    let grace = grace_seconds(pod);
    grace - (grace / 2).min(5)
}

/// How long the pod may take to end, in seconds.
pub(crate) fn grace_seconds(pod: Pod) -> u64 {
    let given = pod.at("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    given.unwrap_or(DEFAULT_GRACE_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(server: u16, oldest_node: u16) -> Cluster {
        let version = |minor| Some(Version { major: 1, minor });
        Cluster { server: version(server), oldest_node: version(oldest_node), oldest_kernel: None }
    }

    #[test]
    fn native_where_api_server_kubelets_and_services_can() {
        for (cluster, takes_ports, native) in [
            (Cluster::default(), true, true),
            (cluster(33, 31), true, true),
            (cluster(32, 32), true, false),
            (cluster(32, 32), false, true),
            (cluster(29, 29), false, true),
            (cluster(33, 28), true, false),
            (cluster(29, 28), false, false),
            (cluster(28, 28), false, false),
        ] {
            let placed = place(NativeSidecars::Auto, cluster, takes_ports);
            assert_eq!(
                placed.ok().map(|placement| placement.native),
                Some(native),
                "{cluster:?} {takes_ports}"
            );
            let always = place(NativeSidecars::Always, cluster, takes_ports);
            assert_eq!(always.is_ok(), native, "{cluster:?} {takes_ports}");
            let never = place(NativeSidecars::Never, cluster, takes_ports);
            assert_eq!(never.ok().map(|placement| placement.native), Some(false));
        }
    }

    #[test]
    fn the_wait_for_the_app_fits_in_the_grace_period() {
        for (grace, wait) in
            [(Some(0), 0), (Some(1), 1), (Some(4), 2), (Some(10), 5), (Some(60), 55), (None, 25)]
        {
            let pod = serde_json::json!({"spec": {"containers": [], "terminationGracePeriodSeconds": grace}});
            let Ok(pod) = Pod::new(&pod) else { unreachable!("it is a pod") };
            assert_eq!(wait_for_app_seconds(pod), wait, "{grace:?}");
        }
    }
}
