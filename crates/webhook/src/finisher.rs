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
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::Client;
use outrigger_api::names::{
    ADMIN_PORT, CONFIG_ANNOTATION, FINISH_LABEL, LOGS_ADMIN_PORT, LOGS_CONTAINER, PROXY_CONTAINER,
    STATUS_ANNOTATION,
};
use outrigger_inject::Report;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::audit::{runs, text};
use crate::lookup::why;
use crate::metrics::{Metrics, Outcome};
use crate::pages::{Place, page};

/// How often the pods are looked at: a Job ends so much later than its work.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a sidecar may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// First and longest wait before one that did not answer is told again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// A pod whose work is done and whose sidecars run on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    uid: String,
    namespace: String,
    name: String,
    address: IpAddr,
    /// The admin ports of the sidecars that run.
    ports: Vec<u16>,
    token: String,
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
pub(crate) async fn run(client: Client, metrics: Metrics) {
    // Of those that did not answer, by UID: when to try again, and how long to wait after that.
    let mut later: HashMap<String, (Instant, Duration)> = HashMap::new();
    loop {
        match done(&client).await {
            Ok(done) => {
                later.retain(|uid, _| done.iter().any(|pod| pod.uid == *uid));
                for pod in &done {
                    finish(pod, &mut later, &metrics).await;
                }
            }
            Err(error) => tracing::warn!(why = why(&error), "failed to list pods to finish"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn finish(pod: &Done, later: &mut HashMap<String, (Instant, Duration)>, metrics: &Metrics) {
    let (due, wait) = later.get(&pod.uid).copied().unwrap_or((Instant::now(), BACKOFF.0));
    if Instant::now() < due {
        return;
    }
    let mut told = Ok(());
    for port in &pod.ports {
        let one = tokio::time::timeout(TIMEOUT, tell(pod, *port)).await;
        told = told.and(one.unwrap_or(Err(FinishError::Timeout)));
    }
    let (namespace, name) = (&pod.namespace, &pod.name);
    match &told {
        Ok(()) => tracing::info!(namespace, pod = name, "told the sidecars that the work is done"),
        Err(error) => {
            tracing::warn!(namespace, pod = name, %error, retry_in = ?wait, "failed to finish pod");
        }
    }
    // One that was told may need a while to end, too.
    later.insert(pod.uid.clone(), (Instant::now() + wait, (wait * 2).min(BACKOFF.1)));
    metrics.finishes.get_or_create(&Outcome::of(&told)).inc();
}

async fn done(client: &Client) -> kube::Result<Vec<Done>> {
    let place = Place::Label(FINISH_LABEL, "true");
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = page(client, &place, token.as_deref()).await?;
        token = page.each(|pod| found.extend(as_done(&pod))).map_err(kube::Error::SerdeError)?;
        if token.is_none() {
            return Ok(found);
        }
    }
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
    if !runs(pod) || ports.is_empty() || restarts || apps.is_empty() || !apps.iter().all(ended) {
        return None;
    }
    let config: Value = serde_json::from_str(annotation(CONFIG_ANNOTATION)?).ok()?;
    Some(Done {
        uid: text(pod, "/metadata/uid").to_owned(),
        namespace: text(pod, "/metadata/namespace").to_owned(),
        name: text(pod, "/metadata/name").to_owned(),
        address: text(pod, "/status/podIP").parse().ok()?,
        ports,
        token: config["token"].as_str()?.to_owned(),
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
        let found = as_done(&pod("Never", &exit(0), &running)).unwrap();
        assert_eq!((found.address.to_string().as_str(), found.token.as_str()), ("10.0.0.7", "secret"));
    }
}
