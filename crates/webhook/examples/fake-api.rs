//! The tests' stand-in for an API server, as a program: what `bench/admission/run` starts the webhook against.
//!
//! `fake-api FILE [NAMESPACES PROFILES]` serves the objects of a fresh installation, and so many more labelled namespaces and
//! profiles, and writes a kubeconfig for them to FILE.

// A panic is the report here as in the tests, and not every part of what the tests use is used here.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/webhook/cluster.rs"]
mod cluster;

use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().expect("usage: fake-api FILE [NAMESPACES PROFILES]");
    let mut count = || args.next().map_or(0, |count| count.parse::<usize>().expect("counts are numbers"));
    let (api, _) = cluster::installed().await;
    for number in 0..count() {
        let labels = json!({"outrigger.dev/inject": "enabled", "team": format!("team-{number}"), "stage": "production"});
        cluster::put_namespace(&api, &format!("team-{number}"), &labels);
    }
    for number in 0..count() {
        let mounts = json!([{"container": "app", "path": "/var/log/app"}]);
        let spec =
            json!({"inbound": [{"port": "http", "protocol": "http"}], "sharedVolume": {"mounts": mounts}});
        cluster::put_profile(&api, &format!("team-{number}"), "web", &spec);
    }
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": api.url()}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
    });
    std::fs::write(file, kubeconfig.to_string()).unwrap();
    std::future::pending::<()>().await;
}
