//! Workloads on the command line, as kubectl spells them: `deploy/web`.

use std::fmt;
use std::str::FromStr;

use outrigger_inject::is_live;
use serde_json::Value;

use crate::cluster::{AskError, Cluster};
use crate::error::Hinted;
use crate::output::str_at;

/// A kind of object that is a pod, or makes pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// What it may be called, the resource's name first.
    names: &'static [&'static str],
    camel_case: &'static str,
    group_version: &'static str,
}

/// The kinds, in the order in which those of a namespace are listed.
static KINDS: [Kind; 9] = [
    Kind {
        names: &["deployments", "deployment", "deploy"],
        camel_case: "Deployment",
        group_version: "apps/v1",
    },
    Kind {
        names: &["statefulsets", "statefulset", "sts"],
        camel_case: "StatefulSet",
        group_version: "apps/v1",
    },
    Kind { names: &["daemonsets", "daemonset", "ds"], camel_case: "DaemonSet", group_version: "apps/v1" },
    Kind { names: &["replicasets", "replicaset", "rs"], camel_case: "ReplicaSet", group_version: "apps/v1" },
    Kind {
        names: &["replicationcontrollers", "replicationcontroller", "rc"],
        camel_case: "ReplicationController",
        group_version: "v1",
    },
    Kind { names: &["cronjobs", "cronjob", "cj"], camel_case: "CronJob", group_version: "batch/v1" },
    Kind { names: &["jobs", "job"], camel_case: "Job", group_version: "batch/v1" },
    Kind { names: &["pods", "pod", "po"], camel_case: "Pod", group_version: "v1" },
    Kind { names: &["namespaces", "namespace", "ns"], camel_case: "Namespace", group_version: "v1" },
];

/// The place of pods in that list.
const POD: usize = 7;

impl Kind {
    fn is_namespace(&self) -> bool {
        self.camel_case == "Namespace"
    }

    /// Whether a group behind the kind, as `apps` or `v1.apps`, is this one's; where none is given, it is.
    fn is_of(&self, group: &str) -> bool {
        let own = self.group_version.split_once('/').map_or("", |(group, _)| group);
        group.is_empty() || (!own.is_empty() && group.trim_start_matches("v1.") == own)
    }

    fn path(&self, namespace: &str) -> String {
        let api =
            if self.group_version == "v1" { "/api/v1" } else { &format!("/apis/{}", self.group_version) };
        let place = if self.is_namespace() { String::new() } else { format!("/namespaces/{namespace}") };
        format!("{api}{place}/{}", self.names[0])
    }

    /// An item of a list says not what it is; here it does.
    fn named(&self, mut object: Value) -> Value {
        object["apiVersion"] = self.group_version.into();
        object["kind"] = self.camel_case.into();
        object
    }
}

/// One object by kind and name.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    kind: &'static Kind,
    pub(crate) name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.names[1], self.name)
    }
}

/// Why a text names no workload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("it takes a kind and a name, as deploy/web")]
    NoName,
    #[error("{0:?} is no kind with pods that is known; known: {list}", list = known())]
    UnknownKind(String),
}

fn known() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.names[kind.names.len() - 1]).collect();
    names.join(", ")
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) =
            text.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or(TargetError::NoName)?;
        let kind = known_kind(kind).ok_or_else(|| TargetError::UnknownKind(kind.to_owned()))?;
        Ok(Self { kind, name: name.to_owned() })
    }
}

fn known_kind(word: &str) -> Option<&'static Kind> {
    let lower = word.to_lowercase();
    // `kubectl get -o name` prints `deployment.apps/web`.
    let (bare, group) = lower.split_once('.').unwrap_or((&lower, ""));
    KINDS.iter().find(|known| known.names.contains(&bare) && known.is_of(group))
}

/// The kind that a word names as `Deployment`, among them `Service`, which makes no pods; none where it is no kind that is known.
pub(crate) fn kind_called(word: &str) -> Option<&'static str> {
    let is_service = ["svc", "service", "services"].contains(&&*word.to_lowercase());
    is_service.then_some("Service").or_else(|| known_kind(word).map(|kind| kind.camel_case))
}

