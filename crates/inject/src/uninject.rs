//! The way back: a pod without what injection brought.

use std::collections::{BTreeMap, HashMap};

use outrigger_api::names::{DEFAULT_CONTAINER_ANNOTATION, SHARED_VOLUME, STATUS_ANNOTATION};
use serde_json::{Map, Value};

use crate::owned::{OUR_ANNOTATIONS, OUR_LABELS};
use crate::pod::Pod;
use crate::{MovedPort, Report, probes, status, upstreams};

/// Why a pod could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum UninjectError {
    /// The status annotation is missing: the pod was not injected, or somebody took the annotation off.
    #[error("the pod has no annotation {STATUS_ANNOTATION}: it was not injected")]
    NotInjected,
    /// The status annotation is not ours, or of a version that this one can't read.
    #[error("failed to read annotation {STATUS_ANNOTATION}: {0}")]
    Status(#[from] serde_json::Error),
    /// Without a status annotation nobody knows what a probe that asks the proxy asked before.
    #[error(
        "annotation {STATUS_ANNOTATION} is missing, and with it what {0} asked before it asked the proxy"
    )]
    Probes(String),
    /// The status annotation claims what is the user's.
    #[error("annotation {STATUS_ANNOTATION} lists {0}, which Outrigger never adds or changes")]
    NotOurs(String),
}

/// Takes out what the status annotation lists, and restores what it says was replaced. On a pod as `inject` left it
/// the result equals the original; what others added since stays.
pub fn uninject(pod: &mut Value) -> Result<Report, UninjectError> {
    let report = status::read(pod)?;
    // Told from what is left of a pod without annotations: what stood in its probes is not known.
    if report.config_hash.is_empty()
        && let Some((_, probe)) = probes::asking_the_proxy(Pod::unchecked(pod)).next()
    {
        return Err(UninjectError::Probes(probe));
    }
    take_out(pod, &report);
    Ok(report)
}

/// Takes out what the report lists, and restores what it says was replaced.
pub(crate) fn take_out(pod: &mut Value, report: &Report) {
    for list in ["/spec/containers", "/spec/initContainers"] {
        drop_named(pod.pointer_mut(list), &report.containers);
    }
    drop_named(pod.pointer_mut("/spec/volumes"), &report.volumes);
    let mut containers = containers_by_name(pod);
    for port in &report.ports {
        if let Some(container) = containers.get_mut(port.container.as_str()) {
            restore_port(container, port);
        }
    }
    for probe in &report.probes {
        if let Some(container) = containers.get_mut(probe.container.as_str()) {
            probes::restore(container, probe);
        }
    }
    for set in &report.variables {
        if let Some(container) = containers.get_mut(set.container.as_str()) {
            upstreams::restore(container, set);
        }
    }
    for mount in &report.mounts {
        let (container, path) = mount.split_once(':').unwrap_or_default();
        let mounts = containers.get_mut(container).and_then(|container| container.get_mut("volumeMounts"));
        if let Some(mounts) = mounts.and_then(Value::as_array_mut) {
            mounts.retain(|mount| mount["name"] != SHARED_VOLUME || mount["mountPath"] != path);
        }
    }
    put_back(pod.pointer_mut("/metadata/labels"), &OUR_LABELS, &report.replaced_labels);
    put_back(pod.pointer_mut("/metadata/annotations"), &OUR_ANNOTATIONS, &report.replaced_annotations);
    let default_container = &pod["metadata"]["annotations"][DEFAULT_CONTAINER_ANNOTATION];
    if report.default_container.as_deref().is_some_and(|ours| default_container == ours) {
        drop_key(pod.pointer_mut("/metadata/annotations"), DEFAULT_CONTAINER_ANNOTATION);
    }
    for (key, ours) in &report.annotations {
        if pod["metadata"]["annotations"][key] == ours.as_str() {
            drop_key(pod.pointer_mut("/metadata/annotations"), key);
        }
    }
    // Innermost first: what was null may hold what was created.
    for path in report.created.iter().rev() {
        let Some((parent, field)) = path.rsplit_once('/') else {
            continue;
        };
        if pod.pointer(path).is_some_and(is_empty) {
            drop_key(pod.pointer_mut(parent), field);
        }
    }
    for path in report.nulls.iter().rev() {
        if let Some(value) = pod.pointer_mut(path).filter(|value| is_empty(value)) {
            *value = Value::Null;
        }
    }
}

/// The port may stand in another place by now: others add ports too.
fn restore_port(container: &mut Value, moved: &MovedPort) {
    let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) else {
        return;
    };
    let is_nameless = |port: &Value| port["containerPort"] == moved.port && port.get("name").is_none();
    let index = if ports.get(moved.index).is_some_and(is_nameless) {
        Some(moved.index)
    } else {
        ports.iter().position(is_nameless)
    };
    if let Some(port) = index.and_then(|index| ports[index].as_object_mut()) {
        port.insert("name".to_owned(), moved.name.as_str().into());
    }
}

/// Looked up by name at once: a pod may have hundreds, and each of them ports.
fn containers_by_name(pod: &mut Value) -> HashMap<String, &mut Value> {
    let lists = pod.get_mut("spec").and_then(Value::as_object_mut).into_iter().flat_map(Map::iter_mut);
    let lists = lists.filter(|(list, _)| *list == "containers" || *list == "initContainers");
    let containers = lists.filter_map(|(_, list)| list.as_array_mut()).flatten();
    let mut by_name = HashMap::new();
    for container in containers {
        if let Some(name) = container.get("name").and_then(Value::as_str) {
            by_name.insert(name.to_owned(), container);
        }
    }
    by_name
}

fn drop_named(list: Option<&mut Value>, names: &[String]) {
    if let Some(items) = list.and_then(Value::as_array_mut) {
        items.retain(|item| !names.iter().any(|name| item["name"] == name.as_str()));
    }
}

fn drop_key(map: Option<&mut Value>, key: &str) {
    if let Some(map) = map.and_then(Value::as_object_mut) {
        map.shift_remove(key);
    }
}

/// Takes ours out of a map, or puts what stood there before in their place.
fn put_back(map: Option<&mut Value>, ours: &[&str], replaced: &BTreeMap<String, Value>) {
    let Some(map) = map.and_then(Value::as_object_mut) else { return };
    for key in ours {
        match replaced.get(*key) {
            Some(value) => map.insert((*key).to_owned(), value.clone()),
            None => map.shift_remove(*key),
        };
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}
