//! The status annotation: what a pod says was done to it.

use outrigger_api::names::STATUS_ANNOTATION;
use serde_json::Value;

use crate::owned::{OUR_ANNOTATIONS, OUR_CONTAINERS, OUR_LABELS, OUR_VOLUMES, is_our_volume};
use crate::secrets::MAX_SECRETS;
use crate::{Report, UninjectError, probes, remains, scraping, upstreams};

/// Reads it, or what can be told where it is gone. People copy annotations, and write them: a status that lists what injection
/// never adds, changes or creates is refused whole. What a sound one lists is taken out or put back only where the pod
/// shows that it is ours: a forged status can at most give a name to a port that has none.
pub(crate) fn read(pod: &Value) -> Result<Report, UninjectError> {
    let Some(status) = pod["metadata"]["annotations"][STATUS_ANNOTATION].as_str() else {
        return remains::report(pod).ok_or(UninjectError::NotInjected);
    };
    let report: Report = serde_json::from_str(status)?;
    match not_ours(&report) {
        Some(what) => Err(UninjectError::NotOurs(what)),
        None => Ok(report),
    }
}

fn not_ours(report: &Report) -> Option<String> {
    let Report {
        containers,
        volumes,
        rendered,
        ports,
        probes,
        variables,
        mounts,
        annotations,
        created,
        nulls,
        replaced_labels,
        replaced_annotations,
        ..
    } = report;
    let container = containers.iter().find(|name| !OUR_CONTAINERS.contains(&name.as_str())).cloned();
    let volume = volumes.iter().find(|name| !is_our_volume(name)).cloned();
    let ours = |name: &str| OUR_CONTAINERS.contains(&name) || is_our_volume(name);
    let item = rendered.keys().find(|name| !ours(name)).cloned();
    // Each once: what follows looks at each of them for each of the pod's.
    let too_many = containers.len() > OUR_CONTAINERS.len() || volumes.len() > OUR_VOLUMES + MAX_SECRETS;
    let many = || too_many.then(|| "an item twice".to_owned());
    let theirs = |container: &str| !containers.iter().any(|ours| ours == container);
    let port = || {
        let found = ports.iter().find(|port| port.name.is_empty() || !theirs(&port.container))?;
        Some(format!("port {:?} of container {:?}", found.name, found.container))
    };
    let probe = || {
        let found = probes.iter().find(|probe| !probes::is_sound(probe) || !theirs(&probe.container))?;
        Some(format!("{} of container {:?}", found.field, found.container))
    };
    let variable = || {
        let found = variables.iter().find(|set| !upstreams::is_sound(set) || !theirs(&set.container))?;
        Some(format!("variable {:?} of container {:?}", found.name, found.container))
    };
    let mount = || {
        let sound = |mount: &str| mount.split_once(':').is_some_and(|(container, _)| theirs(container));
        mounts.iter().find(|mount| !sound(mount)).map(|mount| format!("mount {mount:?}"))
    };
    let list = || created.iter().chain(nulls).find(|path| !may_be_created(path)).cloned();
    let label = || replaced_labels.keys().find(|label| !OUR_LABELS.contains(&label.as_str())).cloned();
    let annotation =
        || replaced_annotations.keys().find(|key| !OUR_ANNOTATIONS.contains(&key.as_str())).cloned();
    let scraping = || annotations.keys().find(|key| !scraping::keys().contains(key)).cloned();
    container
        .or(volume)
        .or(item)
        .or_else(many)
        .or_else(annotation)
        .or_else(scraping)
        .or_else(label)
        .or_else(port)
        .or_else(probe)
        .or_else(variable)
        .or_else(mount)
        .or_else(list)
}

/// Whether it is a list or map that injection adds to.
fn may_be_created(path: &str) -> bool {
    let fixed =
        ["/metadata", "/metadata/labels", "/metadata/annotations", "/spec/volumes", "/spec/initContainers"];
    let of_container = |path: &str| {
        let index = path
            .strip_prefix("/spec/containers/")
            .or_else(|| path.strip_prefix("/spec/initContainers/"))?
            .strip_suffix("/volumeMounts")?;
        index.parse::<usize>().ok()
    };
    fixed.contains(&path) || of_container(path).is_some()
}
