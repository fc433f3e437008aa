//! The content sync's container.

use outrigger_api::names::{
    CONFIG_DIR, CONFIG_FILE, CONFIG_VOLUME, SHARED_VOLUME, SYNC_ADMIN_PORT, SYNC_ADMIN_PORT_NAME,
    SYNC_CONTAINER, SYNC_DIR, SYNC_SUB_PATH,
};
use serde_json::{Value, json};

use crate::Settings;
use crate::proxy_container::{security_context, without_token};

/// What the container depends on.
pub(crate) struct SyncContainer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) resources: Value,
    pub(crate) user: i64,
    pub(crate) group: i64,
    /// How long the first content may take, in seconds, before the kubelet starts the sidecar anew.
    pub(crate) start_seconds: u64,
    /// How long the pod's apps may take to end, in seconds.
    pub(crate) grace_seconds: u64,
    /// The mounts of the Secrets with credentials.
    pub(crate) secrets: Vec<Value>,
}

pub(crate) fn container(sync: SyncContainer) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut mounts = vec![
        json!({"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true}),
        without_token(),
        json!({"name": SHARED_VOLUME, "mountPath": SYNC_DIR, "subPath": SYNC_SUB_PATH}),
    ];
    mounts.extend(sync.secrets);
    let mut container = json!({
        "name": SYNC_CONTAINER,
        "image": sync.settings.sidecar_image,
        "command": ["/usr/local/bin/outrigger-sync"],
        "args": [
            "--config",
            format!("{CONFIG_DIR}/{CONFIG_FILE}"),
            format!("--grace-seconds={}", sync.grace_seconds),
        ],
        "ports": [{"name": SYNC_ADMIN_PORT_NAME, "containerPort": SYNC_ADMIN_PORT, "protocol": "TCP"}],
        "resources": sync.resources,
        "env": [field("POD_IP", "status.podIP")],
        "volumeMounts": mounts,
        "restartPolicy": "Always",
        // The app's start waits for it: there is content then.
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": SYNC_ADMIN_PORT},
            "periodSeconds": 1,
            "failureThreshold": sync.start_seconds,
            "timeoutSeconds": 2,
        },
        // No readiness probe: a repository that is away takes no app out of service.
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": SYNC_ADMIN_PORT},
            "periodSeconds": 10,
            "failureThreshold": 3,
            "timeoutSeconds": 2,
        },
        "securityContext": security_context(sync.user, sync.group),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = &sync.settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}
