//! Who makes a pod, and how to have it made anew.

use serde_json::Value;

use crate::output::str_at;

/// What a user would name: the Deployment and not its `ReplicaSet`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    /// In lower case, as kubectl writes it; `pod` where nobody makes it.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Owner {
    /// By the pod alone, so that no other object has to be read.
    pub(crate) fn of(pod: &Value) -> Self {
        let namespace = str_at(pod, "/metadata/namespace").to_owned();
        let name = str_at(pod, "/metadata/name");
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner["controller"] == true) else {
            return Self { namespace, kind: "pod".to_owned(), name: name.to_owned() };
        };
        let (kind, name) = (str_at(owner, "/kind"), str_at(owner, "/name"));
        // A Deployment calls its ReplicaSets `<its own name>-<hash>`, and labels their pods with the hash.
        let hash = str_at(pod, "/metadata/labels/pod-template-hash");
        let deployment = name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
        let (kind, name) = match deployment {
            Some(deployment) if kind == "ReplicaSet" && !hash.is_empty() => ("Deployment", deployment),
            _ => (kind, name),
        };
        Self { namespace, kind: kind.to_lowercase(), name: name.to_owned() }
    }

    /// The command after which these of its pods are new ones. None for a Job, whose work would be thrown away: its next run brings
    /// what is new.
    pub(crate) fn restart(&self, pods: &[&str]) -> Option<String> {
        let Self { namespace, kind, name } = self;
        match kind.as_str() {
            "deployment" | "statefulset" | "daemonset" => {
                Some(format!("kubectl --namespace {namespace} rollout restart {kind}/{name}"))
            }
            // Nobody would make it again.
            "pod" => Some(format!(
                "kubectl --namespace {namespace} get pod {name} -o yaml | outrigger uninject -f - | kubectl replace --force -f -"
            )),
            "job" => None,
            // Whoever made them makes others.
            _ => Some(format!("kubectl --namespace {namespace} delete pod {}", pods.join(" "))),
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(kind: &str, name: &str, labels: &Value) -> Owner {
        let owners = json!([{"kind": kind, "name": name, "controller": true}]);
        Owner::of(
            &json!({"metadata": {"name": "p", "namespace": "shop", "labels": labels, "ownerReferences": owners}}),
        )
    }

    #[test]
    fn the_owner_is_what_a_user_would_name() {
        let hash = json!({"pod-template-hash": "5d9f"});
        assert_eq!(owner("ReplicaSet", "web-5d9f", &hash).to_string(), "deployment/web");
        assert_eq!(owner("ReplicaSet", "web", &json!({})).to_string(), "replicaset/web");
        // An Argo Rollout's ReplicaSets have another label.
        assert_eq!(
            owner("ReplicaSet", "web-5d9f", &json!({"rollouts-pod-template-hash": "5d9f"})).kind,
            "replicaset"
        );
        assert_eq!(
            owner("ReplicaSet", "old", &json!({})).restart(&["old-1", "old-2"]).unwrap(),
            "kubectl --namespace shop delete pod old-1 old-2"
        );
        // Its work would begin again, or count as failed.
        assert_eq!(owner("Job", "nightly-1", &hash).restart(&["nightly-1-x"]), None);
        let alone = Owner::of(&json!({"metadata": {"name": "p", "namespace": "shop"}}));
        assert!(alone.restart(&["p"]).unwrap().contains("kubectl replace --force"));
    }
}
