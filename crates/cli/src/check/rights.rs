//! Rights: yours to install, and the webhook's to work.

use serde_json::{Value, json};

use super::line::Lines;
use crate::cluster::{AskError, Cluster};
use crate::installation::Installation;
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

/// What the webhook can't do its work without, in every namespace. More, as for Events, it does without.
const NEEDED: [Right; 4] = [
    Right { group: "", resource: "namespaces", verbs: &["get", "list", "watch"] },
    Right { group: "outrigger.dev", resource: "sidecarprofiles", verbs: &["get", "list", "watch"] },
    // Without their versions it is not ready.
    Right { group: "", resource: "nodes", verbs: &["list", "watch"] },
    // To count those that were missed.
    Right { group: "", resource: "pods", verbs: &["list"] },
];

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

/// Whether the webhook's service account may do what the webhook does.
pub(crate) async fn of_the_webhook(cluster: &Cluster, installation: &Installation, lines: &mut Lines) {
    lines.progress("the webhook's rights");
    let Installation { name, namespace, .. } = installation;
    let own = Right {
        group: "admissionregistration.k8s.io",
        resource: "mutatingwebhookconfigurations",
        verbs: &["get"],
    };
    let everywhere = NEEDED.iter().map(|right| (right, "")).chain([(&own, name.as_str())]);
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let mut missing = Vec::new();
    for (right, object) in everywhere {
        for verb in right.verbs {
            let spec = json!({"user": user, "resourceAttributes": attributes(right, verb, "", object)});
            match lines.answer(WEBHOOKS, allowed(cluster, "SubjectAccessReview", &spec).await) {
                None => return,
                Some(true) => {}
                Some(false) => missing.push(format!("{verb} {}", named(right))),
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
    if right.group.is_empty() {
        right.resource.to_owned()
    } else {
        format!("{}.{}", right.resource, right.group)
    }
}

fn attributes(right: &Right, verb: &str, namespace: &str, name: &str) -> Value {
    json!({"group": right.group, "resource": right.resource, "verb": verb, "namespace": namespace, "name": name})
}

async fn allowed(cluster: &Cluster, kind: &str, spec: &Value) -> Result<bool, AskError> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let path = format!("/apis/authorization.k8s.io/v1/{}s", kind.to_lowercase());
    let answer = cluster.create(&path, &review, "ask about rights").await?;
    debug_assert!(str_at(&answer, "/kind").is_empty() || str_at(&answer, "/kind") == kind);
    Ok(answer["status"]["allowed"] == true)
}