impl Target {
    /// API version and kind, where it has replicas that can be set.
    pub(crate) fn scaled(&self) -> Option<(&'static str, &'static str)> {
        let scaled = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];
        scaled.contains(&self.kind.camel_case).then_some((self.kind.group_version, self.kind.camel_case))
    }

    /// The name, where this is a namespace: all that is in it is meant.
    pub(crate) fn as_namespace(&self) -> Option<&str> {
        self.kind.is_namespace().then_some(self.name.as_str())
    }

    /// That there is none of this name.
    pub(crate) fn missing(&self, namespace: &str) -> Hinted {
        if self.kind.is_namespace() {
            return Hinted::new(format!("there is no {self}"), "kubectl get namespaces lists them");
        }
        let hint =
            format!("kubectl get {} --all-namespaces lists them; -n names the namespace", self.kind.names[0]);
        Hinted::new(format!("there is no {self} in namespace {namespace}"), hint)
    }

    /// The object; none if there is none.
    pub(crate) async fn find(&self, cluster: &Cluster, namespace: &str) -> Result<Option<Value>, AskError> {
        let path = format!("{}/{}", self.kind.path(namespace), self.name);
        let found = cluster.find(&path, &format!("read {self} in namespace {namespace}")).await?;
        Ok(found.map(|object| self.kind.named(object)))
    }
}

/// Every workload of a namespace that nothing else has made.
pub(crate) async fn all_of(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>, AskError> {
    let mut workloads = Vec::new();
    for kind in KINDS.iter().filter(|kind| !kind.is_namespace()) {
        let what = format!("list {} in namespace {namespace}", kind.names[0]);
        let keep = |object: Value| {
            let made = object.pointer("/metadata/ownerReferences/0").is_some();
            let over = ["Succeeded", "Failed"].contains(&str_at(&object, "/status/phase"));
            if !made && !over {
                workloads.push(kind.named(object));
            }
        };
        cluster.each(&kind.path(namespace), "", &what, keep).await?;
    }
    Ok(workloads)
}

/// The pods of a workload that run or are about to: itself, or those that its selector selects.
pub(crate) async fn pods_of(
    cluster: &Cluster,
    namespace: &str,
    workload: &Value,
) -> Result<Vec<Value>, AskError> {
    if workload["kind"] == "Pod" {
        return Ok([workload.clone()].into_iter().filter(is_live).collect());
    }
    // A CronJob has none of its own: its Jobs have.
    let Some(selector) = selector(&workload["spec"]["selector"]) else { return Ok(Vec::new()) };
    live_pods(cluster, Some(namespace), &selector).await
}

/// The pods of a namespace, or of all, that run or are about to.
pub(crate) async fn live_pods(
    cluster: &Cluster,
    namespace: Option<&str>,
    selector: &str,
) -> Result<Vec<Value>, AskError> {
    let mut pods = Vec::new();
    let keep = |pod: Value| pods.extend(Some(KINDS[POD].named(pod)).filter(is_live));
    let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    cluster.each(&format!("/api/v1{place}/pods"), selector, "list pods", keep).await?;
    Ok(pods)
}

/// A workload's selector as the API server's query has it; none where there is none, as in a `CronJob`.
fn selector(selector: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // A ReplicationController's is the labels themselves.
    let exact = selector
        .get("matchLabels")
        .or_else(|| selector.get("matchExpressions").is_none().then_some(selector));
    let exact = exact
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)));
    let rules = selector["matchExpressions"].as_array().into_iter().flatten().map(|rule| {
        let values: Vec<_> = rule["values"].as_array().into_iter().flatten().map(text).collect();
        let (key, values) = (str_at(rule, "/key"), values.join(","));
        match str_at(rule, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        }
    });
    let terms: Vec<_> = exact.chain(rules).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_spelt_as_for_kubectl() {
        for (text, wanted) in [
            ("deploy/web", "deployment/web"),
            ("Deployment/web", "deployment/web"),
            ("po/x", "pod/x"),
            ("sts/db", "statefulset/db"),
            ("ns/shop", "namespace/shop"),
            ("deployment.apps/web", "deployment/web"),
            ("cronjobs.v1.batch/night", "cronjob/night"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), wanted);
        }
        assert_eq!("web".parse::<Target>().unwrap_err(), TargetError::NoName);
        assert_eq!("deploy/".parse::<Target>().unwrap_err(), TargetError::NoName);
        assert!("deployment.extensions/web".parse::<Target>().is_err());
        let message = "svc/web".parse::<Target>().unwrap_err().to_string();
        assert_eq!(
            message,
            "\"svc\" is no kind with pods that is known; known: deploy, sts, ds, rs, rc, cj, job, po, ns"
        );
    }

    #[test]
    fn selectors_become_queries() {
        let rules = json!([
            {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
            {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"},
        ]);
        let query = selector(&json!({"matchLabels": {"app": "web"}, "matchExpressions": rules})).unwrap();
        assert_eq!(query, "app=web,a in (x,y),b notin (z),c,!d");
        assert_eq!(selector(&json!({"app": "old"})).unwrap(), "app=old");
        assert_eq!(selector(&Value::Null), None);
        assert_eq!(selector(&json!({"matchLabels": {}})), None);
    }
}
