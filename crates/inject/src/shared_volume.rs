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
        if let Some(why) = collision(pod, container, mount) {
            let message = format!("{why}; let the profile's sharedVolume use another path");
            return Err(Refusal::rejected(Reason::MountCollision, message));
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
    if let Some(path) = &spec.sub_path {
        mount["subPath"] = path.as_str().into();
    }
    if spec.read_only {
        mount["readOnly"] = true.into();
    }
    mount
}

/// What keeps the shared volume from being mounted there. The API server refuses two mounts on one path. One mount in another is
/// fine: the inner one's directory is made in the outer one, which takes an outer one that can be written to.
fn collision(pod: Pod, container: Container, ours: &SharedMount) -> Option<String> {
    let of_ours: Vec<_> = components(&ours.path).collect();
    let mounts = container.json["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
    mounts.iter().find_map(|theirs| {
        let path = theirs["mountPath"].as_str()?;
        let of_theirs: Vec<_> = components(path).collect();
        let (name, our_path) = (container.name, &ours.path);
        if of_theirs == of_ours {
            return Some(format!("container {name} already mounts something on {our_path}"));
        }
        if of_ours.starts_with(&of_theirs) && is_read_only(pod, theirs) {
            return Some(format!("container {name} mounts a read-only volume on {path}, in which {our_path} can't be made"));
        }
        (of_theirs.starts_with(&of_ours) && ours.read_only).then(|| {
            format!("container {name} mounts something on {path}, which can't be made in {our_path}, read-only there")
        })
    })
}

/// The parts of a path: `/srv//www/` and `/srv/./www` are one.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// Whether nothing can be made in a mount: it says so, or its volume is of a kind that is always mounted so.
fn is_read_only(pod: Pod, mount: &Value) -> bool {
    let kinds = ["configMap", "secret", "projected", "downwardAPI"];
    let volume = || pod.volumes().iter().find(|volume| volume["name"] == mount["name"]);
    mount["readOnly"] == true
        || volume().is_some_and(|volume| kinds.iter().any(|kind| volume.get(kind).is_some()))
}
