//! Objects that make pods and that no offline command knows: an Argo Rollout, a Knative Service, a `PodTemplate`.

use outrigger_inject::manifest::{objects, workloads};
use serde_json::Value;

use crate::output::str_at;

/// An object with the template of a pod, of a kind that stays as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    /// `rollout/web`
    pub(crate) name: String,
    /// `argoproj.io/v1alpha1 Rollout`
    pub(crate) kind: String,
    /// Where the template is: `spec.template`
    pub(crate) path: String,
}

/// Those of a document. To pass them over in silence would leave the user to believe that they were injected.
pub(crate) fn strangers(document: &Value) -> Vec<Stranger> {
    let stranger = |object: &Value| {
        let path = template(object, "")?;
        // Only now: to ask needs a copy.
        if !workloads(&mut object.clone()).is_empty() {
            return None;
        }
        let kind = str_at(object, "/kind");
        Some(Stranger {
            name: format!("{}/{}", kind.to_lowercase(), str_at(object, "/metadata/name")),
            kind: format!("{} {kind}", str_at(object, "/apiVersion")),
            path,
        })
    };
    objects(document).into_iter().filter_map(stranger).collect()
}

/// The path of the first map that has a `spec` with a list of containers.
fn template(value: &Value, path: &str) -> Option<String> {
    let (key, map) = match value {
        Value::Object(map) => (None, map.iter().map(|(key, value)| (key.clone(), value)).collect::<Vec<_>>()),
        Value::Array(list) => {
            (Some(()), list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect())
        }
        _ => return None,
    };
    let containers = value.pointer("/spec/containers").and_then(Value::as_array);
    if containers
        .is_some_and(|list| !list.is_empty() && list.iter().all(|container| container["image"].is_string()))
    {
        return Some(path.to_owned());
    }
    let join = |step: &str| match (key, path) {
        (Some(()), _) => format!("{path}[{step}]"),
        (None, "") => step.to_owned(),
        (None, _) => format!("{path}.{step}"),
    };
    map.into_iter().find_map(|(step, value)| template(value, &join(&step)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(object: &Value) -> Vec<Stranger> {
        strangers(object)
    }

    #[test]
    fn kinds_of_others_are_found_by_their_template() {
        let template = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": {"template": template}});
        let [stranger] = &found(&rollout)[..] else { panic!("one") };
        assert_eq!((stranger.name.as_str(), stranger.path.as_str()), ("rollout/web", "spec.template"));
        let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template}});
        assert_eq!(found(&old)[0].kind, "extensions/v1beta1 Deployment");
        let lists = json!({"apiVersion": "x/v1", "kind": "Group", "spec": {"jobs": [{"a": 1}, {"template": template}]}});
        assert_eq!(found(&lists)[0].path, "spec.jobs[1].template");
    }

    #[test]
    fn what_is_known_or_has_no_pod_is_none() {
        let template = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let known = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}});
        let schema = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"containers": {"type": "array"}}});
        assert_eq!(found(&json!({"apiVersion": "v1", "kind": "List", "items": [known, schema]})), []);
    }
}
