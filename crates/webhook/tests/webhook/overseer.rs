//! What becomes of pods that run, with the whole process against the fake API server.

use std::collections::HashSet;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use kube::Client;
use outrigger_api::names::{CONFIG_ANNOTATION, FINISH_LABEL};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cluster::{self, CONFIGURATION, RELEASE, bundles, put_namespace, put_profile, review};
use crate::until;
use crate::whole::Webhook;
use outrigger_fake_api::FakeApi;

async fn watching(client: Client, live_reload: bool) -> Webhook {
    let webhook = Webhook::start_with(client, |options| {
        options.audit_interval = Duration::from_millis(50);
        options.live_reload = live_reload;
    })
    .await;
    webhook.ready().await;
    webhook
}

fn owned_by(name: &str) -> Value {
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": name, "controller": true});
    json!({"ownerReferences": [owner]})
}

/// Stores a pod that nobody injected.
fn put_pod(api: &FakeApi, namespace: &str, name: &str) {
    let mut pod = review(namespace, &owned_by("web"))["request"]["object"].take();
    pod["status"] = json!({"phase": "Running"});
    api.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
}

/// Has a pod admitted, and stores what comes of it.
async fn put_injected(api: &FakeApi, webhook: &Webhook, name: &str) {
    let mut review = review("shop", &owned_by("web"));
    let answer = webhook.admit(&bundles(api)[0], &review).await;
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let mut pod = review["request"]["object"].take();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    pod["status"] = json!({"phase": "Running"});
    api.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod);
}

async fn counts(webhook: &Webhook, namespace: &str, standing: &str, count: usize) {
    let line =
        format!("outrigger_webhook_pods{{namespace=\"{namespace}\",standing=\"{standing}\"}} {count}\n");
    until(&line, async || webhook.page("/metrics").await.1.contains(&line)).await;
}

/// Of all Events of a namespace, those with this reason.
fn events(api: &FakeApi, namespace: &str, reason: &str) -> Vec<Value> {
    let mut events = api.objects(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
    events.retain(|event| event["reason"] == reason);
    events
}

/// linkerd2#13702: pods that were never injected ran on and nobody knew.
#[tokio::test]
async fn pods_from_before_the_label_are_found_in_every_page_and_their_owner_is_told_once() {
    let (api, client) = cluster::installed().await;
    put_namespace(&api, "late", &json!({}));
    for number in 0..120 {
        put_pod(&api, "late", &format!("web-{number:03}"));
    }
    put_pod(&api, RELEASE, "own");
    let webhook = watching(client, false).await;
    until("a look", async || webhook.page("/metrics").await.1.contains("outrigger_webhook_leading 1")).await;
    assert!(events(&api, "late", "SidecarsMissing").is_empty());
    put_namespace(&api, "late", &json!({"outrigger.dev/inject": "enabled"}));
    counts(&webhook, "late", "missing", 120).await;
    until("the Event", async || events(&api, "late", "SidecarsMissing").len() == 1).await;
    let event = &events(&api, "late", "SidecarsMissing")[0];
    assert_eq!((&event["regarding"]["name"], &event["type"]), (&json!("web"), &json!("Warning")));

    api.delete("/api/v1/namespaces/late/pods/web-000");
    counts(&webhook, "late", "missing", 119).await;
    let told = events(&api, "late", "SidecarsMissing");
    assert!(told.len() == 1 && told[0]["series"].is_null(), "told once");
    assert!(
        !webhook.page("/metrics").await.1.contains("namespace=\"outrigger\""),
        "nobody asked for that one"
    );
}

/// Only namespaces left out by name were taken note of: `check` and the metric did not agree.
#[tokio::test]
async fn pods_about_which_no_api_server_asks_are_not_missing() {
    let (api, client) = cluster::installed().await;
    let rule = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let mut configuration = api.object(CONFIGURATION);
    for entry in configuration["webhooks"].as_array_mut().unwrap() {
        entry["namespaceSelector"] = rule("stage", "In", json!(["production"]));
        entry["objectSelector"] = rule("batch", "DoesNotExist", Value::Null);
    }
    api.put(CONFIGURATION, configuration);
    let enabled = "outrigger.dev/inject";
    put_namespace(&api, "try", &json!({enabled: "enabled", "stage": "test"}));
    put_namespace(&api, "live", &json!({enabled: "enabled", "stage": "production"}));
    for (namespace, name) in [("try", "web"), ("live", "web"), ("live", "batch")] {
        put_pod(&api, namespace, name);
    }
    let path = "/api/v1/namespaces/live/pods/batch";
    let mut pod = api.object(path);
    pod["metadata"]["labels"]["batch"] = "yes".into();
    api.put(path, pod);
    let webhook = watching(client, false).await;
    counts(&webhook, "live", "missing", 1).await;
    assert!(!webhook.page("/metrics").await.1.contains("namespace=\"try\""));
}

/// A list for each labelled namespace, one after the other, took longer than the interval in a cluster of many.
#[tokio::test]
async fn pods_of_many_namespaces_come_in_one_list() {
    let (api, client) = cluster::installed().await;
    for number in 0..60 {
        let name = format!("team-{number:02}");
        put_namespace(&api, &name, &json!({"outrigger.dev/inject": "enabled"}));
        put_pod(&api, &name, "web");
    }
    put_namespace(&api, "quiet", &json!({}));
    put_pod(&api, "quiet", "web");
    let webhook = watching(client, false).await;
    put_injected(&api, &webhook, "web-1").await;
    counts(&webhook, "team-59", "missing", 1).await;
    counts(&webhook, "shop", "current", 1).await;
    assert!(!webhook.page("/metrics").await.1.contains("namespace=\"quiet\""), "nobody asked for that one");
    assert_eq!(api.requests("GET /api/v1/namespaces/team-"), 0);
}

#[tokio::test]
async fn live_reload_brings_a_changed_profile_to_a_running_pod_and_keeps_its_token() {
    let (api, client) = cluster::installed().await;
    let webhook = watching(client, true).await;
    put_injected(&api, &webhook, "web-1").await;
    counts(&webhook, "shop", "current", 1).await;
    let config = || {
        let pod = api.object("/api/v1/namespaces/shop/pods/web-1");
        let config = pod["metadata"]["annotations"][CONFIG_ANNOTATION].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&config).unwrap()
    };
    let token = config()["token"].clone();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    until("the new level", async || config()["logLevel"] == "debug").await;
    assert_eq!(config()["token"], token);
    until("the Event", async || events(&api, "shop", "Reconfigured").len() == 1).await;
    let wanted = "outrigger_webhook_reloads_total{result=\"done\"} 1\n";
    until(wanted, async || webhook.page("/metrics").await.1.contains(wanted)).await;

    put_profile(&api, RELEASE, "default", &json!({"proxy": {"resources": {"limits": {"memory": "99Mi"}}}}));
    counts(&webhook, "shop", "outdated", 1).await;
    until("the Event", async || events(&api, "shop", "RestartNeeded").len() == 1).await;
}

