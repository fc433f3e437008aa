//! What a pod's own object tells: who it is, where its sidecar answers, by what it was injected.

use std::net::{IpAddr, SocketAddr};

use outrigger_api::names::{
    ADMIN_PORT_NAME, CONFIG_ANNOTATION, INJECTED_LABEL, LOGS_ADMIN_PORT_NAME, STATUS_ANNOTATION,
    SYNC_ADMIN_PORT_NAME,
};
use serde_json::Value;

/// Shown instead of a secret.
const HIDDEN: &str = "(hidden)";

/// A namespace and a name: of a pod, or of the workload that made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The namespace.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
}

/// An injected pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    /// Its own name.
    pub(crate) key: Key,
    /// The name of what made it: pods with the same one are peers.
    pub(crate) workload: String,
    /// `Deployment`, `StatefulSet`, ...; `Pod` where nothing made it.
    pub(crate) kind: String,
    /// Its own; none before it has one.
    pub(crate) address: Option<IpAddr>,
    /// Where its proxy answers.
    pub(crate) admin: Option<SocketAddr>,
    /// Where its log adapter answers, if it has one.
    pub(crate) logs_admin: Option<SocketAddr>,
    /// Where its content sync answers, if it has one.
    pub(crate) sync_admin: Option<SocketAddr>,
    /// For `/stats`.
    pub(crate) token: String,
    /// Name and host of whom the app calls, as its config says.
    pub(crate) upstreams: Vec<(String, String)>,
    /// Whether Kubernetes holds it for ready.
    pub(crate) ready: bool,
    /// `Running`, `Pending`, ...
    pub(crate) phase: String,
    /// How often its containers were started again.
    pub(crate) restarts: u64,
    /// The node it runs on.
    pub(crate) node: String,
    /// The profile, as `namespace/name`.
    pub(crate) profile: String,
    /// Its config as JSON, without the token.
    pub(crate) config: String,
    /// What injection did to it, as JSON.
    pub(crate) report: String,
    /// Its labels, by which autoscalers select.
    pub(crate) labels: Vec<(String, String)>,
}

impl Pod {
    /// From the object; `None` where it is not injected, or has ended for good.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let phase = text(&status["phase"]);
        if metadata["labels"][INJECTED_LABEL] != "true" || ["Succeeded", "Failed"].contains(&phase.as_str()) {
            return None;
        }
        // Not as `SidecarConfig`: a document of a newer version, or one that somebody has broken, still has a token.
        let document = metadata["annotations"][CONFIG_ANNOTATION].as_str().unwrap_or("{}");
        let config: Value = serde_json::from_str(document).unwrap_or_default();
        let key = Key { namespace: text(&metadata["namespace"]), name: text(&metadata["name"]) };
        let (kind, workload) = owner(metadata, &key.name);
        let address = status["podIP"].as_str().and_then(|address| address.parse::<IpAddr>().ok());
        let containers = ["containerStatuses", "initContainerStatuses"];
        let statuses = containers.iter().filter_map(|list| status[list].as_array()).flatten();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        Some(Self {
            workload,
            kind,
            address,
            admin: address.zip(port(object, ADMIN_PORT_NAME)).map(Into::into),
            logs_admin: address.zip(port(object, LOGS_ADMIN_PORT_NAME)).map(Into::into),
            sync_admin: address.zip(port(object, SYNC_ADMIN_PORT_NAME)).map(Into::into),
            upstreams: upstreams(&config),
            ready: status["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready)),
            phase,
            restarts: statuses.filter_map(|container| container["restartCount"].as_u64()).sum(),
            node: text(&object["spec"]["nodeName"]),
            profile: text(&config["profile"]),
            token: text(&config["token"]),
            config: without_secrets(config),
            report: report(&metadata["annotations"][STATUS_ANNOTATION]),
            labels: labels(&metadata["labels"]),
            key,
        })
    }

    /// The workload that it belongs to.
    pub(crate) fn service(&self) -> Key {
        Key { namespace: self.key.namespace.clone(), name: self.workload.clone() }
    }
}

