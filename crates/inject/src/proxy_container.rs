//! The proxy's container and its config volume.

use outrigger_api::names::{
    ADMIN_PORT, CONFIG_ANNOTATION, CONFIG_DIR, CONFIG_FILE, CONFIG_VOLUME, PROXY_CONTAINER, SIDECAR_UID,
};
use outrigger_api::profile::Resources;
use serde_json::{Value, json};

use crate::Settings;
use crate::outcome::MovedPort;

/// A native sidecar: an init container with `restartPolicy: Always`. It starts before the user's own init containers
/// and the app, ends after them, and does not keep a Job from completing (istio#11130, istio#11045).
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
pub(crate) fn container(settings: &Settings, resources: &Resources, moved: &[MovedPort]) -> Value {
    let mut ports: Vec<_> = moved
        .iter()
        .map(|port| json!({"name": port.name, "containerPort": port.listen, "protocol": "TCP"}))
        .collect();
    ports.push(json!({"name": "outrigger-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}));
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.sidecar_image,
        "restartPolicy": "Always",
        "args": ["--config", format!("{CONFIG_DIR}/{CONFIG_FILE}")],
        "ports": ports,
        "resources": resources,
        // The app is reached where its callers reached it before. On loopback it may trust everybody: PostgreSQL's image does.
        "env": [{"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}],
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true},
            // Keeps the API server from mounting the app's token here, which it does wherever nothing is mounted: the sidecar
            // has no use for it. It also saves a second admission, for the pod that the mount would have changed.
            {"name": CONFIG_VOLUME, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
        // The next container starts when this has passed once: the app never runs without its proxy.
        "startupProbe": probe("/ready", 1, 60),
        "readinessProbe": probe("/ready", 5, 2),
        "livenessProbe": probe("/live", 10, 3),
        // Clients move on while the app still answers. SIGTERM comes too late for that: a native sidecar gets it when the app
        // has ended. By exec, because a GET would let anybody in the cluster do it.
        "lifecycle": {"preStop": {"exec": {"command": ["/usr/local/bin/outrigger-proxy", "drain"]}}},
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

/// The config annotation as a file. The proxy reads it when it starts.
pub(crate) fn config_volume() -> Value {
    let field = format!("metadata.annotations['{CONFIG_ANNOTATION}']");
    json!({"name": CONFIG_VOLUME, "downwardAPI": {"items": [{"path": CONFIG_FILE, "fieldRef": {"fieldPath": field}}]}})
}

fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": ADMIN_PORT},
        "periodSeconds": period_seconds,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    })
}

/// What Pod Security `restricted` asks for. The user is set here and not left to the image, because a pod-level
/// `runAsUser: 0` would reach the sidecar and `runAsNonRoot` would then keep it from starting.
fn security_context() -> Value {
    json!({
        "runAsUser": SIDECAR_UID,
        "runAsGroup": SIDECAR_UID,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
