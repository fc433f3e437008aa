//! What `inject` itself costs, without TLS, JSON and the network: `make bench-inject`.
//!
//! Not criterion: each figure is the fastest of many rounds, which other load on the machine can't improve, and the table is
//! what `docs/benchmarks.md` shows.

#![allow(clippy::panic, reason = "a pod that is not injected is a mistake in this file")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use outrigger_inject::{Context, Namespace, Outcome, Profiles, Settings, inject, standing};
use serde_json::{Value, json};

fn main() {
    let mut profiles = Profiles::new("outrigger-system");
    profiles.set("outrigger-system", "default", &json!({}));
    let labels = [("outrigger.dev/inject".to_owned(), "enabled".to_owned())].into();
    let namespace = Namespace { name: "shop".to_owned(), labels, ..Namespace::default() };
    let settings = Settings {
        sidecar_image: "registry.example/outrigger/sidecar:1.2.3".to_owned(),
        image_pull_policy: None,
        version: "1.2.3".to_owned(),
        cluster: outrigger_inject::Cluster::default(),
    };
    let context = Context {
        namespace: &namespace,
        profiles: &profiles,
        settings: &settings,
        token: "0123456789abcdef0123456789abcdef",
    };
    let pods = [
        ("typical", pod(1, 1)),
        ("10x", pod(1, 10)),
        ("100x", pod(1, 100)),
        ("1000x", pod(1, 1000)),
        ("60 containers", pod(60, 1)),
        ("600 containers", pod(600, 1)),
        ("2000 variables", variables(2000)),
    ];
    println!("| pod | kB | first admission µs | second admission µs | standing µs |");
    println!("|---|---|---|---|---|");
    for (name, pod) in pods {
        let Outcome::Injected { patch, .. } = inject(&pod, &context) else {
            panic!("{name} is not injected");
        };
        let mut injected = pod.clone();
        json_patch::patch(&mut injected, &patch).expect("the patch fits its pod");
        let first = fastest(|| drop(black_box(inject(black_box(&pod), &context))));
        let second = fastest(|| drop(black_box(inject(black_box(&injected), &context))));
        let standing = fastest(|| drop(black_box(standing(black_box(&injected), &context))));
        let size = pod.to_string().len();
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |",
            thousandth(size),
            micros(first),
            micros(second),
            micros(standing)
        );
    }
}

/// Each container has, `size` times over, five variables, a named port, a probe's worth of fields and a mount.
fn pod(containers: usize, size: usize) -> Value {
    let container = |index: usize| {
        let env: Vec<_> =
            (0..5 * size).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "some value"})).collect();
        let ports: Vec<_> = (0..size)
            .map(|i| json!({"name": format!("p{index}-{i}"), "containerPort": 1000 + i, "protocol": "TCP"}))
            .collect();
        let mounts: Vec<_> =
            (0..size).map(|i| json!({"name": format!("v{i}"), "mountPath": format!("/data/{i}")})).collect();
        json!({
            "name": format!("app-{index}"),
            "image": "registry.example/shop/web:1.4.2",
            "env": env,
            "ports": ports,
            "volumeMounts": mounts,
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": format!("p{index}-0")}, "periodSeconds": 5},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": format!("p{index}-0")}},
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}},
        })
    };
    let containers: Vec<_> = (0..containers).map(container).collect();
    let volumes: Vec<_> = (0..size).map(|i| json!({"name": format!("v{i}"), "emptyDir": {}})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-8678875c87-", "labels": {"app": "web"}},
        "spec": {"containers": containers, "volumes": volumes, "serviceAccountName": "web"},
    })
}

fn variables(count: usize) -> Value {
    let mut pod = pod(1, 1);
    let env = (0..count).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "some value"}));
    pod["spec"]["containers"][0]["env"] = env.collect();
    pod
}

/// The fastest of as many runs as fit into half a second.
fn fastest(mut run: impl FnMut()) -> Duration {
    let end = Instant::now() + Duration::from_millis(500);
    let mut fastest = Duration::MAX;
    while Instant::now() < end {
        let begin = Instant::now();
        run();
        fastest = fastest.min(begin.elapsed());
    }
    fastest
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn thousandth(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e3
}
