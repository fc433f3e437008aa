//! Before an installation.

use outrigger_inject::Version;
use serde_json::Value;

use super::line::{Lines, Outcome};
use super::rights::{self, Right};
use super::{crd, webhook};
use crate::cluster::Cluster;
use crate::installation::{CONFIGURATIONS, Installation};
use crate::output::str_at;

pub(super) const API: &str = "ApiServer";
const NAMES: &str = "Names";
/// What the chart's `kubeVersion` asks for.
const OLDEST: Version = Version { major: 1, minor: 29 };
/// Before, a Service does not follow a port's name into a native sidecar (kubernetes#128850).
const NATIVE: Version = Version { major: 1, minor: 33 };

const CREATE: &[&str] = &["create"];

/// What the chart creates with its default values, and the resource that it is of.
const KINDS: [Right; 15] = [
    Right { group: "", resource: "namespaces", verbs: CREATE },
    Right { group: "", resource: "serviceaccounts", verbs: CREATE },
    Right { group: "", resource: "secrets", verbs: CREATE },
    Right { group: "", resource: "services", verbs: CREATE },
    Right { group: "", resource: "pods", verbs: CREATE },
    Right { group: "coordination.k8s.io", resource: "leases", verbs: CREATE },
    Right { group: "outrigger.dev", resource: "sidecarprofiles", verbs: CREATE },
    Right { group: "apps", resource: "deployments", verbs: CREATE },
    Right { group: "policy", resource: "poddisruptionbudgets", verbs: CREATE },
    Right { group: "rbac.authorization.k8s.io", resource: "clusterroles", verbs: CREATE },
    Right { group: "rbac.authorization.k8s.io", resource: "clusterrolebindings", verbs: CREATE },
    Right { group: "rbac.authorization.k8s.io", resource: "roles", verbs: CREATE },
    Right { group: "rbac.authorization.k8s.io", resource: "rolebindings", verbs: CREATE },
    Right { group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", verbs: CREATE },
    Right { group: "apiextensions.k8s.io", resource: "customresourcedefinitions", verbs: CREATE },
];

/// Versions, the caller's rights, names that are taken.
pub(crate) async fn check(cluster: &Cluster, release: &str, namespace: &str, lines: &mut Lines) {
    rights::of_the_caller(cluster, namespace, &KINDS, lines).await;
    crd::check(cluster, false, lines).await;
    if let Some(installed) = lines.answer(NAMES, Installation::all(cluster).await) {
        for installation in &installed {
            if installation.release == release && installation.namespace == namespace {
                lines.good(
                    NAMES,
                    format!("release {release} is installed already: {}", webhook::upgrade(installation)),
                );
            } else {
                let (other, place) = (&installation.release, &installation.namespace);
                let message =
                    format!("release {other} in namespace {place} is another Outrigger: both would inject");
                lines.failed(NAMES, message, format!("helm --namespace {place} uninstall {other}"));
            }
        }
    }
    names(cluster, release, namespace, lines).await;
}

/// Whether the cluster is of a version that the chart and that native sidecars need.
pub(crate) fn api_version(version: &str, lines: &mut Lines) {
    match version.parse::<Version>() {
        Ok(parsed) if parsed < OLDEST => lines.failed(
            API,
            format!("Kubernetes {version} is older than {OLDEST}, which the chart needs"),
            "upgrade the cluster",
        ),
        Ok(parsed) if parsed >= NATIVE => {
            lines.good(API, format!("the API server answers: Kubernetes {version}"));
        }
        Ok(_) => lines.warning(
            API,
            format!("Kubernetes {version} is older than {NATIVE}: sidecars are plain containers there"),
            "upgrade the cluster, or read in docs/injection.md what plain containers can't",
        ),
        Err(_) => {
            lines.push(API, Outcome::Unknown, None, format!("{version:?} is no version of Kubernetes"), None);
        }
    }
}

/// Objects of the chart's names that helm would stumble on: those that are not of this release.
async fn names(cluster: &Cluster, release: &str, namespace: &str, lines: &mut Lines) {
    lines.progress("names");
    let prefix =
        if release.contains("outrigger") { release.to_owned() } else { format!("{release}-outrigger") };
    let name = format!("{prefix}-webhook");
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let taken = [
        ("MutatingWebhookConfiguration", format!("{CONFIGURATIONS}/{name}")),
        ("ClusterRole", format!("{rbac}/clusterroles/{name}")),
        ("ClusterRoleBinding", format!("{rbac}/clusterrolebindings/{name}")),
        ("Deployment", format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")),
        ("Service", format!("/api/v1/namespaces/{namespace}/services/{name}")),
        ("ServiceAccount", format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}")),
        ("Secret", format!("/api/v1/namespaces/{namespace}/secrets/{name}-certificate")),
        ("Namespace", format!("/api/v1/namespaces/{prefix}-check")),
    ];
    let mut strangers = false;
    for (kind, path) in &taken {
        let Some(found) = lines.answer(NAMES, cluster.find(path, &format!("look for {kind} {name}")).await)
        else {
            continue;
        };
        if let Some(object) = found.filter(|object| !is_of_release(object, release, namespace)) {
            strangers = true;
            let name = str_at(&object, "/metadata/name");
            let message =
                format!("{kind} {name} is there and not of release {release}: helm would refuse to install");
            let mut mend = format!("kubectl delete {} {name}", kind.to_lowercase());
            if let Some(place) = object["metadata"]["namespace"].as_str() {
                mend = format!("{mend} --namespace {place}");
            }
            lines.failed(NAMES, message, format!("{mend}, or give the release another name"));
        }
    }
    if !strangers && !lines.found(NAMES) {
        lines.good(NAMES, format!("every name that release {release} needs is free"));
    }
}

fn is_of_release(object: &Value, release: &str, namespace: &str) -> bool {
    let annotation = |key: &str| object["metadata"]["annotations"][key].as_str();
    // A hook makes it, whose objects have no annotations of helm's.
    if object["kind"] == "Namespace" {
        return object["metadata"]["labels"]["app.kubernetes.io/instance"] == release;
    }
    annotation("meta.helm.sh/release-name") == Some(release)
        && annotation("meta.helm.sh/release-namespace") == Some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    /// Off by default, or of somebody else's resources.
    const OPTIONAL: [&str; 9] = [
        "APIService",
        "ConfigMap",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "Certificate",
        "Issuer",
    ];

    #[test]
    fn versions_are_judged() {
        let mut lines = Lines::new(Format::Json);
        for version in ["v1.28.9", "v1.29.0", "v1.33.1", "soon"] {
            api_version(version, &mut lines);
        }
        let checks = serde_json::to_value(&lines).unwrap()["checks"].take();
        let results: Vec<_> = checks.as_array().unwrap().iter().map(|line| line["result"].clone()).collect();
        assert_eq!(results, ["failed", "warning", "good", "unknown"]);
    }

    #[test]
    fn every_kind_of_the_chart_is_asked_for() {
        let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/outrigger/templates");
        let mut kinds = 0;
        for file in std::fs::read_dir(templates).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for kind in text.lines().filter_map(|line| line.strip_prefix("kind: ")) {
                let resource = format!("{}s", kind.to_lowercase());
                let known = KINDS.iter().any(|right| right.resource == resource);
                assert!(known || OPTIONAL.contains(&kind), "the chart creates {kind}");
                kinds += 1;
            }
        }
        assert!(kinds > KINDS.len(), "only {kinds} kinds were found");
    }
}
