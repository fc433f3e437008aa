//! Rights: yours to install, and the webhook's to work.

use serde_json::{Value, json};

use super::line::Lines;
use crate::cluster::{AskError, Cluster};
use crate::installation::{Installation, TlsMode, flag, has_flag};
use crate::output::str_at;

/// A right as RBAC has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) verbs: &'static [&'static str],
}

const YOURS: &str = "YourRights";
const WEBHOOKS: &str = "WebhookRights";

/// What the chart grants the webhook in every namespace, whatever its values.
const EVERYWHERE: [Right; 6] = [
    Right { group: "", resource: "namespaces", verbs: &["get", "list", "watch"] },
    Right { group: "outrigger.dev", resource: "sidecarprofiles", verbs: &["get", "list", "watch"] },
    Right { group: "outrigger.dev", resource: "sidecarprofiles/status", verbs: &["patch"] },
    Right { group: "", resource: "pods", verbs: &["list"] },
    Right { group: "", resource: "nodes", verbs: &["list", "watch"] },
    Right { group: "events.k8s.io", resource: "events", verbs: &["create", "patch"] },
];

/// A right, and the object that it is for; both empty where it is for all.
struct Grant {
    right: Right,
    namespace: String,
    name: String,
}

/// Whether the caller may create what the chart creates.
pub(crate) async fn of_the_caller(cluster: &Cluster, namespace: &str, kinds: &[Right], lines: &mut Lines) {
    let mut missing = Vec::new();
    for right in kinds {
        for verb in right.verbs {
            lines.progress(&format!("may you {verb} {}", right.resource));
            let spec = json!({"resourceAttributes": attributes(right, verb, namespace, "")});
            match lines.answer(YOURS, allowed(cluster, "SelfSubjectAccessReview", &spec).await) {
                None => return,
                Some(true) => {}
                Some(false) => missing.push(format!("{verb} {}", named(right))),
            }
        }
    }
    if missing.is_empty() {
        lines.good(YOURS, "you may create all that the chart creates");
    } else {
        let message = format!("you may not {}", missing.join(", "));
        lines.failed(
            YOURS,
            message,
            "kubectl auth can-i --list; let somebody install it who may, such as cluster-admin",
        );
    }
}