/// Of a container port with this name, on which an admin server listens.
fn port(object: &Value, name: &str) -> Option<u16> {
    let lists = ["initContainers", "containers"].iter().filter_map(|list| object["spec"][list].as_array());
    let mut ports = lists.flatten().filter_map(|container| container["ports"].as_array()).flatten();
    let port = ports.find(|port| port["name"] == name)?;
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

/// Kind and name of what made the pod. A `ReplicaSet` is a Deployment's, whose name it has before the hash.
fn owner(metadata: &Value, pod: &str) -> (String, String) {
    let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    let Some((kind, name)) =
        controller.and_then(|owner| Some((owner["kind"].as_str()?, owner["name"].as_str()?)))
    else {
        return ("Pod".to_owned(), pod.to_owned());
    };
    let hash = metadata["labels"]["pod-template-hash"].as_str().unwrap_or_default();
    let deployment = name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
    match deployment.filter(|_| kind == "ReplicaSet" && !hash.is_empty()) {
        Some(deployment) => ("Deployment".to_owned(), deployment.to_owned()),
        None => (kind.to_owned(), name.to_owned()),
    }
}

fn labels(labels: &Value) -> Vec<(String, String)> {
    let labels = labels.as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn upstreams(config: &Value) -> Vec<(String, String)> {
    let entries = config["upstreams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["host"].as_str()?.to_owned()));
    entries.iter().filter_map(pair).collect()
}

/// A config names Secrets and holds none, but for the token. Whatever bears the name of a credential is hidden, wherever it stands,
/// also in what people wrote into the annotation themselves. A header that is set is a name with a value, and that is hidden whatever the
/// name: too many of those that hold a credential don't say so (`Ocp-Apim-Subscription-Key`).
fn without_secrets(mut document: Value) -> String {
    hide(&mut document);
    document.to_string()
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_header = fields.len() == 2 && fields.contains_key("name");
            for (name, value) in fields.iter_mut() {
                if is_credential(name) || (is_header && name == "value") {
                    hide_strings(value);
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Objects tell where a credential is.
fn hide_strings(value: &mut Value) {
    match value {
        Value::String(text) => HIDDEN.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide_strings),
        _ => hide(value),
    }
}

/// Whether a field or header of this name holds one, and doesn't tell where it is, as `secretName` or `tokenFile`.
fn is_credential(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "token",
        "password",
        "passwd",
        "secret",
        "apikey",
        "accesskey",
        "privatekey",
        "authorization",
        "cookie",
        "credential",
        "xauth",
        "bearer",
    ];
    const PLACES: [&str; 5] = ["name", "file", "path", "ref", "directory"];
    let name = name.to_lowercase().replace(['-', '_'], "");
    WORDS.iter().any(|word| name.contains(word)) && !PLACES.iter().any(|place| name.ends_with(place))
}

fn report(annotation: &Value) -> String {
    without_secrets(serde_json::from_str(annotation.as_str().unwrap_or("{}")).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A pod of a Deployment, as the API server tells it.
    pub(crate) fn object(namespace: &str, deployment: &str, number: usize, address: &str) -> Value {
        let config = json!({"version": 1, "profile": "outrigger-system/default", "token": "s3cret",
            "upstreams": [{"name": "api", "host": "api.shop.svc", "port": 80}]});
        json!({
            "metadata": {
                "namespace": namespace, "name": format!("{deployment}-5d9f-{number}"),
                "labels": {INJECTED_LABEL: "true", "pod-template-hash": "5d9f"},
                "annotations": {CONFIG_ANNOTATION: config.to_string(), STATUS_ANNOTATION: "{\"version\":\"0.1.0\"}"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{deployment}-5d9f"), "controller": true}],
            },
            "spec": {"nodeName": "node-1", "initContainers": [
                {"name": "outrigger-proxy", "ports": [{"name": "outrigger-admin", "containerPort": 15190}]},
            ]},
            "status": {
                "phase": "Running", "podIP": address,
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"restartCount": 1}], "initContainerStatuses": [{"restartCount": 2}],
            },
        })
    }

    #[test]
    fn a_pod_says_who_made_it_and_where_its_sidecar_answers() {
        let pod = Pod::of(&object("shop", "api", 1, "10.0.0.7")).unwrap();
        assert_eq!((pod.kind.as_str(), pod.workload.as_str(), pod.restarts), ("Deployment", "api", 3));
        assert_eq!(pod.admin, Some("10.0.0.7:15190".parse().unwrap()));
        assert_eq!(pod.logs_admin, None);
        assert_eq!(pod.upstreams, [("api".to_owned(), "api.shop.svc".to_owned())]);
    }

    #[test]
    fn the_token_is_kept_for_stats_and_shown_to_nobody() {
        let pod = Pod::of(&object("shop", "api", 1, "10.0.0.7")).unwrap();
        assert_eq!(pod.token, "s3cret");
        assert!(!pod.config.contains("s3cret") && pod.config.contains(HIDDEN), "{}", pod.config);
        let nested = without_secrets(json!({"a": [{"Password": "x", "token": {"secretName": "y"}}]}));
        assert_eq!(nested, r#"{"a":[{"Password":"(hidden)","token":{"secretName":"y"}}]}"#);
    }

    #[test]
    fn values_of_headers_and_lists_are_hidden() {
        let shown = without_secrets(json!({
            "requestHeaders": {"set": [{"name": "Authorization", "value": "Bearer s3cret"},
                {"name": "x-api-key", "value": "s3cret"}, {"name": "Ocp-Apim-Subscription-Key", "value": "s3cret"}]},
            "upstreams": [{"name": "token-service", "host": "token.shop.svc", "port": 80}],
            "clientSecret": "s3cret", "authorization": ["s3cret", ["s3cret"]], "Set-Cookie": "s3cret",
            "auth": {"API_KEY": "s3cret", "tokenFile": "/run/token", "secretName": "shop-tokens"},
        }));
        assert!(!shown.contains("s3cret"), "{shown}");
        for plain in ["x-api-key", "token.shop.svc", "/run/token", "shop-tokens"] {
            assert!(shown.contains(plain), "{plain} of {shown}");
        }
    }

    #[test]
    fn pods_without_sidecar_and_those_that_ended_are_none() {
        let mut ended = object("shop", "api", 1, "10.0.0.7");
        ended["status"]["phase"] = "Succeeded".into();
        assert_eq!(Pod::of(&ended), None);
        let mut plain = object("shop", "api", 1, "10.0.0.7");
        plain["metadata"]["labels"] = json!({});
        assert_eq!(Pod::of(&plain), None);
        assert_eq!(Pod::of(&json!(null)), None);
    }

    #[test]
    fn a_pod_of_its_own_is_its_own_workload() {
        let mut alone = object("shop", "api", 1, "10.0.0.7");
        alone["metadata"]["ownerReferences"] = json!([]);
        let pod = Pod::of(&alone).unwrap();
        assert_eq!((pod.kind.as_str(), pod.workload.as_str()), ("Pod", "api-5d9f-1"));
    }
}
