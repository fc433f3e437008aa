//! The tests' stand-in for an API server, as a program: what `bench/admission/run` starts the webhook against.
//!
//! `fake-api FILE` serves the objects of a fresh installation and writes a kubeconfig for them to FILE.

// A panic is the report here as in the tests, and not every part of what the tests use is used here.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/webhook/cluster.rs"]
mod cluster;
#[path = "../tests/webhook/fake_api.rs"]
mod fake_api;

use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let file = std::env::args().nth(1).expect("usage: fake-api FILE");
    let (api, _) = cluster::installed().await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": api.url()}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
    });
    std::fs::write(file, kubeconfig.to_string()).unwrap();
    std::future::pending::<()>().await;
}
