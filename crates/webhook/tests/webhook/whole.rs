//! The whole process, `run`, against the fake API server: what an installation does from its first second to its last.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use kube::Client;
use outrigger_runtime::log;
use outrigger_runtime::shutdown::{self, Trigger};
use outrigger_webhook::options::TlsMode;
use outrigger_webhook::{Options, RunError, run};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::cluster::{self, CONFIGURATION, RELEASE, bundles, put_namespace, put_profile, review};
use crate::server::{connect, exchange};
use crate::{DEADLINE, until};

pub(crate) struct Webhook {
    pub(crate) tls: SocketAddr,
    admin: SocketAddr,
    pub(crate) trigger: Trigger,
    pub(crate) task: JoinHandle<Result<(), RunError>>,
}

impl Webhook {
    pub(crate) async fn start(client: Client) -> Self {
        Self::start_with(client, |_| {}).await
    }

    pub(crate) async fn start_with(client: Client, change: impl FnOnce(&mut Options)) -> Self {
        let (port, admin_port) = (free_port().await, free_port().await);
        let mut options = Options {
            namespace: RELEASE.into(),
            service: "outrigger-webhook".into(),
            secret: "outrigger-webhook-certificate".into(),
            webhook_configuration: "outrigger-webhook".into(),
            sidecar_image: "sidecar:1".into(),
            image_pull_policy: None,
            port,
            admin_port,
            tls_mode: TlsMode::SelfMade,
            certificate_lifetime: Duration::from_hours(1),
            lease: "outrigger-webhook".into(),
            pod_name: None,
            audit_interval: Duration::from_mins(1),
            live_reload: false,
            shutdown_delay: Duration::ZERO,
            log_level: "info".into(),
            log_format: log::Format::Text,
        };
        change(&mut options);
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(run(options, client, log::detached(), shutdown));
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { tls: address(port), admin: address(admin_port), trigger, task }
    }

    /// Status and body of an admin page; 503 where nobody listens yet.
    pub(crate) async fn page(&self, path: &str) -> (StatusCode, String) {
        let Ok(mut stream) = TcpStream::connect(self.admin).await else {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        (status, answer)
    }

    pub(crate) async fn ready(&self) {
        until("ready", async || self.page("/ready").await.0 == StatusCode::OK).await;
    }

    /// As an API server would ask, trusting the configuration's caBundle.
    pub(crate) async fn admit(&self, bundle: &str, review: &serde_json::Value) -> String {
        let mut stream = connect(self.tls, bundle.as_bytes(), rustls::ALL_VERSIONS).await.unwrap();
        let body = review.to_string();
        let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        exchange(&mut stream, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn fresh_installation_becomes_ready_admits_and_stops() {
    let (api, client) = cluster::installed().await;
    let webhook = Webhook::start(client).await;
    webhook.ready().await;
    let (_, metrics) = webhook.page("/metrics").await;
    for (result, reason, dry_run) in [("injected", "Injected", "false"), ("error", "NoDecision", "unknown")] {
        let labels = format!("result=\"{result}\",reason=\"{reason}\",dry_run=\"{dry_run}\"");
        let wanted = format!("outrigger_webhook_admissions_total{{{labels}}} 0");
        assert!(metrics.contains(&wanted), "{wanted} is not there before the first count:\n{metrics}");
    }
    let answer = webhook.admit(&bundles(&api)[0], &review("shop", &json!({}))).await;
    assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
    let (_, metrics) = webhook.page("/metrics").await;
    for wanted in [
        "outrigger_webhook_admissions_total{result=\"injected\",reason=\"Injected\",dry_run=\"false\"} 1",
        "outrigger_webhook_admission_duration_seconds_count 1",
        "outrigger_webhook_profiles 1",
        "outrigger_webhook_namespaces 2",
        "outrigger_webhook_ca_bundle_patches_total 1",
        "outrigger_webhook_certificate_expiry_timestamp_seconds 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in:\n{metrics}");
    }
    webhook.trigger.request();
    tokio::time::timeout(DEADLINE, webhook.task).await.unwrap().unwrap().unwrap();
}

/// One owner, three pods and a dry run: one Event on the owner, which counts; a refusal is another.
#[tokio::test]
async fn owner_of_a_pod_is_told_what_was_decided_and_nothing_of_dry_runs() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let (api, client) = cluster::installed().await;
    let webhook = Webhook::start(client).await;
    webhook.ready().await;
    let bundle = &bundles(&api)[0];
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "u1", "controller": true}]);
    let of_owner = |extra: Value| {
        let mut metadata = json!({"generateName": "web-5d-", "ownerReferences": owner});
        json_patch::merge(&mut metadata, &extra);
        review("shop", &metadata)
    };
    let mut dry = of_owner(json!({"labels": {"outrigger.dev/inject": "maybe"}}));
    dry["request"]["dryRun"] = true.into();
    webhook.admit(bundle, &dry).await;
    webhook.admit(bundle, &of_owner(json!({"labels": {"outrigger.dev/inject": "disabled"}}))).await;
    webhook.admit(bundle, &of_owner(json!({}))).await;
    until("the first Event", async || api.objects(EVENTS).len() == 1).await;
    let event = &api.objects(EVENTS)[0];
    assert_eq!((&event["reason"], &event["type"]), (&json!("Injected"), &json!("Normal")));
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["uid"]),
        (&json!("ReplicaSet"), &json!("u1"))
    );
    webhook.admit(bundle, &of_owner(json!({}))).await;
    until("the series", async || api.objects(EVENTS)[0]["series"]["count"] == 2).await;
    webhook.admit(bundle, &of_owner(json!({"annotations": {"outrigger.dev/profile": "none"}}))).await;
    until("the refusal", async || api.objects(EVENTS).len() == 2).await;
    let refusal = &api.objects(EVENTS)[1];
    assert_eq!((&refusal["reason"], &refusal["type"]), (&json!("ProfileNotFound"), &json!("Warning")));
}

