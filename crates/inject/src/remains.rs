//! Sidecars in a pod that has lost its annotations, as the copies that `kubectl debug --copy-to` makes by default.
//!
//! The containers and volumes are the proof; what else was done is read from them as far as it can be.

use outrigger_api::config::Protocol;
use outrigger_api::names::{ADMIN_PORT, CONFIG_ANNOTATION, CONFIG_VOLUME, PROXY_CONTAINER, SHARED_VOLUME};
use serde_json::Value;

use crate::owned::{OUR_CONTAINERS, is_our_volume};
use crate::pod::{Container, Pod};
use crate::{MovedPort, Report};

/// What can be told without a status annotation; none where the pod has no sidecars of ours.
///
/// The ports that have no name now are taken to be those whose name the proxy has, in the order of both. In a pod that
/// had unnamed ports before, that may be a wrong one; no Service leads there, since a copy has no labels either.
pub(crate) fn report(json: &Value) -> Option<Report> {
    let pod = Pod::new(json).ok()?;
    let volumes = json["spec"]["volumes"].as_array()?;
    let of_config = format!("metadata.annotations['{CONFIG_ANNOTATION}']");
    let is_config = |volume: &&Value| volume["name"] == CONFIG_VOLUME;
    let config = volumes.iter().find(is_config)?;
    if config["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] != of_config.as_str() {
        return None;
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = pod.containers().partition(|container| is_sidecar(*container));
    let proxy = ours.iter().find(|container| container.name == PROXY_CONTAINER)?;
    let free = theirs.iter().filter(|container| container.is_long_running()).flat_map(|container| {
        container.tcp_ports().filter(|port| port.name.is_none()).map(|port| (container.name, port))
    });
    let taken = proxy.tcp_ports().filter(|port| port.number != ADMIN_PORT);
    let ports = taken.zip(free).filter_map(|(taken, (container, port))| {
        Some(MovedPort {
            container: container.to_owned(),
            index: port.index,
            name: taken.name?.to_owned(),
            port: port.number,
            listen: taken.number,
            protocol: Protocol::Tcp,
        })
    });
    let names = volumes.iter().filter_map(|volume| volume["name"].as_str());
    Some(Report {
        containers: ours.iter().map(|container| container.name.to_owned()).collect(),
        volumes: names.filter(|name| is_our_volume(name)).map(str::to_owned).collect(),
        ports: ports.collect(),
        mounts: theirs.iter().flat_map(|container| shared_mounts(*container)).collect(),
        ..Report::default()
    })
}

/// A container of ours by its name, and because it reads the sidecar config.
fn is_sidecar(container: Container) -> bool {
    let mounts = container.json["volumeMounts"].as_array().into_iter().flatten();
    OUR_CONTAINERS.contains(&container.name) && mounts.into_iter().any(|mount| mount["name"] == CONFIG_VOLUME)
}

fn shared_mounts(container: Container) -> Vec<String> {
    let mounts = container.json["volumeMounts"].as_array().into_iter().flatten();
    let shared = mounts.filter(|mount| mount["name"] == SHARED_VOLUME);
    shared.filter_map(|mount| Some(format!("{}:{}", container.name, mount["mountPath"].as_str()?))).collect()
}
