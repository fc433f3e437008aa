//! A collector, and sidecars for it to watch whose figures a test decides.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a panic is the report here, and not every test uses all of this"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use outrigger_collector::{Options, Source};
use outrigger_runtime::shutdown::{self, Shutdown, Trigger};
use serde_json::{Value, json};
use tokio::task::LocalSet;

pub(crate) const TOKEN: &str = "the-token";

/// What a sidecar tells: so many requests a second, so slow, of which so many fail.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: u64,
    pub(crate) milliseconds: u64,
    pub(crate) errors_of_100: u64,
    pub(crate) routes: usize,
    /// The upstream that its app calls as often as it is called, whose circuit is open; empty for none.
    pub(crate) calls: &'static str,
}

pub(crate) const FAST: Load = Load { rate: 40, milliseconds: 12, errors_of_100: 0, routes: 3, calls: "" };
pub(crate) const SLOW: Load = Load { milliseconds: 320, rate: 9, ..FAST };

struct Counted {
    load: Load,
    at: Instant,
    requests: u64,
    errors: u64,
    seconds: f64,
    buckets: Vec<(u64, u64)>,
}

/// A stand-in for a proxy's admin server.
pub(crate) struct Sidecar {
    counted: Arc<Mutex<Counted>>,
    pub(crate) address: SocketAddr,
    stop: Trigger,
}

impl Sidecar {
    pub(crate) fn start(load: Load) -> Self {
        let counted =
            Counted { load, at: Instant::now(), requests: 0, errors: 0, seconds: 0.0, buckets: Vec::new() };
        let counted = Arc::new(Mutex::new(counted));
        let router = Router::new().route("/stats", get(stats)).with_state(Arc::clone(&counted));
        let (stop, stopped) = shutdown::channel();
        Self { counted, address: serve(router, stopped), stop }
    }

    pub(crate) fn set(&self, load: Load) {
        let mut counted = self.counted.lock().unwrap();
        counted.go_on();
        counted.load = load;
    }

    /// For as long as this is kept, it takes connections and says nothing.
    pub(crate) fn hang(&self) -> impl Drop + '_ {
        self.counted.lock().unwrap()
    }

    /// Ends it, as a pod dies: nobody listens there any more.
    pub(crate) fn kill(self) {
        self.stop.request();
    }
}

/// On a thread of its own, until it is told to stop.
fn serve(router: Router, stopped: Shutdown) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = stopped.requested() => {}
            }
        });
    });
    address
}

impl Counted {
    fn go_on(&mut self) {
        let Load { rate, milliseconds, errors_of_100, .. } = self.load;
        let more = u64::try_from(self.at.elapsed().as_millis()).unwrap() * rate / 1000;
        if more == 0 {
            return;
        }
        self.at = Instant::now();
        self.requests += more;
        self.errors = self.errors.max(1) + more * errors_of_100 / 100 - 1;
        let milliseconds = u32::try_from(milliseconds).unwrap();
        self.seconds += f64::from(u32::try_from(more).unwrap()) * f64::from(milliseconds) / 1000.0;
        let bound = u64::from(milliseconds) * 1000;
        match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += more,
            None => self.buckets.push((bound, more)),
        }
    }

    fn document(&mut self) -> Value {
        self.go_on();
        let duration = json!({"count": self.requests, "sumSeconds": self.seconds, "buckets": self.buckets});
        let route = |number: usize| {
            json!({"method": "GET", "path": format!("/carts/{{id}}/items/{number}"), "requests": self.requests / 3,
                "codes": {"200": self.requests - self.errors, "503": self.errors}, "duration": duration,
                "requestBodyBytes": 0, "responseBodyBytes": self.requests * 700})
        };
        let routes: Vec<_> = (0..self.load.routes).map(route).collect();
        let failed = json!({"time": "2026-01-01T10:00:00Z", "port": "http", "method": "GET", "path": "/carts/{id}",
            "status": 503, "reason": ""});
        let failures = if self.errors > 0 { vec![failed] } else { vec![] };
        let memory =
            json!({"of": "pod", "usageBytes": 30 << 20, "workingSetBytes": 24 << 20, "limitBytes": 64 << 20});
        let cpu = json!({"of": "pod", "usageSeconds": self.seconds / 10.0, "limitCores": 0.5, "throttledSeconds": 0});
        let http = json!({"requests": self.requests, "codeClasses": {"2xx": self.requests - self.errors, "5xx": self.errors},
            "errors": {}, "inFlight": 1, "requestBodyBytes": 0, "responseBodyBytes": self.requests * 700,
            "duration": duration, "routes": routes});
        let tcp = json!({"connectionsOpened": 0, "connectionsOpen": 0, "readBytes": 0, "writtenBytes": 0});
        let mut ports = vec![json!({"port": "http", "direction": "inbound", "http": http, "tcp": tcp})];
        if !self.load.calls.is_empty() {
            let breaker = json!({"state": "open", "opened": 1, "rejected": 0, "wouldReject": 0});
            ports.push(json!({"port": "8080", "direction": "outbound", "upstream": self.load.calls, "http": http, "tcp": tcp,
                "breaker": breaker}));
        }
        json!({"version": 1, "time": "2026-01-01T10:00:00Z", "lastErrors": failures, "ports": ports,
            "resources": {"cpu": cpu, "memory": memory}})
    }
}