/// What the chart grants the webhook: its `templates/rbac.yaml`, by the values that show in the Deployment. Without it, what
/// it grants whatever they are.
fn granted(installation: &Installation, deployment: Option<&Value>) -> Vec<Grant> {
    let Installation { name, namespace, .. } = installation;
    let to = |namespace: &str, name: &str, group, resource, verbs| {
        let right = Right { group, resource, verbs };
        Grant { right, namespace: namespace.to_owned(), name: name.to_owned() }
    };
    let configuration =
        |verbs| to("", name, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", verbs);
    let mut granted: Vec<_> =
        EVERYWHERE.map(|right| to("", "", right.group, right.resource, right.verbs)).into();
    granted.push(configuration(&["get"]));
    let Some(deployment) = deployment else { return granted };
    let lease = flag(deployment, "lease").unwrap_or(name);
    granted.push(to(namespace, lease, "coordination.k8s.io", "leases", &["get", "update"]));
    let mode = installation.tls_mode(deployment);
    let secret: &[_] =
        if mode == TlsMode::Own { &["get", "create", "patch", "update"] } else { &["get", "list", "watch"] };
    granted.push(to(namespace, &installation.secret(deployment), "", "secrets", secret));
    if mode != TlsMode::CertManager {
        granted.push(configuration(&["patch"]));
    }
    if has_flag(deployment, "live-reload") {
        granted.push(to("", "", "", "pods", &["patch"]));
    }
    granted
}

/// Whether the webhook's service account may do what the chart lets it.
pub(crate) async fn of_the_webhook(
    cluster: &Cluster,
    installation: &Installation,
    deployment: Option<&Value>,
    lines: &mut Lines,
) {
    lines.progress("the webhook's rights");
    let Installation { name, namespace, .. } = installation;
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let mut missing = Vec::new();
    for Grant { right, namespace, name } in granted(installation, deployment) {
        let object = if name.is_empty() { String::new() } else { format!("/{name}") };
        for verb in right.verbs {
            let spec =
                json!({"user": user, "resourceAttributes": attributes(&right, verb, &namespace, &name)});
            match lines.answer(WEBHOOKS, allowed(cluster, "SubjectAccessReview", &spec).await) {
                None => return,
                Some(true) => {}
                Some(false) => missing.push(format!("{verb} {}{object}", named(&right))),
            }
        }
    }
    if missing.is_empty() {
        lines.good(WEBHOOKS, "the webhook has its rights");
    } else {
        let message = format!("service account {name} of the webhook may not {}", missing.join(", "));
        lines.failed(WEBHOOKS, message, super::webhook::upgrade(installation));
    }
}

fn named(right: &Right) -> String {
    let dot = if right.group.is_empty() { "" } else { "." };
    let (resource, subresource) =
        right.resource.split_at(right.resource.find('/').unwrap_or(right.resource.len()));
    format!("{resource}{dot}{}{subresource}", right.group)
}

fn attributes(right: &Right, verb: &str, namespace: &str, name: &str) -> Value {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    json!({
        "group": right.group, "resource": resource, "subresource": subresource,
        "verb": verb, "namespace": namespace, "name": name,
    })
}

async fn allowed(cluster: &Cluster, kind: &str, spec: &Value) -> Result<bool, AskError> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let path = format!("/apis/authorization.k8s.io/v1/{}s", kind.to_lowercase());
    let answer = cluster.create(&path, &review, "ask about rights").await?;
    debug_assert!(str_at(&answer, "/kind").is_empty() || str_at(&answer, "/kind") == kind);
    Ok(answer["status"]["allowed"] == true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// By each `tls.mode`, with and without live reload.
    fn asked() -> BTreeSet<[String; 3]> {
        let mut asked = BTreeSet::new();
        for (mode, cert_manager) in [("self", false), ("secret", true), ("secret", false)] {
            let installation = Installation {
                name: "outrigger-webhook".to_owned(),
                namespace: "outrigger-system".to_owned(),
                release: "outrigger".to_owned(),
                service: "outrigger-webhook".to_owned(),
                cert_manager,
                entries: Vec::new(),
            };
            let args = json!(["webhook", format!("--tls-mode={mode}"), "--live-reload"]);
            let deployment = json!({"spec": {"template": {"spec": {"containers": [{"args": args}]}}}});
            for Grant { right, .. } in granted(&installation, Some(&deployment)) {
                asked.extend(
                    right.verbs.iter().map(|verb| [right.group, right.resource, verb].map(str::to_owned)),
                );
            }
        }
        asked
    }

    /// The verbs of a line may stand in expressions of the template: all that any value grants.
    #[test]
    fn every_right_that_the_chart_grants_is_asked_for_and_no_other() {
        const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
        let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/outrigger/templates/rbac.yaml");
        let text = std::fs::read_to_string(template).unwrap();
        // What follows is granted to users, for profiles of their own.
        let (webhooks, _) = text.split_once("# Profiles are their namespace's own affair").unwrap();
        let mut granted = BTreeSet::new();
        let (mut group, mut resource) = (String::new(), String::new());
        let list = |value: &str| value.trim_matches(['[', ']', '"']).to_owned();
        for line in webhooks.lines().map(|line| line.trim().trim_start_matches("- ")) {
            match line.split_once(": ") {
                Some(("apiGroups", value)) => group = list(value),
                Some(("resources", value)) => resource = list(value),
                Some(("verbs", value)) => {
                    let words = value.split(|c: char| !c.is_ascii_alphabetic());
                    let verbs = words.filter(|word| VERBS.contains(word));
                    granted.extend(verbs.map(|verb| [group.clone(), resource.clone(), verb.to_owned()]));
                }
                _ => {}
            }
        }
        assert_eq!(asked(), granted);
    }
}
