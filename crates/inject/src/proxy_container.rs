//! The proxy's container and its config volume.

use outrigger_api::names::{
    ADMIN_PORT, CONFIG_ANNOTATION, CONFIG_DIR, CONFIG_FILE, CONFIG_VOLUME, PROXY_CONTAINER,
};
use serde_json::{Value, json};

use crate::Settings;
use crate::outcome::MovedPort;

/// What the container depends on.
pub(crate) struct ProxyContainer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) resources: Value,
    pub(crate) moved: &'a [MovedPort],
    /// The Secrets that it reads.
    pub(crate) secrets: Vec<Value>,
    pub(crate) native: bool,
    pub(crate) user: i64,
    /// How long a plain container's end may wait for the app's, in seconds.
    pub(crate) wait_for_app_seconds: u64,
}

pub(crate) fn container(proxy: &ProxyContainer) -> Value {
    let ProxyContainer { settings, moved, .. } = proxy;
    let mut ports: Vec<_> = moved
        .iter()
        .map(|port| json!({"name": port.name, "containerPort": port.listen, "protocol": "TCP"}))
        .collect();
    ports.push(json!({"name": "outrigger-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}));
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.sidecar_image,
        "args": ["--config", format!("{CONFIG_DIR}/{CONFIG_FILE}")],
        "ports": ports,
        "resources": proxy.resources,
        // The app is reached where its callers reached it before. On loopback it may trust everybody: PostgreSQL's image does.
        "env": [{"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}],
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true},
            without_token(),
        ],
        // The next container starts when this has passed once: the app never runs without its proxy.
        "startupProbe": probe("/ready", 1, 60),
        "readinessProbe": probe("/ready", 5, 2),
        "livenessProbe": probe("/live", 10, 3),
        "lifecycle": lifecycle(proxy),
        "securityContext": security_context(proxy.user, proxy.user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(mounts) = container["volumeMounts"].as_array_mut() {
        mounts.extend(proxy.secrets.iter().cloned());
    }
    if proxy.native {
        container["restartPolicy"] = "Always".into();
    }
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

/// Keeps the API server from mounting the app's token here, which it does wherever nothing is mounted: a sidecar has no use for
/// it. It also saves a second admission, for the pod that the mount would have changed.
pub(crate) fn without_token() -> Value {
    json!({"name": CONFIG_VOLUME, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true})
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

/// Clients move on while the app still answers: SIGTERM comes too late for that to a native sidecar, which gets it when the
/// app has ended. By exec, because a GET would let anybody in the cluster do it.
///
/// A plain container, as the first of the list, holds the start of the others with its postStart hook, which the kubelet waits
/// for; and as SIGTERM comes to it together with the app, its preStop hook waits until the app has gone.
fn lifecycle(proxy: &ProxyContainer) -> Value {
    let hook = |arguments: &[&str]| {
        let command: Vec<_> = [&["/usr/local/bin/outrigger-proxy"], arguments].concat();
        json!({"exec": {"command": command}})
    };
    if proxy.native {
        return json!({"preStop": hook(&["drain"])});
    }
    let wait = format!("--until-app-ends={}s", proxy.wait_for_app_seconds);
    json!({"postStart": hook(&["wait"]), "preStop": hook(&["drain", &wait])})
}

/// What Pod Security `restricted` asks for. The user is set here and not left to the image, because a pod-level
/// `runAsUser: 0` would reach the sidecar and `runAsNonRoot` would then keep it from starting.
pub(crate) fn security_context(user: i64, group: i64) -> Value {
    json!({
        "runAsUser": user,
        "runAsGroup": group,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
