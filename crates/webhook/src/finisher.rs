//! Ends the sidecars of Jobs whose work is done, where they are plain containers.
//!
//! A native sidecar ends by itself when the app has. A plain container runs on, and the Job with it, until somebody tells it:
//! `POST /shutdown` on each sidecar's admin port, with the token that stands in the pod's own config.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Request, StatusCode};
use futures::{StreamExt, stream};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::ListParams;
use kube::runtime::events::EventType;
use outrigger_api::names::{
    ADMIN_PORT, CONFIG_ANNOTATION, FINISH_LABEL, LOGS_ADMIN_PORT, LOGS_CONTAINER, PROXY_CONTAINER,
    STATUS_ANNOTATION,
};
use outrigger_inject::{Report, is_live};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::audit::text;
use crate::events::{Events, owner};
use crate::lookup::why;
use crate::metrics::{Metrics, Outcome};
use crate::pages::list;

/// How often the pods are looked at: a Job ends so much later than its work.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a sidecar may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many are told at the same time, so that those that can't be reached don't hold up the others.
const AT_ONCE: usize = 16;
/// The most that are told between two looks: where none of them can be reached, a new one waits some 8 s for the next.
const AT_A_LOOK: usize = 64;
/// From how many failures on the owner is told: by then it is no pod that was about to go.
const TELLING: u32 = 3;
/// Reason of that Event.
const UNFINISHED: &str = "ProxyNotFinished";
/// First and longest wait before one that did not answer is told again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// A pod whose work is done and whose sidecars run on.
#[derive(Clone, Debug, PartialEq)]
struct Done {
    uid: String,
    namespace: String,
    name: String,
    owner: Option<ObjectReference>,
    address: IpAddr,
    /// The admin ports of the sidecars that run.
    ports: Vec<u16>,
    token: String,
}

/// What was tried with one that runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempts {
    due: Instant,
    /// Until the next but one.
    wait: Duration,
    failures: u32,
}

impl Attempts {
    fn new(now: Instant) -> Self {
        Self { due: now, wait: BACKOFF.0, failures: 0 }
    }

    /// Counts one. One that was told may need a while to end, too.
    fn count(&mut self, failed: bool, now: Instant) {
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(BACKOFF.1);
        self.failures = if failed { self.failures + 1 } else { 0 };
    }
}

