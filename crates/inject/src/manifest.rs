//! Workloads in manifests: where their pod stands, and what to do with it.

use json_patch::patch;
use serde_json::Value;

use crate::{Namespace, Outcome};

/// One workload of a manifest and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its kind in lower case, as kubectl writes it: `deployment`.
    pub kind: String,
    /// Its name, or its `generateName` with a star.
    pub name: String,
    /// Its namespace, where the manifest gives one.
    pub namespace: Option<String>,
    /// What `inject` said of its pod.
    pub outcome: Outcome,
}

/// Injects every workload of a document, in place: a workload itself, or a List of them (nested ones too). Documents
/// of other kinds stay as they are.
///
/// `decide` is given the workload's namespace, where the manifest has one, and the pod.
pub fn inject_document(
    document: &mut Value,
    decide: &mut dyn FnMut(Option<&str>, &Value) -> Outcome,
) -> Vec<Workload> {
    if is_list(document) {
        let items = document["items"].as_array_mut().map_or(&mut [][..], Vec::as_mut_slice);
        return items.iter_mut().flat_map(|item| inject_document(item, decide)).collect();
    }
    let Some(path) = document["kind"].as_str().and_then(pod_path) else {
        return Vec::new();
    };
    let namespace = document["metadata"]["namespace"].as_str().map(str::to_owned);
    let (kind, name) = (document["kind"].as_str().unwrap_or_default().to_lowercase(), name(document));
    let Some(pod) = document.pointer_mut(path) else {
        return Vec::new();
    };
    let outcome = decide(namespace.as_deref(), pod);
    if let Outcome::Injected { patch: operations, .. } = &outcome {
        patch(pod, operations).expect("inject makes patches that fit the pod they were made for");
    }
    vec![Workload { kind, name, namespace, outcome }]
}

/// The namespaces that a document describes, with their labels and annotations.
pub fn namespaces(document: &Value) -> Vec<Namespace> {
    if is_list(document) {
        return document["items"].as_array().into_iter().flatten().flat_map(namespaces).collect();
    }
    if document["kind"] != "Namespace" {
        return Vec::new();
    }
    let strings = |key: &str| {
        let map = document["metadata"][key].as_object().into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    vec![Namespace { name: name(document), labels: strings("labels"), annotations: strings("annotations") }]
}

/// Where the pod stands in an object of this kind, as a JSON pointer.
fn pod_path(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn is_list(document: &Value) -> bool {
    document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && document["items"].is_array()
}

fn name(document: &Value) -> String {
    let metadata = &document["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}*"),
        (None, None) => "(no name)".to_owned(),
    }
}
