//! Whether a pod is to be injected at all: what was asked, and what can't be.

use outrigger_api::Reason;
use outrigger_api::names::{DISABLED, ENABLED, INJECT_LABEL, PROXY_CONTAINER, STATUS_ANNOTATION};

use crate::Namespace;
use crate::outcome::Refusal;
use crate::pod::Pod;

/// Whether the pod, or else its namespace, asks for injection.
pub(crate) fn check_opt_in(pod: Pod, namespace: &Namespace) -> Result<(), Refusal> {
    let on_pod = pod.at("/metadata/labels/outrigger.dev~1inject");
    let on_namespace = namespace.labels.get(INJECT_LABEL).map(String::as_str);
    let (place, value) = match (on_pod, on_namespace) {
        (Some(value), _) => ("pod".to_owned(), value.clone()),
        (None, Some(value)) => (format!("namespace {}", namespace.name), value.into()),
        (None, None) => {
            return Err(Refusal::skipped(
                Reason::NotOptedIn,
                format!(
                    "neither the pod nor namespace {} has the label {INJECT_LABEL}={ENABLED}",
                    namespace.name
                ),
            ));
        }
    };
    let wrong =
        || format!("label {INJECT_LABEL} of the {place} is {value}: it takes {ENABLED} or {DISABLED}");
    match value.as_str() {
        Some(ENABLED) => Ok(()),
        Some(DISABLED) => {
            let message = format!("the label {INJECT_LABEL}={DISABLED} of the {place} says so");
            Err(Refusal::skipped(Reason::OptedOut, message))
        }
        _ if on_pod.is_some() => Err(Refusal::rejected(Reason::InvalidLabel, wrong())),
        _ => Err(Refusal::skipped(Reason::InvalidLabel, wrong())),
    }
}

/// Whether the pod is of a kind that injection leaves alone.
pub(crate) fn check_kind(pod: Pod) -> Result<(), Refusal> {
    let skip = |reason, message: &str| Err(Refusal::skipped(reason, message));
    if pod.annotation(STATUS_ANNOTATION).is_some() && pod.container(PROXY_CONTAINER).is_some() {
        return skip(
            Reason::AlreadyInjected,
            "the pod carries sidecars and stays as it is: its status annotation can't be read",
        );
    }
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return skip(Reason::MirrorPod, "a static pod runs from a file on its node; inject that file");
    }
    if pod.at("/spec/hostNetwork").is_some_and(|value| value == true) {
        return skip(
            Reason::HostNetwork,
            "the pod uses the node's network, where the proxy's ports would be the node's; set hostNetwork to false",
        );
    }
    let os = [pod.at("/spec/os/name"), pod.at("/spec/nodeSelector/kubernetes.io~1os")];
    if os.into_iter().flatten().any(|name| name == "windows") {
        return skip(Reason::WindowsPod, "the sidecars run on Linux only");
    }
    Ok(())
}