/// Why a sidecar was not told.
#[derive(Debug, thiserror::Error)]
enum FinishError {
    #[error("failed to reach sidecar: {0}")]
    Connect(#[from] std::io::Error),
    #[error("failed to talk to sidecar: {0}")]
    Http(#[from] hyper::Error),
    #[error("sidecar answered {0}")]
    Refused(StatusCode),
    #[error("no answer from the sidecar within {TIMEOUT:?}")]
    Timeout,
}

/// Looks at the labelled pods for ever.
pub(crate) async fn run(client: Client, events: Events, metrics: Metrics) {
    // By UID.
    let mut attempts: HashMap<String, Attempts> = HashMap::new();
    loop {
        match done(&client).await {
            Ok(done) => {
                attempts.retain(|uid, _| done.iter().any(|pod| pod.uid == *uid));
                let now = Instant::now();
                finish(due(done, &attempts, now), now, &mut attempts, &events, &metrics).await;
            }
            Err(error) => tracing::warn!(why = why(&error), "failed to list pods to finish"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Those whose turn it is, first those that were tried least.
fn due(mut done: Vec<Done>, attempts: &HashMap<String, Attempts>, now: Instant) -> Vec<Done> {
    done.retain(|pod| attempts.get(&pod.uid).is_none_or(|attempts| attempts.due <= now));
    done.sort_by_key(|pod| attempts.get(&pod.uid).map(|attempts| attempts.wait));
    done.truncate(AT_A_LOOK);
    done
}

async fn finish(
    pods: Vec<Done>,
    now: Instant,
    attempts: &mut HashMap<String, Attempts>,
    events: &Events,
    metrics: &Metrics,
) {
    let telling = pods.into_iter().map(async |pod| {
        let mut told = Ok(());
        for port in &pod.ports {
            let one = tokio::time::timeout(TIMEOUT, tell(&pod, *port)).await;
            told = told.and(one.unwrap_or(Err(FinishError::Timeout)));
        }
        (pod, told)
    });
    let mut telling = stream::iter(telling).buffer_unordered(AT_ONCE);
    while let Some((pod, told)) = telling.next().await {
        metrics.finishes.get_or_create(&Outcome::of(&told)).inc();
        let attempts = attempts.entry(pod.uid.clone()).or_insert_with(|| Attempts::new(now));
        attempts.count(told.is_err(), now);
        let (namespace, name, retry_in) = (&pod.namespace, &pod.name, attempts.due - now);
        match told {
            Ok(()) => tracing::info!(namespace, pod = name, "told the sidecars that the work is done"),
            Err(error) => {
                tracing::warn!(namespace, pod = name, %error, ?retry_in, "failed to finish pod");
                if let Some(owner) = pod.owner.clone().filter(|_| attempts.failures == TELLING) {
                    let note = format!(
                        "pod {name} has done its work and its sidecars keep it running: {error}. Where a NetworkPolicy keeps the \
                         webhook from ports {ADMIN_PORT} and {LOGS_ADMIN_PORT} of the pod, allow it"
                    );
                    events.tell(owner, EventType::Warning, UNFINISHED, note);
                }
            }
        }
    }
}

async fn done(client: &Client) -> kube::Result<Vec<Done>> {
    // What has ended keeps its label, and could be thousands.
    let params = ListParams::default().labels(&format!("{FINISH_LABEL}=true")).fields("status.phase=Running");
    // Every few seconds, and so from the API server's memory (version 0), where at worst it is a moment old. Such a list comes whole, and is
    // taken apart where no admission waits for it.
    let running = list(client, "/api/v1/pods", &params.match_any()).await?;
    let read = move || {
        let mut found = Vec::new();
        running.each(|pod| found.extend(as_done(&pod))).map(|_| found)
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|_| Ok(Vec::new()))
        .map_err(kube::Error::SerdeError)
}

/// None where it is not, or can't be told.
fn as_done(pod: &Value) -> Option<Done> {
    let annotation = |key: &str| pod["metadata"]["annotations"][key].as_str();
    let report = annotation(STATUS_ANNOTATION).and_then(|status| serde_json::from_str::<Report>(status).ok());
    let ours = report.map_or_else(|| vec![PROXY_CONTAINER.to_owned()], |report| report.containers);
    let is_ours = |status: &&Value| ours.iter().any(|name| status["name"] == name.as_str());
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let (sidecars, apps): (Vec<_>, Vec<_>) = statuses.iter().partition(is_ours);
    // Where one that failed is started again, it is not done.
    let for_good = text(pod, "/spec/restartPolicy") == "Never";
    let ended = |app: &&Value| {
        let code = app.pointer("/state/terminated/exitCode").and_then(Value::as_i64);
        code == Some(0) || (for_good && code.is_some())
    };
    let running = |name: &str| {
        sidecars.iter().any(|sidecar| sidecar["name"] == name && sidecar.pointer("/state/running").is_some())
    };
    let admin = [(PROXY_CONTAINER, ADMIN_PORT), (LOGS_CONTAINER, LOGS_ADMIN_PORT)];
    let ports: Vec<_> = admin.into_iter().filter(|(name, _)| running(name)).map(|(_, port)| port).collect();
    let restarts = text(pod, "/spec/restartPolicy") == "Always";
    if !is_live(pod) || ports.is_empty() || restarts || apps.is_empty() || !apps.iter().all(ended) {
        return None;
    }
    let config: Value = serde_json::from_str(annotation(CONFIG_ANNOTATION)?).ok()?;
    // A pod whose config came from a file has none, and tells the app how to end the proxy.
    let token = config["token"].as_str().filter(|token| !token.is_empty())?;
    let namespace = text(pod, "/metadata/namespace");
    Some(Done {
        uid: text(pod, "/metadata/uid").to_owned(),
        namespace: namespace.to_owned(),
        owner: owner(pod, namespace),
        name: text(pod, "/metadata/name").to_owned(),
        address: text(pod, "/status/podIP").parse().ok()?,
        ports,
        token: token.to_owned(),
    })
}

async fn tell(pod: &Done, port: u16) -> Result<(), FinishError> {
    let stream = TcpStream::connect((pod.address, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post("/shutdown")
        .header(HOST, PROXY_CONTAINER)
        .header(AUTHORIZATION, format!("Bearer {}", pod.token))
        .body(Body::empty());
    let Ok(request) = request else { return Err(FinishError::Refused(StatusCode::UNAUTHORIZED)) };
    let status = tokio::select! {
        answer = sender.send_request(request) => answer?.status(),
        // It ends by itself only with an error.
        ended = connection => { ended?; return Err(FinishError::Timeout) }
    };
    if status.is_success() { Ok(()) } else { Err(FinishError::Refused(status)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(policy: &str, app: &Value, proxy: &Value) -> Value {
        let config = json!({"version": 1, "profile": "a/b", "token": "secret"}).to_string();
        json!({
            "metadata": {"uid": "u", "namespace": "shop", "name": "job", "annotations": {CONFIG_ANNOTATION: config}},
            "spec": {"restartPolicy": policy},
            "status": {"podIP": "10.0.0.7", "phase": "Running", "containerStatuses": [
                {"name": "app", "state": app}, {"name": PROXY_CONTAINER, "state": proxy},
            ]},
        })
    }

    #[test]
    fn work_is_done_when_every_app_has_ended_for_good() {
        let (running, exit) = (json!({"running": {}}), |code| json!({"terminated": {"exitCode": code}}));
        let done = |policy: &str, app: &Value, proxy: &Value| as_done(&pod(policy, app, proxy)).is_some();
        assert!(done("Never", &exit(0), &running) && done("OnFailure", &exit(0), &running));
        assert!(done("Never", &exit(1), &running));
        assert!(!done("OnFailure", &exit(1), &running), "the kubelet starts it again");
        assert!(!done("Always", &exit(0), &running));
        assert!(!done("Never", &running, &running));
        assert!(!done("Never", &json!({"waiting": {}}), &running));
        assert!(!done("Never", &exit(0), &exit(0)), "the proxy has ended");
        let mut no_token = pod("Never", &exit(0), &running);
        no_token["metadata"]["annotations"][CONFIG_ANNOTATION] =
            json!({"version": 1, "token": ""}).to_string().into();
        assert_eq!(as_done(&no_token), None, "no proxy takes that for its token");
        let found = as_done(&pod("Never", &exit(0), &running)).unwrap();
        assert_eq!((found.address.to_string().as_str(), found.token.as_str()), ("10.0.0.7", "secret"));
    }

    /// A refused connection fails at once. Nobody but the webhook's log knew why the Job did not complete.
    #[tokio::test]
    async fn owner_is_told_once_when_the_proxy_stays_out_of_reach() {
        let owner = ObjectReference { uid: Some("job".into()), ..ObjectReference::default() };
        let mut pod =
            as_done(&pod("Never", &json!({"terminated": {"exitCode": 0}}), &json!({"running": {}}))).unwrap();
        (pod.owner, pod.address) = (Some(owner), "127.0.81.9".parse().unwrap());
        let metrics = Metrics::unregistered();
        let (events, mut attempts) = (Events::new(metrics.clone()), HashMap::new());
        let mut now = Instant::now();
        for (tries, told) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            let due = due(vec![pod.clone()], &attempts, now);
            assert_eq!(due.len(), 1);
            finish(due, now, &mut attempts, &events, &metrics).await;
            assert_eq!((attempts["u"].failures, events.waiting()), (tries, told));
            assert!(super::due(vec![pod.clone()], &attempts, now).is_empty(), "not at once again");
            now = attempts["u"].due;
        }
    }

    #[test]
    fn those_that_were_tried_least_come_first() {
        let pod =
            as_done(&pod("Never", &json!({"terminated": {"exitCode": 0}}), &json!({"running": {}}))).unwrap();
        let pods: Vec<_> =
            (0..AT_A_LOOK + 2).map(|uid| Done { uid: uid.to_string(), ..pod.clone() }).collect();
        let now = Instant::now();
        let mut tried = Attempts::new(now);
        tried.wait *= 2;
        let attempts = pods.iter().skip(1).map(|pod| (pod.uid.clone(), tried)).collect();
        let mut turned = pods;
        turned.reverse();
        let due = due(turned, &attempts, now);
        assert_eq!((due.len(), due[0].uid.as_str()), (AT_A_LOOK, "0"));
    }
}
