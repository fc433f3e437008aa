//! Hot plug: which repositories are followed for which containers, and what of the pod that takes.

use outrigger_api::Reason;
use outrigger_api::names::{SYNC_DIR, SYNC_SUB_PATH, SYNC_TREE};
use outrigger_api::profile::SharedMount;
use outrigger_api::sync::{ReadyCheck, SyncSource, SyncSpec};
use serde_json::Value;

use crate::outcome::{Placement, Refusal};
use crate::pod::{Container, Pod};

/// The highest count of a probe: Kubernetes keeps it in 32 bits.
const MOST_SECONDS: u64 = (1 << 31) - 1;

/// The mount that shows each container its files, in the order of the profile. Read-only: what the app wrote there would go with the
/// version.
pub(crate) fn mounts(specs: &[SyncSpec]) -> impl Iterator<Item = SharedMount> {
    specs.iter().enumerate().map(|(index, spec)| SharedMount {
        container: spec.container.clone(),
        path: spec.path.clone(),
        sub_path: Some(format!("{SYNC_SUB_PATH}/{}-{index}/{SYNC_TREE}", spec.container)),
        read_only: true,
    })
}

/// The entries of the sidecar's config.
pub(crate) fn sources(pod: Pod, specs: &[SyncSpec]) -> Vec<SyncSource> {
    let source = |(index, spec): (usize, &SyncSpec)| SyncSource {
        directory: format!("{SYNC_DIR}/{}-{index}", spec.container),
        spec: spec.clone(),
        ready: spec.verify_for.as_ref().and_then(|_| ready_check(pod.container(&spec.container)?).ok()),
    };
    specs.iter().enumerate().map(source).collect()
}

