//! The shared volume: an emptyDir, mounted in the containers that the profile names.

use outrigger_api::Reason;
use outrigger_api::names::SHARED_VOLUME;
use outrigger_api::profile::{SharedMount, SharedVolumeSpec};
use serde_json::{Value, json};

use crate::outcome::Refusal;
use crate::pod::{Container, Pod};

/// Finds the container of each mount, and refuses what the kubelet would.
pub(crate) fn plan<'a>(
    pod: Pod<'a>,
    spec: &'a SharedVolumeSpec,
) -> Result<Vec<(Container<'a>, &'a SharedMount)>, Refusal> {
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let Some(container) = pod.container(&mount.container) else {
            let names: Vec<_> = pod.containers().map(|container| container.name).collect();
            return Err(Refusal::rejected(
                Reason::ContainerNotFound,
                format!(
                    "the profile mounts the shared volume in container {}, which the pod does not have: {}",
                    mount.container,
                    names.join(", ")
                ),
            ));
        };
        if mount_paths(container).any(|path| path.trim_end_matches('/') == mount.path.trim_end_matches('/')) {
            return Err(Refusal::rejected(
                Reason::MountCollision,
                format!(
                    "container {} already mounts something on {}; let the profile use another path",
                    mount.container, mount.path
                ),
            ));
        }
        mounts.push((container, mount));
    }
    Ok(mounts)
}

pub(crate) fn volume(spec: &SharedVolumeSpec) -> Value {
    let limit = spec.size_limit.as_ref().map_or_else(|| json!({}), |limit| json!({"sizeLimit": limit}));
    json!({"name": SHARED_VOLUME, "emptyDir": limit})
}

pub(crate) fn mount(spec: &SharedMount) -> Value {
    let mut mount = json!({"name": SHARED_VOLUME, "mountPath": spec.path});
    if spec.read_only {
        mount["readOnly"] = true.into();
    }
    mount
}

fn mount_paths(container: Container<'_>) -> impl Iterator<Item = &str> {
    let mounts = container.json["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
    mounts.iter().filter_map(|mount| mount["mountPath"].as_str())
}