fn is_allowed(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn stats(State(counted): State<Arc<Mutex<Counted>>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if !is_allowed(&headers) {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    (StatusCode::OK, Json(counted.lock().unwrap().document()))
}

/// An injected pod of a Deployment, as the API server tells it.
pub(crate) fn pod(deployment: &str, number: usize, admin: SocketAddr) -> Value {
    let config = json!({"version": 1, "profile": "outrigger-system/default", "token": TOKEN});
    let ports = json!([{"name": "outrigger-admin", "containerPort": admin.port()}]);
    json!({
        "metadata": {
            "namespace": "shop", "name": format!("{deployment}-5d9f-{number}"),
            "labels": {"outrigger.dev/injected": "true", "pod-template-hash": "5d9f"},
            "annotations": {"outrigger.dev/config": config.to_string(), "outrigger.dev/status": "{\"version\":\"0.1.0\"}"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{deployment}-5d9f"), "controller": true}],
        },
        "spec": {"nodeName": "node-1", "initContainers": [{"name": "outrigger-proxy", "ports": ports}]},
        "status": {"phase": "Running", "podIP": admin.ip(), "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The same, with a content sync beside the proxy.
pub(crate) fn pod_with_files(deployment: &str, number: usize, admin: SocketAddr, sync: SocketAddr) -> Value {
    let mut pod = pod(deployment, number, admin);
    let ports = json!([{"name": "outrigger-sync", "containerPort": sync.port()}]);
    let containers = pod["spec"]["initContainers"].as_array_mut().unwrap();
    containers.push(json!({"name": "outrigger-sync", "ports": ports}));
    pod
}

/// A stand-in for a content sync whose one entry is at this version since that time, with what is wrong.
pub(crate) fn content_sync(version: &str, since: &str, wrong: Option<(&str, &str)>) -> SocketAddr {
    let failure =
        wrong.map(|(reason, message)| json!({"reason": reason, "message": message, "since": since}));
    let bad = wrong
        .map(|(_, message)| json!({"version": "v3", "commit": "c0ffee", "reason": message, "since": since}));
    let entry = json!({"container": "app", "path": "/srv/www", "hasContent": true, "version": version,
        "commit": "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "since": since, "onTrial": false, "failure": failure,
        "bad": Vec::from_iter(bad), "asked": since, "answered": since, "polls": 9, "switches": 2, "rollbacks": 0});
    // Nobody stops it.
    let (stop, stopped) = shutdown::channel();
    std::mem::forget(stop);
    serve(
        Router::new().route("/stats", get(files)).with_state(json!({"version": 1, "sync": [entry]})),
        stopped,
    )
}

async fn files(State(document): State<Value>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if is_allowed(&headers) {
        (StatusCode::OK, Json(document))
    } else {
        (StatusCode::UNAUTHORIZED, Json(json!({})))
    }
}

/// A collector on a thread of its own, and the file that tells it its pods.
pub(crate) struct Collector {
    pub(crate) url: String,
    file: PathBuf,
    stop: Trigger,
}

impl Collector {
    pub(crate) fn start(pods: &[Value]) -> Self {
        let listen = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let file = std::env::temp_dir().join(format!(
            "outrigger-collector-{}-{}.json",
            std::process::id(),
            listen.port()
        ));
        let (stop, shutdown) = shutdown::channel();
        let collector = Self { url: format!("http://{listen}"), file: file.clone(), stop };
        collector.tell(pods);
        let options = Options {
            listen,
            admin_port: None,
            custom_metrics_port: None,
            custom_metrics_service: None,
            pods: Some(file.clone()),
            log_level: "info".to_owned(),
            log_format: outrigger_runtime::log::Format::Text,
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let run = outrigger_collector::run(
                options,
                Source::File(file),
                outrigger_runtime::log::detached(),
                shutdown,
            );
            LocalSet::new().block_on(&runtime, run).unwrap();
        });
        eventually("the collector listens", || std::net::TcpStream::connect(listen).is_ok());
        collector
    }

    /// These are the pods now.
    pub(crate) fn tell(&self, pods: &[Value]) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, json!({"kind": "List", "items": pods}).to_string()).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.request();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Waits until it holds, for two minutes.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) -> Duration {
    within(Duration::from_mins(2), what, holds)
}

/// Waits until it holds, and returns how long that took.
pub(crate) fn within(most: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < most, "within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begin.elapsed()
}
