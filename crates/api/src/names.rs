//! Labels, annotations, containers, volumes and ports: the names that users and tools select on.
//!
//! A name here is a contract: add as needed, never rename.

/// Prefix of every label and annotation that Outrigger reads or writes.
pub const PREFIX: &str = "outrigger.dev/";

/// Label on a namespace or pod: [`ENABLED`] or [`DISABLED`]. A label, not an annotation, so that the API server
/// selects by it and pods that never asked never reach the webhook (linkerd2#5022).
pub const INJECT_LABEL: &str = "outrigger.dev/inject";
/// Value of [`INJECT_LABEL`] that opts in.
pub const ENABLED: &str = "enabled";
/// Value of [`INJECT_LABEL`] that opts out.
pub const DISABLED: &str = "disabled";
/// Label that marks an injected pod; the value is `"true"`.
pub const INJECTED_LABEL: &str = "outrigger.dev/injected";
/// Label on an injected pod whose proxy is a plain container and must be told when the work is done, because the pod would
/// otherwise never complete; the value is `"true"`.
pub const FINISH_LABEL: &str = "outrigger.dev/finish";
/// Label on an injected pod whose proxy passes the app's own metrics on; the value is the container that they are of. A label, so that
/// scraping selects by it and has the container's name.
pub const APP_METRICS_LABEL: &str = "outrigger.dev/app-metrics";

/// Annotation on a pod or namespace: the name of its `SidecarProfile`.
pub const PROFILE_ANNOTATION: &str = "outrigger.dev/profile";
/// Annotation set on an injected pod: what was added and replaced, as JSON.
pub const STATUS_ANNOTATION: &str = "outrigger.dev/status";
/// Annotation set on an injected pod: the sidecar config, as JSON ([`crate::config::SidecarConfig`]).
pub const CONFIG_ANNOTATION: &str = "outrigger.dev/config";

/// Annotation that says which container `kubectl logs` and `exec` mean without `-c`. Set to the app where the pod has none.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-default-container>
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
/// What the annotations begin with by which many a Prometheus finds what to scrape: a convention and no contract.
pub const SCRAPING_PREFIX: &str = "prometheus.io/";

/// Annotation that OpenShift sets on a namespace: the user ids that its pods may have.
pub const OPENSHIFT_UID_RANGE: &str = "openshift.io/sa.scc.uid-range";

/// The profile of a pod that names none.
pub const DEFAULT_PROFILE: &str = "default";

/// Container of the traffic proxy.
pub const PROXY_CONTAINER: &str = "outrigger-proxy";
/// Init container that writes the rules which send traffic to the proxy.
pub const INIT_CONTAINER: &str = "outrigger-init";
/// Container of the log adapter.
pub const LOGS_CONTAINER: &str = "outrigger-logs";
/// Container of the content sync.
pub const SYNC_CONTAINER: &str = "outrigger-sync";
/// Volume that holds the sidecar config, a downward-API view of [`CONFIG_ANNOTATION`].
pub const CONFIG_VOLUME: &str = "outrigger-config";
/// What the names of volumes with Secrets begin with; a number follows.
pub const SECRET_VOLUME_PREFIX: &str = "outrigger-secret-";
/// Directory of a sidecar in which each Secret that a profile names has one of its own, by its name.
pub const SECRETS_DIR: &str = "/etc/outrigger-secrets";
/// Directory of a sidecar in which each `ConfigMap` that a profile names has one of its own, by its name. No Secret can have this name.
pub const CONFIG_MAPS_DIR: &str = "/etc/outrigger-secrets/_configmaps";
/// Volume shared by the pod's containers, where a profile asks for it.
pub const SHARED_VOLUME: &str = "outrigger-shared";

/// Directory of the shared volume that holds the log files, and where the log adapter mounts that directory.
pub const LOGS_SUB_PATH: &str = "logs";
/// Where the log adapter finds [`LOGS_SUB_PATH`].
pub const LOGS_DIR: &str = "/var/log/outrigger";
/// Directory of the shared volume that holds what comes from repositories, and where the content sync mounts that directory.
pub const SYNC_SUB_PATH: &str = "sync";
/// Where the content sync finds [`SYNC_SUB_PATH`].
pub const SYNC_DIR: &str = "/var/lib/outrigger-sync";
/// In the directory of each entry there: what its app sees.
pub const SYNC_TREE: &str = "tree";

/// Directory of the config volume in a sidecar.
pub const CONFIG_DIR: &str = "/etc/outrigger";
/// File in [`CONFIG_DIR`] that holds the sidecar config.
pub const CONFIG_FILE: &str = "config.json";

/// Port that rules of `redirect` send to what comes to the pod.
pub const INBOUND_PORT: u16 = 15180;
/// Port that they send to what leaves it.
pub const OUTBOUND_PORT: u16 = 15181;
/// Port of a sidecar's admin server: metrics, probes, stats.
pub const ADMIN_PORT: u16 = 15190;
/// Its name among the container's ports, for monitors.
pub const ADMIN_PORT_NAME: &str = "outrigger-admin";
/// Port of the log adapter's own admin server, for it shares the pod's network with the proxy.
pub const LOGS_ADMIN_PORT: u16 = 15191;
/// Its name among the container's ports, for monitors.
pub const LOGS_ADMIN_PORT_NAME: &str = "outrigger-logs";
/// Port of the content sync's own admin server.
pub const SYNC_ADMIN_PORT: u16 = 15192;
/// Its name among the container's ports, for monitors.
pub const SYNC_ADMIN_PORT_NAME: &str = "outrigger-sync";
/// First port of the listeners of `ports`, which take over an app's named ports and lead to its upstreams; one more for each.
pub const FIRST_LISTEN_PORT: u16 = 15200;
/// User and group of the sidecars.
pub const SIDECAR_UID: i64 = 15180;

/// Whether the text is a DNS label (RFC 1123 section 2.1), as the names of containers are.
pub fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether the text is a DNS subdomain (RFC 1123), as the names of Secrets are.
pub fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Headers that frame a message or concern one connection alone: not a profile's to set.
pub const FRAMING_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a profile may name this header: at most 64 letters, digits and `-`, and none of [`FRAMING_HEADERS`].
///
/// No underscore: many servers hand apps `X_User` and `X-User` under one name, so a header that is ours could be forged.
pub fn is_header_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !FRAMING_HEADERS.contains(&text.to_ascii_lowercase().as_str())
}

/// What is wrong with one that is none.
pub(crate) fn header_name_fault(text: &str) -> String {
    format!(
        "{text:?} can't be used: it takes at most 64 letters, digits and -, and no header that frames a message ({})",
        FRAMING_HEADERS.join(", ")
    )
}