/// Refuses what would not work, all of it at once.
pub(crate) fn check(pod: Pod, specs: &[SyncSpec], placement: &Placement) -> Result<(), Refusal> {
    if specs.is_empty() {
        return Ok(());
    }
    if !placement.native {
        let message = format!(
            "sync takes native sidecars, so that the app starts after its files are there, and {}",
            placement.why
        );
        return Err(Refusal::rejected(Reason::NativeSidecarsUnavailable, message));
    }
    let mut errors = Vec::new();
    for spec in specs {
        let Some(container) = pod.container(&spec.container) else { continue };
        let entry = format!("sync of {}:{}", spec.container, spec.path);
        if spec.verify_for.is_some()
            && let Err(why) = ready_check(container)
        {
            errors.push(format!("{entry} has verifyFor, and {why}"));
        }
        if container.is_init() && !spec.on_change.is_none() {
            errors.push(format!(
                "{entry} has onChange, and {} is an init container, which has ended by then",
                spec.container
            ));
        }
    }
    if specs.iter().any(|spec| spec.on_change.signals())
        && let Err(why) = signaller(pod, specs)
    {
        errors.push(format!("sync with onChange restart or signal: {why}"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Rejected { reason: Reason::InvalidProfile, errors }) }
}

/// How long the first content may take: a whole round of the slowest entry, and as long again for those before that failed. The kubelet
/// starts the sidecar anew then, which loses a round and shows.
pub(crate) fn start_seconds(specs: &[SyncSpec]) -> u64 {
    specs
        .iter()
        .map(|spec| spec.limits.time().as_secs())
        .max()
        .unwrap_or_default()
        .saturating_mul(2)
        .min(MOST_SECONDS)
}

/// The user and group that may signal the apps: their own. None where nobody is signalled.
pub(crate) fn user(pod: Pod, specs: &[SyncSpec]) -> Option<(i64, i64)> {
    specs.iter().any(|spec| spec.on_change.signals()).then(|| signaller(pod, specs).ok()).flatten()
}

/// That the pod shares its processes is for its owner to say: every container sees those of the others then, with their files and
/// variables where they are of the same user.
fn signaller(pod: Pod, specs: &[SyncSpec]) -> Result<(i64, i64), String> {
    if pod.at("/spec/shareProcessNamespace") != Some(&Value::Bool(true)) {
        return Err("it takes shareProcessNamespace: true in the pod's spec, for the app's process to be in reach; onChange http \
                    does without"
            .to_owned());
    }
    let id = |container: &str, field: &str| {
        let of_container = pod.container(container)?.json["securityContext"][field].as_i64();
        of_container.or_else(|| pod.at("/spec/securityContext")?[field].as_i64())
    };
    let signalled = || specs.iter().filter(|spec| spec.on_change.signals());
    let mut users = signalled().map(|spec| id(&spec.container, "runAsUser"));
    let first = users.next().flatten();
    match first {
        Some(user) if user != 0 && users.all(|other| other == first) => {
            let group = signalled().next().and_then(|spec| id(&spec.container, "runAsGroup"));
            Ok((user, group.unwrap_or(user)))
        }
        _ => Err(
            "only the app's own user may signal it: it takes one runAsUser, not 0, for all these containers"
                .to_owned(),
        ),
    }
}

/// The readiness probe of a container, where the sidecar can ask the same.
fn ready_check(container: Container) -> Result<ReadyCheck, String> {
    let probe = &container.json["readinessProbe"];
    let port = |port: &Value| {
        let number = port.as_u64().and_then(|number| u16::try_from(number).ok());
        number.or_else(|| container.tcp_ports().find(|named| named.name == port.as_str())?.number.into())
    };
    let unlike = |what: &str| {
        Err(format!("the readiness probe of {} {what}: it takes one by httpGet or tcpSocket", container.name))
    };
    let http = &probe["httpGet"];
    if http.is_object() {
        let is_plain = http["scheme"].as_str().is_none_or(|scheme| scheme.eq_ignore_ascii_case("http"));
        if !is_plain
            || http["httpHeaders"].as_array().is_some_and(|headers| !headers.is_empty())
            || http["host"].is_string()
        {
            return unlike("is by https, to another host or with headers");
        }
        let Some(port) = port(&http["port"]) else { return unlike("is for a port that is not declared") };
        let path = http["path"].as_str().unwrap_or("/").to_owned();
        return Ok(ReadyCheck { port, path: Some(path), ..judged_as(probe) });
    }
    if probe["tcpSocket"].is_object() {
        let Some(port) = port(&probe["tcpSocket"]["port"]) else {
            return unlike("is for a port that is not declared");
        };
        return Ok(ReadyCheck { port, ..judged_as(probe) });
    }
    if probe.is_object() { unlike("is of another kind") } else { unlike("is missing") }
}

/// How the kubelet judges by the probe. What is 0 counts as not set, as the API server has it.
fn judged_as(probe: &Value) -> ReadyCheck {
    let default = ReadyCheck::default();
    let number = |field: &str, default: u32| {
        let number = probe[field].as_u64().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| *number > 0).unwrap_or(default)
    };
    ReadyCheck {
        period_seconds: number("periodSeconds", default.period_seconds),
        timeout_seconds: number("timeoutSeconds", default.timeout_seconds),
        failure_threshold: number("failureThreshold", default.failure_threshold),
        ..default
    }
}

/// For people: `app:/srv/www from https://git.example.com/site.git v*`.
pub(crate) fn described(specs: &[SyncSpec]) -> Vec<String> {
    let line = |spec: &SyncSpec| {
        let git = &spec.git;
        let wanted = git.tags.as_deref().or(git.branch.as_deref()).unwrap_or_default();
        format!("{}:{} from {} {wanted}", spec.container, spec.path, git.url)
    };
    specs.iter().map(line).collect()
}

/// What the user should know about mounts that were not asked for as mounts.
pub(crate) fn warnings(specs: &[SyncSpec]) -> Vec<String> {
    let hidden = |spec: &SyncSpec| {
        format!(
            "what the image of container {} has in {} is hidden: the files of {} are mounted there",
            spec.container, spec.path, spec.git.url
        )
    };
    let in_the_clear = |spec: &SyncSpec| {
        spec.git.url.starts_with("http:").then(|| {
            format!(
                "{} is asked in the clear: whoever sits between can put other files into {}",
                spec.git.url, spec.path
            )
        })
    };
    specs.iter().flat_map(|spec| std::iter::once(hidden(spec)).chain(in_the_clear(spec))).collect()
}