/// The first change was told, and the next one of the same owner neither by a new look nor by the Event, whose count alone rose.
#[tokio::test]
async fn each_change_that_reaches_a_pod_is_told_with_what_differs() {
    let (api, client) = cluster::installed().await;
    let webhook = watching(client, true).await;
    put_injected(&api, &webhook, "web-1").await;
    counts(&webhook, "shop", "current", 1).await;
    for (told, level) in ["debug", "info", "debug"].into_iter().enumerate() {
        put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": level}}));
        until(level, async || events(&api, "shop", "Reconfigured").len() == told + 1).await;
    }
    let resources = json!({"resources": {"limits": {"memory": "99Mi"}}});
    put_profile(&api, RELEASE, "default", &json!({"proxy": resources}));
    until("the memory", async || events(&api, "shop", "RestartNeeded").len() == 1).await;
    let volume = json!({"mounts": [{"container": "app", "path": "/shared"}]});
    put_profile(&api, RELEASE, "default", &json!({"proxy": resources, "sharedVolume": volume}));
    until("the volume", async || events(&api, "shop", "RestartNeeded").len() == 2).await;
    let notes: HashSet<_> =
        events(&api, "shop", "RestartNeeded").iter().map(|event| event["note"].to_string()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[tokio::test]
async fn without_live_reload_pods_are_counted_and_not_touched() {
    let (api, client) = cluster::installed().await;
    let webhook = watching(client, false).await;
    put_injected(&api, &webhook, "web-1").await;
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    counts(&webhook, "shop", "reconfigurable", 1).await;
    assert_eq!(api.requests("PATCH /api/v1/namespaces/shop/pods"), 0);
}

#[tokio::test]
async fn status_of_a_profile_says_whether_it_is_valid_and_how_many_pods_use_it() {
    let (api, client) = cluster::installed().await;
    let webhook = watching(client, false).await;
    put_profile(&api, "shop", "broken", &json!({"proxi": {}}));
    put_injected(&api, &webhook, "web-1").await;
    put_injected(&api, &webhook, "web-2").await;
    let status = |namespace: &str, name: &str| {
        let path = format!("/apis/outrigger.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles/{name}");
        api.object(&path)["status"].take()
    };
    until("the count", async || status(RELEASE, "default")["pods"] == 2).await;
    assert_eq!(status(RELEASE, "default")["conditions"][0]["status"], "True");
    until("the fault", async || status("shop", "broken")["conditions"][0]["status"] == "False").await;
    assert_eq!(status("shop", "broken")["pods"], 0);
}

/// One from before the `CustomResourceDefinition` knew that rule: without ratcheting the API server refuses its status too, and
/// every profile after it went without.
#[tokio::test]
async fn a_profile_whose_status_is_refused_keeps_no_other_from_its_own() {
    let (api, client) = cluster::installed().await;
    put_profile(&api, RELEASE, "a-old", &json!({"inbound": [{"port": 70_000}]}));
    let line = "PATCH /apis/outrigger.dev/v1alpha1/namespaces/outrigger/sidecarprofiles/a-old";
    api.refuse(line, StatusCode::UNPROCESSABLE_ENTITY, "spec.inbound[0].port: Invalid value: 70000");
    let webhook = watching(client, false).await;
    let path = "/apis/outrigger.dev/v1alpha1/namespaces/outrigger/sidecarprofiles/default";
    until("the status", async || api.object(path)["status"]["conditions"][0]["status"] == "True").await;
    let done = "outrigger_webhook_profile_statuses_total{result=\"done\"} 1\n";
    let again = async || {
        let page = webhook.page("/metrics").await.1;
        page.contains(done) && api.requests(line) > 1
    };
    until("it is tried again, and no other", again).await;
    assert!(webhook.page("/metrics").await.1.contains("outrigger_webhook_audit_failures_total 0\n"));
}

/// Stores a pod of a Job whose work is done, and whose proxy runs on.
fn put_done(api: &FakeApi, name: &str, address: &str, token: &str) {
    let config = json!({"version": 1, "profile": "a/b", "token": token}).to_string();
    let annotations = json!({CONFIG_ANNOTATION: config});
    api.put(
        &format!("/api/v1/namespaces/shop/pods/{name}"),
        json!({
            "metadata": {"uid": name, "labels": {FINISH_LABEL: "true"}, "annotations": annotations},
            "spec": {"restartPolicy": "Never", "containers": []},
            "status": {"podIP": address, "phase": "Running", "containerStatuses": [
                {"name": "work", "state": {"terminated": {"exitCode": 0}}},
                {"name": "outrigger-proxy", "state": {"running": {}}},
            ]},
        }),
    );
}

/// Each held up every other for 2 s, in a namespace whose policy lets nobody in.
#[tokio::test]
async fn pods_out_of_reach_hold_up_no_other() {
    // It takes connections and never answers.
    let _deaf = TcpListener::bind("127.0.81.8:15190").await.unwrap();
    let (told, mut hear) = mpsc::channel(8);
    let shutdown = post(async move || {
        let _ = told.send(()).await;
    });
    let listener = TcpListener::bind("127.0.81.10:15190").await.unwrap();
    let proxy =
        tokio::spawn(async { axum::serve(listener, Router::new().route("/shutdown", shutdown)).await });
    let (api, client) = cluster::installed().await;
    for number in 0..15 {
        put_done(&api, &format!("deaf-{number:02}"), "127.0.81.8", "secret-of-the-pod");
    }
    put_done(&api, "job-1", "127.0.81.10", "secret-of-the-pod");
    let _webhook = watching(client, false).await;
    tokio::time::timeout(crate::DEADLINE, hear.recv()).await.unwrap().unwrap();
    proxy.abort();
}

/// istio#11045: where the proxy is a plain container, the Job of a pod whose work is done never completed.
#[tokio::test]
async fn proxy_of_a_job_whose_work_is_done_is_told_with_its_own_token() {
    let (told, mut hear) = mpsc::channel(8);
    let shutdown = post(async move |headers: HeaderMap| {
        let _ = told.send(headers["authorization"].to_str().unwrap().to_owned()).await;
    });
    // Its port can't be chosen, so its address on loopback is one that nobody else uses.
    let listener = TcpListener::bind("127.0.81.7:15190").await.unwrap();
    let proxy =
        tokio::spawn(async { axum::serve(listener, Router::new().route("/shutdown", shutdown)).await });

    let (api, client) = cluster::installed().await;
    put_done(&api, "job-1", "127.0.81.7", "secret-of-the-pod");
    let webhook = watching(client, false).await;
    let heard = tokio::time::timeout(crate::DEADLINE, hear.recv()).await.unwrap();
    assert_eq!(heard.unwrap(), "Bearer secret-of-the-pod");
    let wanted = "outrigger_webhook_finishes_total{result=\"done\"} 1\n";
    until(wanted, async || webhook.page("/metrics").await.1.contains(wanted)).await;
    proxy.abort();
}

#[tokio::test]
async fn only_the_leader_looks_and_its_successor_goes_on() {
    let (api, client) = cluster::installed().await;
    put_pod(&api, "shop", "web-1");
    let first = watching(client.clone(), false).await;
    counts(&first, "shop", "missing", 1).await;
    let second = watching(client, false).await;
    assert!(!second.page("/metrics").await.1.contains("outrigger_webhook_pods{"));
    first.trigger.request();
    tokio::time::timeout(crate::DEADLINE, first.task).await.unwrap().unwrap().unwrap();
    counts(&second, "shop", "missing", 1).await;
}
