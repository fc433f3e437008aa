//! Whether a pod is to be injected at all: what was asked, and what can't be.

use outrigger_api::Reason;
use outrigger_api::names::{DISABLED, ENABLED, INJECT_LABEL, PROXY_CONTAINER, STATUS_ANNOTATION};

use crate::Namespace;
use crate::outcome::Refusal;
use crate::pod::Pod;

/// Whether the pod, or else its namespace, asks for injection.
pub(crate) fn check_opt_in(pod: Pod, namespace: &Namespace) -> Result<(), Refusal> {
    if pod.at("/metadata/labels/outrigger.dev~1inject").is_some_and(|value| !value.is_string()) {
        return Err(Refusal::rejected(
            Reason::InvalidAnnotation,
            format!("label {INJECT_LABEL} of the pod is no text: {ENABLED} or {DISABLED}"),
        ));
    }
    let on_pod = pod.label(INJECT_LABEL);
    let on_namespace = namespace.labels.get(INJECT_LABEL).map(String::as_str);
    let (place, value) = match (on_pod, on_namespace) {
        (Some(value), _) => ("pod".to_owned(), value),
        (None, Some(value)) => (format!("namespace {}", namespace.name), value),
        (None, None) => {
            return Err(Refusal::skipped(
                Reason::NotOptedIn,
                format!("label the pod or namespace {} with {INJECT_LABEL}={ENABLED}", namespace.name),
            ));
        }
    };
    match value {
        ENABLED => Ok(()),
        DISABLED => Err(Refusal::skipped(
            Reason::OptedOut,
            format!("the label {INJECT_LABEL}={DISABLED} of the {place} says so"),
        )),
        other => Err(Refusal::rejected(
            Reason::InvalidAnnotation,
            format!("label {INJECT_LABEL} of the {place} is {other:?}: {ENABLED} or {DISABLED}"),
        )),
    }
}

/// Whether the pod is of a kind that injection leaves alone.
pub(crate) fn check_kind(pod: Pod) -> Result<(), Refusal> {
    let skip = |reason, message: &str| Err(Refusal::skipped(reason, message));
    // The annotation alone is no proof: it is copied with a template, the container is not.
    if pod.annotation(STATUS_ANNOTATION).is_some() && pod.container(PROXY_CONTAINER).is_some() {
        return skip(Reason::AlreadyInjected, "the pod carries the sidecars already");
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
