//! Sidecars that are none, for `make bench-collector`: so many HTTP servers, each with a `/stats` that goes on as a proxy's does. What else
//! they are asked, they answer with 200: one of them is the app behind a real proxy.
//!
//! `sidecars FILE COUNT` serves them, and writes the List of their pods to FILE.

#![allow(clippy::unwrap_used, reason = "what fails here fails the bench")]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Routes of each, as a small service has.
const ROUTES: u64 = 8;
/// Requests a second of each.
const RATE: u64 = 50;

/// All tell the same, which is made anew each second: the bench is about who asks.
#[derive(Clone)]
struct Shared(Arc<Mutex<(Instant, u64, String)>>);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().expect("usage: sidecars FILE COUNT");
    let count: usize = args.next().and_then(|count| count.parse().ok()).expect("usage: sidecars FILE COUNT");
    let shared = Shared(Arc::new(Mutex::new((Instant::now(), 0, document(0).to_string()))));
    let mut pods = Vec::new();
    for number in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        pods.push(pod(number, listener.local_addr().unwrap().port()));
        let router =
            Router::new().route("/stats", get(stats)).fallback(async || "ok\n").with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    std::fs::write(file, json!({"kind": "List", "items": pods}).to_string()).unwrap();
    std::future::pending::<()>().await;
}

async fn stats(State(shared): State<Shared>) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    let mut shared = shared.0.lock().unwrap();
    let second = shared.0.elapsed().as_secs();
    if second != shared.1 {
        *shared = (shared.0, second, document(second * RATE).to_string());
    }
    ([(CONTENT_TYPE, "application/json")], shared.2.clone())
}

/// Durations from 1 to 60 ms or so, as most services have: some 48 buckets of an eighth of a doubling.
fn duration(requests: u64) -> Value {
    let buckets: Vec<_> =
        (0..48_u64).map(|bucket| ((128 * (8 + bucket % 8)) << (bucket / 8), requests / 48)).collect();
    json!({"count": requests, "sumSeconds": requests / 100, "maxSeconds": 0.1, "p50Seconds": 0.008, "buckets": buckets})
}

fn document(requests: u64) -> Value {
    let route = |number: u64| {
        json!({"method": "GET", "path": format!("/things/{{id}}/parts/{number}"), "requests": requests / ROUTES,
            "codes": {"200": requests / ROUTES}, "errors": 0, "requestBodyBytes": 0, "responseBodyBytes": requests * 100,
            "duration": duration(requests / ROUTES)})
    };
    let routes: Vec<_> = (0..ROUTES).map(route).collect();
    json!({"version": 1, "time": "2026-01-01T00:00:00Z", "lastErrors": [], "resources": {},
        "ports": [{"port": "http", "direction": "inbound",
            "http": {"requests": requests, "codeClasses": {"2xx": requests, "5xx": 0}, "errors": {}, "inFlight": 1,
                "requestBodyBytes": 0, "responseBodyBytes": requests * 800, "duration": duration(requests), "routes": routes},
            "tcp": {"connectionsOpened": 0, "connectionsOpen": 0, "errors": {}, "readBytes": 0, "writtenBytes": 0}}]})
}

/// Twenty to a service.
fn pod(number: usize, port: u16) -> Value {
    let service = format!("service-{}", number / 20);
    let config = json!({"version": 1, "profile": "outrigger-system/default", "token": "bench"});
    json!({
        "metadata": {
            "namespace": "bench", "name": format!("{service}-5d9f-{number}"),
            "labels": {"outrigger.dev/injected": "true", "pod-template-hash": "5d9f"},
            "annotations": {"outrigger.dev/config": config.to_string(), "outrigger.dev/status": "{}"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{service}-5d9f"), "controller": true}],
        },
        "spec": {"initContainers": [{"name": "outrigger-proxy", "ports": [{"name": "outrigger-admin", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
