//! Workloads in manifests: where their pod stands, and what to do with it.

use json_patch::patch;
use outrigger_api::names::PREFIX;
use serde_json::Value;

use crate::{Namespace, Outcome};

/// One workload of a manifest, and its pod.
#[derive(Debug)]
pub struct Workload<'a> {
    /// Its kind in lower case, as kubectl writes it: `deployment`.
    pub kind: String,
    /// Its name, or its `generateName` with a star.
    pub name: String,
    /// Its namespace, where the manifest gives one.
    pub namespace: Option<String>,
    /// What the user should know about the workload itself: a label or annotation of ours that has no effect where it stands.
    pub warning: Option<String>,
    /// Its pod, or the template of its pods; the workload itself where it has none.
    pub pod: &'a mut Value,
}

impl Workload<'_> {
    /// Carries an outcome out; only an injected pod is changed.
    pub fn apply(&mut self, outcome: &Outcome) {
        if let Outcome::Injected { patch: operations, .. } = outcome {
            patch(self.pod, operations).expect("inject makes patches that fit the pod they were made for");
        }
    }
}

/// Every workload of a document: the document itself, or those in a List (nested ones too). Objects of other kinds are
/// passed over.
pub fn workloads(document: &mut Value) -> Vec<Workload<'_>> {
    if is_list(document) {
        let items = document["items"].as_array_mut().map_or(&mut [][..], Vec::as_mut_slice);
        return items.iter_mut().flat_map(workloads).collect();
    }
    let Some(path) = pod_path(document) else {
        return Vec::new();
    };
    let namespace = document["metadata"]["namespace"].as_str().map(str::to_owned);
    let (kind, name) = (document["kind"].as_str().unwrap_or_default().to_lowercase(), name(document));
    // Without a template the whole object stands for the pod: that is malformed, and is said so.
    let path = if document.pointer(path).is_some() { path } else { "" };
    let warning = misplaced(document, path);
    document
        .pointer_mut(path)
        .map(|pod| Workload { kind, name, namespace, warning, pod })
        .into_iter()
        .collect()
}

/// Pods get the labels and annotations of the template, not those of what makes them.
fn misplaced(object: &Value, path: &str) -> Option<String> {
    if path.is_empty() {
        return None;
    }
    let ours = |map: &'static str| {
        let keys = object["metadata"][map].as_object().into_iter().flatten().map(|(key, _)| key);
        let of_template = object.pointer(path).and_then(|pod| pod.get("metadata")?.get(map));
        let known = move |key: &&String| of_template.is_some_and(|there| there.get(key.as_str()).is_some());
        keys.filter(|key| key.starts_with(PREFIX)).find(|key| !known(key)).map(|key| (map, key))
    };
    let (map, key) = ours("labels").or_else(|| ours("annotations"))?;
    let (kind, what) = (object["kind"].as_str().unwrap_or_default(), map.trim_end_matches('s'));
    let template = path.trim_start_matches('/').replace('/', ".");
    Some(format!(
        "the {what} {key} of the {kind} itself has no effect: put it into {template}.metadata.{map}, whence pods get theirs"
    ))
}

/// The namespaces that a document describes, with their labels and annotations.
pub fn namespaces(document: &Value) -> Vec<Namespace> {
    let is_namespace = |object: &&Value| object["apiVersion"] == "v1" && object["kind"] == "Namespace";
    let strings = |object: &Value, key: &str| {
        let map = object["metadata"][key].as_object().into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let namespace = |object: &Value| Namespace {
        name: name(object),
        labels: strings(object, "labels"),
        annotations: strings(object, "annotations"),
    };
    objects(document).into_iter().filter(is_namespace).map(namespace).collect()
}

/// The objects of a document: those of a List, of Lists in it too, or the document itself.
pub fn objects(document: &Value) -> Vec<&Value> {
    if !is_list(document) {
        return vec![document];
    }
    document["items"].as_array().into_iter().flatten().flat_map(objects).collect()
}

/// Where the pod stands in a workload, as a JSON pointer. By group and kind: other groups have Jobs of their own.
fn pod_path(object: &Value) -> Option<&'static str> {
    let group = object["apiVersion"].as_str()?.rsplit_once('/').map_or("", |(group, _)| group);
    match (group, object["kind"].as_str()?) {
        ("", "Pod") => Some(""),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
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
