//! The shared volume: an emptyDir, mounted in the containers that the profile names and where the log adapter reads.

use std::collections::HashSet;

use outrigger_api::Reason;
use outrigger_api::names::SHARED_VOLUME;
use outrigger_api::profile::{SharedMount, SharedVolumeSpec};
use serde_json::{Value, json};

use crate::outcome::Refusal;
use crate::pod::{Container, Pod};

/// Finds the container of each mount, and refuses what the kubelet would.
pub(crate) fn plan(
    pod: Pod<'_>,
    wanted: impl Iterator<Item = SharedMount>,
) -> Result<Vec<(Container<'_>, SharedMount)>, Refusal> {
    let mut mounts: Vec<(Container, SharedMount)> = Vec::new();
    let (mut reason, mut errors) = (None, Vec::new());
    let mut read_only = None;
    for mount in wanted {
        let Some(container) = pod.container(&mount.container) else {
            reason.get_or_insert(Reason::ContainerNotFound);
            errors.push(format!(
                "{} of container {} is to lie in the shared volume, and the pod has no such container: {}",
                mount.path,
                mount.container,
                names(pod)
            ));
            continue;
        };
        let read_only = &*read_only.get_or_insert_with(|| read_only_volumes(pod));
        let of_ours = mounts
            .iter()
            .filter(|(other, _)| other.name == container.name)
            .map(|(_, ours)| Mounted::of_ours(ours));
        let theirs = container.json["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
        let mut taken =
            theirs.iter().filter_map(|theirs| Mounted::of_theirs(theirs, read_only)).chain(of_ours);
        if let Some(why) = taken.find_map(|taken| collision(container.name, &taken, &mount)) {
            reason.get_or_insert(Reason::MountCollision);
            errors.push(format!("{why}; use another path"));
        }
        mounts.push((container, mount));
    }
    match reason {
        None => Ok(mounts),
        Some(reason) => Err(Refusal::Rejected { reason, errors }),
    }
}

/// The first ten containers: of a pod with thousands nobody reads more.
fn names(pod: Pod) -> String {
    let mut names: Vec<_> = pod.containers().map(|container| container.name).take(11).collect();
    if names.len() > 10 {
        names[10] = "…";
    }
    names.join(", ")
}

pub(crate) fn volume(spec: Option<&SharedVolumeSpec>) -> Value {
    let limit = spec.and_then(|spec| spec.size_limit.as_ref());
    let limit = limit.map_or_else(|| json!({}), |limit| json!({"sizeLimit": limit}));
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

/// A place in a container where something is mounted already.
struct Mounted<'a> {
    path: &'a str,
    read_only: bool,
}

impl<'a> Mounted<'a> {
    fn of_ours(mount: &'a SharedMount) -> Self {
        Self { path: &mount.path, read_only: mount.read_only }
    }

    /// Nothing can be made in a mount that says so, or whose volume is of a kind that is always mounted so.
    fn of_theirs(mount: &'a Value, volumes: &HashSet<&str>) -> Option<Self> {
        let of_volume = mount["name"].as_str().is_some_and(|volume| volumes.contains(volume));
        Some(Self { path: mount["mountPath"].as_str()?, read_only: mount["readOnly"] == true || of_volume })
    }
}

/// What keeps the shared volume from being mounted there. The API server refuses two mounts on one path. One mount in another is
/// fine: the inner one's directory is made in the outer one, which takes an outer one that can be written to.
fn collision(name: &str, taken: &Mounted, ours: &SharedMount) -> Option<String> {
    let (of_ours, of_theirs): (Vec<_>, Vec<_>) =
        (components(&ours.path).collect(), components(taken.path).collect());
    let (path, our_path) = (taken.path, &ours.path);
    if of_theirs == of_ours {
        return Some(format!("container {name} already mounts something on {our_path}"));
    }
    if of_ours.starts_with(&of_theirs) && taken.read_only {
        return Some(format!(
            "container {name} mounts a read-only volume on {path}, in which {our_path} can't be made"
        ));
    }
    (of_theirs.starts_with(&of_ours) && ours.read_only).then(|| {
        format!(
            "container {name} mounts something on {path}, which can't be made in {our_path}, read-only there"
        )
    })
}

/// The parts of a path: `/srv//www/` and `/srv/./www` are one.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// The volumes that nothing can be made in.
fn read_only_volumes(pod: Pod<'_>) -> HashSet<&str> {
    let kinds = ["configMap", "secret", "projected", "downwardAPI"];
    let volumes = pod.volumes().iter().filter(|volume| kinds.iter().any(|kind| volume.get(kind).is_some()));
    volumes.filter_map(|volume| volume["name"].as_str()).collect()
}
