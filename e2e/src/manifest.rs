//! What the tests create, as people would write it. Each test changes what it is about with [`with`].

use serde_json::{Value, json};

/// The image of the demo: `serve` answers on a port, `fetch` asks.
const DEMO_IMAGE: &str = "outrigger/demo:dev";

/// A manifest, changed: an RFC 7386 merge.
// By value, so that a call reads as `with(pod, json!(...))`.
#[allow(clippy::needless_pass_by_value)]
pub fn with(mut manifest: Value, change: Value) -> Value {
    json_patch::merge(&mut manifest, &change);
    manifest
}

/// A pod that serves HTTP on the port named `http`.
pub fn server_pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": server_spec()})
}

fn server_spec() -> Value {
    // A busy machine may take more than the second that a probe has by default; a pod that is unready for it would be called by nobody.
    let ready =
        json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10});
    let serve = with(
        demo_container(&["serve", "--port", "8080"]),
        json!({"name": "app", "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": ready}),
    );
    json!({"containers": [serve], "terminationGracePeriodSeconds": 5})
}

/// A Deployment of such pods, labelled `app: <name>`.
pub fn server_deployment(name: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": server_spec()},
        },
    })
}

/// A Deployment of an app with metrics of its own, on the port named `metrics`: Prometheus, which here does nothing else.
pub fn measured_deployment(name: &str) -> Value {
    let app = json!({
        "name": "store", "image": crate::prometheus::IMAGE, "imagePullPolicy": "Never",
        "args": ["--config.file=/dev/null", "--storage.tsdb.path=/data"],
        "ports": [{"name": "metrics", "containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "metrics"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let spec = json!({
        "containers": [app], "volumes": [{"name": "data", "emptyDir": {}}], "terminationGracePeriodSeconds": 1,
    });
    with(server_deployment(name, 1), json!({"spec": {"template": {"spec": spec}}}))
}

/// A Service for the pods labelled `app: <name>`, by the name of their port.
pub fn service(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

/// A Job that asks `url` this many times, and fails if any answer is not a 200.
pub fn fetch_job(name: &str, url: &str, count: u32) -> Value {
    let count = count.to_string();
    let fetch = demo_container(&[
        "fetch",
        url,
        "--count",
        &count,
        "--concurrency",
        "4",
        "--expect",
        "200",
        "--wait",
        "120",
    ]);
    let fetch = with(fetch, json!({"name": "fetch"}));
    json!({
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [fetch]}},
        },
    })
}

/// A pod that writes numbered lines into `/var/log/app/app.log`, rotates it, and says at its end how many. With `lines` it
/// ends by itself.
pub fn writer_pod(name: &str, lines: Option<u32>) -> Value {
    let lines = lines.map(|lines| format!("--lines={lines}"));
    let args: Vec<_> = ["write", "/var/log/app/app.log"].into_iter().chain(lines.as_deref()).collect();
    let app = with(demo_container(&args), json!({"name": "app", "securityContext": {"runAsUser": 1000}}));
    json!({
        "metadata": {"name": name, "annotations": {"outrigger.dev/logs": "app=/var/log/app/*.log"}},
        "spec": {"containers": [app], "restartPolicy": "Never", "terminationGracePeriodSeconds": 20},
    })
}

/// A container of the demo's image, fit for Pod Security `restricted`.
pub fn demo_container(args: &[&str]) -> Value {
    json!({
        "image": DEMO_IMAGE,
        // It was put on the node by hand: a pull would hide that somebody forgot to.
        "imagePullPolicy": "Never",
        "args": args,
        "securityContext": {
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}
