//! Log files: which directories of which containers the adapter follows, and where in the shared volume they lie.

use outrigger_api::logs::{LogFormat, LogSource, LogSpec};
use outrigger_api::names::{LOGS_DIR, LOGS_SUB_PATH};
use outrigger_api::profile::SharedMount;

use crate::pod::Pod;

/// The mount that puts each directory into the shared volume, in the order of the profile. The index tells apart what one
/// container has twice.
pub(crate) fn mounts(specs: &[LogSpec]) -> impl Iterator<Item = SharedMount> {
    specs.iter().enumerate().map(|(index, spec)| SharedMount {
        container: spec.container.clone(),
        path: spec.path.clone(),
        sub_path: Some(format!("{LOGS_SUB_PATH}/{}-{index}", spec.container)),
        read_only: false,
    })
}

/// The same, as the adapter sees it.
pub(crate) fn sources(specs: &[LogSpec]) -> Vec<LogSource> {
    let directory = |index: usize, spec: &LogSpec| format!("{LOGS_DIR}/{}-{index}", spec.container);
    specs.iter().enumerate().map(|(index, spec)| spec.source(directory(index, spec))).collect()
}

/// For people: `app:/var/log/app/*.log as json`.
pub(crate) fn described(specs: &[LogSpec]) -> Vec<String> {
    let files = |spec: &LogSpec| {
        let path = spec.path.trim_end_matches('/');
        let files = spec.files.iter().map(|file| format!("{path}/{file}"));
        files.collect::<Vec<_>>().join(", ")
    };
    let format = |format: LogFormat| format!("{format:?}").to_lowercase();
    let line = |spec: &LogSpec| format!("{}:{} as {}", spec.container, files(spec), format(spec.format));
    specs.iter().map(line).collect()
}

/// What the user should know about mounts that were not asked for as mounts; and about the pod's end, where it must be
/// `told_by_hand`.
pub(crate) fn warnings(specs: &[LogSpec], told_by_hand: bool) -> Vec<String> {
    let hidden = |spec: &LogSpec| {
        format!(
            "what the image of container {} has in {} is hidden: the shared volume is mounted there, for the log adapter",
            spec.container, spec.path
        )
    };
    let told = "the log adapter must be told to stop too: `curl -X POST http://localhost:15191/shutdown`";
    let told = (told_by_hand && !specs.is_empty()).then(|| told.to_owned());
    specs.iter().map(hidden).chain(told).collect()
}

/// The user and the group of the containers that write the files, where they name one user that is not root and all the same:
/// who is that user can read what others can't. Elsewhere files must be readable for all, or for the pod's `fsGroup`.
pub(crate) fn writer(pod: Pod, specs: &[LogSpec]) -> Option<(i64, i64)> {
    let id = |container: &str, field: &str| {
        let of_container = pod.container(container)?.json["securityContext"][field].as_i64();
        of_container.or_else(|| pod.at("/spec/securityContext")?[field].as_i64())
    };
    let mut users = specs.iter().map(|spec| id(&spec.container, "runAsUser"));
    let user = users.next()??;
    if user == 0 || !users.all(|other| other == Some(user)) {
        return None;
    }
    let group = specs.first().and_then(|spec| id(&spec.container, "runAsGroup"));
    Some((user, group.unwrap_or(user)))
}
