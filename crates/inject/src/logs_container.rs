//! The log adapter's container.

use outrigger_api::names::{
    CONFIG_DIR, CONFIG_FILE, CONFIG_VOLUME, LOGS_ADMIN_PORT, LOGS_ADMIN_PORT_NAME, LOGS_CONTAINER, LOGS_DIR,
    LOGS_SUB_PATH, SHARED_VOLUME,
};
use serde_json::{Value, json};

use crate::Settings;
use crate::proxy_container::{security_context, without_token};

/// What the container depends on.
pub(crate) struct LogsContainer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) resources: Value,
    pub(crate) native: bool,
    pub(crate) user: i64,
    pub(crate) group: i64,
    /// How long a plain container's end may wait for the app's, in seconds.
    pub(crate) wait_for_app_seconds: u64,
}

/// How long files must be quiet until the app is taken to have ended, where it is stopped at the same time as the adapter.
const QUIET_SECONDS: u64 = 3;

pub(crate) fn container(logs: &LogsContainer) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut args = vec!["--config".to_owned(), format!("{CONFIG_DIR}/{CONFIG_FILE}")];
    if !logs.native {
        args.push(format!("--quiet-seconds={}", logs.wait_for_app_seconds.min(QUIET_SECONDS)));
    }
    // No startup and no readiness probe: the app neither waits for its logs nor is it taken out of service for them. What it
    // writes before the adapter runs is read all the same.
    let mut container = json!({
        "name": LOGS_CONTAINER,
        "image": logs.settings.sidecar_image,
        "command": ["/usr/local/bin/outrigger-logs"],
        "args": args,
        "ports": [{"name": LOGS_ADMIN_PORT_NAME, "containerPort": LOGS_ADMIN_PORT, "protocol": "TCP"}],
        "resources": logs.resources,
        "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")],
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true},
            without_token(),
            {"name": SHARED_VOLUME, "mountPath": LOGS_DIR, "subPath": LOGS_SUB_PATH},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": LOGS_ADMIN_PORT},
            "periodSeconds": 10,
            "failureThreshold": 3,
            "timeoutSeconds": 2,
        },
        "securityContext": security_context(logs.user, logs.group),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if logs.native {
        container["restartPolicy"] = "Always".into();
    }
    if let Some(policy) = &logs.settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}