#[tokio::test]
async fn watches_bring_what_changes() {
    let (api, client) = cluster::installed().await;
    let webhook = Webhook::start(client).await;
    webhook.ready().await;
    put_namespace(&api, "later", &json!({"outrigger.dev/inject": "enabled"}));
    put_profile(&api, "later", "own", &json!({"proxi": {}}));
    let has = async |wanted: &str| webhook.page("/metrics").await.1.contains(wanted);
    until("namespace", async || has("outrigger_webhook_namespaces 3").await).await;
    until("profile", async || has("outrigger_webhook_profiles 2").await).await;
    let named = review("later", &json!({"annotations": {"outrigger.dev/profile": "own"}}));
    let answer = webhook.admit(&bundles(&api)[0], &named).await;
    assert!(answer.contains("InvalidProfile") && answer.contains("proxi"), "{answer}");
    api.delete("/apis/outrigger.dev/v1alpha1/namespaces/later/sidecarprofiles/own");
    until("profile gone", async || has("outrigger_webhook_profiles 1").await).await;
    assert!(!has("outrigger_webhook_lookups_total{").await, "nothing had to be asked");
}

#[tokio::test]
async fn watch_that_fell_silent_is_covered_by_questions() {
    let (api, client) = cluster::installed().await;
    let webhook = Webhook::start(client).await;
    webhook.ready().await;
    api.fall_silent();
    put_namespace(&api, "later", &json!({"outrigger.dev/inject": "enabled"}));
    let answer = webhook.admit(&bundles(&api)[0], &review("later", &json!({}))).await;
    assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
}

#[tokio::test]
async fn missing_resource_is_named_until_it_is_there() {
    let (api, client) = cluster::installed().await;
    api.install("sidecarprofiles", false);
    let webhook = Webhook::start(client).await;
    let says = async || webhook.page("/ready").await.1;
    until("the reason", async || {
        says().await.contains("customresourcedefinition sidecarprofiles.outrigger.dev, profiles")
    })
    .await;
    api.install("sidecarprofiles", true);
    webhook.ready().await;
}

#[tokio::test]
async fn not_ready_while_the_configuration_is_missing() {
    let (api, client) = cluster::installed().await;
    let configuration = api.object(CONFIGURATION);
    api.delete(CONFIGURATION);
    let webhook = Webhook::start(client).await;
    until("only that", async || webhook.page("/ready").await.1.contains("not ready: certificate\n")).await;
    api.put(CONFIGURATION, configuration);
    webhook.ready().await;
}
