//! `POST /mutate` without TLS: what each review is answered.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use http_body_util::BodyExt;
use kube::Client;
use outrigger_webhook::body::Bodies;
use outrigger_webhook::decision::Decider;
use outrigger_webhook::events::Events;
use outrigger_webhook::known::{Known, namespace};
use outrigger_webhook::lookup::Lookup;
use outrigger_webhook::metrics::{Admitted, Metrics};
use outrigger_webhook::mutate::{self, Mutate};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cluster::{self, RELEASE, client_of, put_namespace, put_profile, review};
use crate::nodes::settings;
use outrigger_fake_api::FakeApi;

/// Not random, so that answers can be compared.
#[derive(Debug)]
struct Sevens;

impl rustls::crypto::SecureRandom for Sevens {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
        bytes.fill(0x77);
        Ok(())
    }
}

/// Knows the namespaces `shop` (enabled), `quiet` (not labelled) and `slip` (labelled wrongly), and the profiles `default` and
/// `broken`.
fn router(client: Client) -> (Router, Metrics) {
    router_within(client, Bodies::default())
}

fn router_within(client: Client, bodies: Bodies) -> (Router, Metrics) {
    let metrics = Metrics::unregistered();
    let known = Known::new(RELEASE, settings());
    for (name, label) in [("shop", Some("enabled")), ("quiet", None), ("slip", Some("enable"))] {
        let labels = label.map(|label| json!({"outrigger.dev/inject": label}));
        let metadata = serde_json::from_value(json!({"name": name, "labels": labels})).unwrap();
        known.change(|caches| caches.namespaces.insert(name.into(), namespace(metadata)).is_none());
    }
    let broken = json!({"inbound": [{"port": 0}], "proxy": {"resources": {"requests": {"cpu": "1 core"}}}});
    for (namespace, name, spec) in [(RELEASE, "default", json!({})), ("shop", "broken", broken)] {
        known.change(|caches| caches.profiles.set(namespace, name, &spec));
    }
    let decider = Decider {
        known,
        lookup: Lookup::new(client, metrics.clone()),
        release_namespace: RELEASE.into(),
        random: &Sevens,
    };
    let events = Events::new(metrics.clone());
    (mutate::router(Mutate { decider, bodies, events, metrics: metrics.clone() }), metrics)
}

async fn setup() -> (FakeApi, Router, Metrics) {
    let (api, client) = cluster::installed().await;
    put_namespace(&api, "quiet", &json!({}));
    let (router, metrics) = router(client);
    (api, router, metrics)
}

async fn post(router: &Router, content_type: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::post("/mutate").header("content-type", content_type).body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn answer(router: &Router, review: &Value) -> Value {
    let (status, body) = post(router, "application/json", review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn patch(answer: &Value) -> Vec<Value> {
    let encoded = answer["response"]["patch"].as_str().unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
}

/// The patch itself is the golden files' matter; here it is enough what it touches.
fn with_patch_summed_up(mut answer: Value) -> Value {
    if answer["response"]["patch"].is_string() {
        let line = |op: &Value| format!("{} {}", op["op"].as_str().unwrap(), op["path"].as_str().unwrap());
        answer["response"]["patch"] = patch(&answer).iter().map(line).collect::<Vec<_>>().into();
    }
    answer
}

#[test]
fn reviews_are_answered_as_recorded() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    insta::glob!("reviews/*.json", |path| {
        let review: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let answer = runtime.block_on(async {
            let (_api, router, _) = setup().await;
            answer(&router, &review).await
        });
        insta::assert_json_snapshot!(with_patch_summed_up(answer));
    });
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let (_api, router, metrics) = setup().await;
    let good = review("shop", &json!({})).to_string();
    let without = |pointer: &str, field: &str| {
        let mut review = review("shop", &json!({}));
        review.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(field);
        review.to_string()
    };
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        ("text/plain", good.clone(), 415, "application/json"),
        ("", good.clone(), 415, "application/json"),
        (json, String::new(), 400, "EOF"),
        (json, "null".into(), 400, "invalid type"),
        (json, "[]".into(), 400, "failed to parse admission review"),
        (json, "{".into(), 400, "EOF"),
        (json, good[..good.len() / 2].into(), 400, "failed to parse admission review"),
        (json, deep, 400, "failed to parse admission review"),
        (json, without("", "request"), 400, "request is missing"),
        (json, without("/request", "uid"), 400, "request.uid is missing"),
        (json, without("/request", "namespace"), 400, "request.namespace is missing"),
        (json, good.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"), 400, "v1beta1"),
        (json, good.replace("\"7b1f\"", "17"), 400, "invalid type"),
    ];
    for (content_type, body, status, wanted) in &cases {
        let (got, message) = post(&router, content_type, body.clone()).await;
        let shown = &body[..body.len().min(80)];
        assert!(got == *status && message.contains(wanted), "{shown} gave {got} {message}");
    }
    let errors = |reason| {
        metrics.admissions.get_or_create(&Admitted { result: "error", reason, dry_run: "unknown" }).get()
    };
    assert_eq!(errors("WrongContentType") + errors("MalformedReview"), cases.len() as u64);
    assert_eq!(errors("NoDecision"), 0);
}

#[tokio::test]
async fn body_may_have_four_mebibytes_and_no_more() {
    let (_api, router, _) = setup().await;
    let mut review = review("shop", &json!({}));
    review["request"]["oldObject"] = "x".repeat(4 * 1024 * 1024 - 2000).into();
    assert_eq!(answer(&router, &review).await["response"]["allowed"], true);
    review["request"]["oldObject"] = "x".repeat(4 * 1024 * 1024).into();
    let (status, message) = post(&router, "application/json", review.to_string()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{message}");
}

#[tokio::test]
async fn over_the_budget_large_bodies_are_put_off_and_small_ones_pass() {
    let (_api, client) = cluster::installed().await;
    let (router, metrics) = router_within(client, Bodies::within(0));
    let mut large = review("shop", &json!({}));
    large["request"]["oldObject"] = "x".repeat(100_000).into();
    let request = Request::post("/mutate").header("content-type", "application/json");
    let response =
        router.clone().oneshot(request.body(Body::from(large.to_string())).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    let labels = Admitted { result: "error", reason: "Overloaded", dry_run: "unknown" };
    assert_eq!(metrics.admissions.get_or_create(&labels).get(), 1);
    assert!(!patch(&answer(&router, &review("shop", &json!({}))).await).is_empty());
}

#[tokio::test]
async fn only_post_to_mutate_is_answered() {
    let (_api, router, _) = setup().await;
    for (method, path, status) in [("GET", "/mutate", 405), ("POST", "/", 404), ("GET", "/metrics", 404)] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn settled_caches_ask_nobody() {
    let (api, router, metrics) = setup().await;
    answer(&router, &review("shop", &json!({"generateName": "web-"}))).await;
    let mut dry = review("shop", &json!({}));
    dry["request"]["dryRun"] = true.into();
    answer(&router, &dry).await;
    assert_eq!(api.requests(""), 0);
    for dry_run in ["false", "true"] {
        let labels = Admitted { result: "injected", reason: "Injected", dry_run };
        assert_eq!(metrics.admissions.get_or_create(&labels).get(), 1);
    }
}

/// A namespace that the watch has not told of, or not of its label, or that is not labelled any more.
#[tokio::test]
async fn namespace_is_asked_for_where_the_cache_contradicts_the_call() {
    let (api, router, _) = setup().await;
    put_namespace(&api, "quiet", &json!({"outrigger.dev/inject": "enabled"}));
    put_namespace(&api, "new", &json!({"outrigger.dev/inject": "enabled"}));
    // A wrong value was believed, and a pod made just after it was mended was left without sidecars.
    put_namespace(&api, "slip", &json!({"outrigger.dev/inject": "enabled"}));
    for namespace in ["quiet", "new", "slip"] {
        let answer = answer(&router, &review(namespace, &json!({}))).await;
        assert!(!patch(&answer).is_empty());
        assert_eq!(api.requests(&format!("GET /api/v1/namespaces/{namespace}")), 1);
    }
    let opted_out = review("quiet", &json!({"labels": {"outrigger.dev/inject": "disabled"}}));
    assert_eq!(answer(&router, &opted_out).await["response"]["auditAnnotations"]["reason"], "OptedOut");
    assert_eq!(api.requests("GET /api/v1/namespaces/quiet"), 1, "the pod itself says no");
}

#[tokio::test]
async fn namespace_that_cannot_be_read_leaves_it_to_the_failure_policy() {
    let (_api, router, metrics) = setup().await;
    for name in ["nowhere", "../../secrets/x", ""] {
        let (status, message) = post(&router, "application/json", review(name, &json!({})).to_string()).await;
        assert!(status.is_client_error() || status.is_server_error(), "{name} gave {status} {message}");
    }
    let labels = Admitted { result: "error", reason: "NoDecision", dry_run: "unknown" };
    assert_eq!(metrics.admissions.get_or_create(&labels).get(), 2);
}

#[tokio::test]
async fn profile_is_asked_for_before_its_absence_refuses_a_pod() {
    let (api, router, _) = setup().await;
    put_profile(&api, "shop", "fresh", &json!({}));
    put_profile(&api, RELEASE, "fresh-for-all", &json!({}));
    for (name, place) in [("fresh", "shop"), ("fresh-for-all", RELEASE)] {
        let answer =
            answer(&router, &review("shop", &json!({"annotations": {"outrigger.dev/profile": name}}))).await;
        assert_eq!(answer["response"]["auditAnnotations"]["profile"], format!("{place}/{name}"));
    }
    let before = api.requests("");
    let odd = json!({"annotations": {"outrigger.dev/profile": "../../secrets/x"}});
    assert_eq!(answer(&router, &review("shop", &odd)).await["response"]["allowed"], false);
    assert_eq!(api.requests(""), before, "a name that is none is not asked for");
}

/// Any JSON, also in the place of a pod.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("labels"),
        Just("annotations"),
        Just("containers"),
        Just("initContainers"),
        Just("ports"),
        Just("name"),
        Just("volumes"),
        Just("containerPort"),
        Just("outrigger.dev/inject"),
        Just("outrigger.dev/profile"),
        Just("request"),
        Just("x"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let object = prop::collection::vec((key.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

/// Never a panic: that would be a 500 with the reason `Bug`.
#[test]
fn anything_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    // Nobody listens there, so a question fails at once.
    let (router, metrics) = router(client_of("http://127.0.0.1:1"));
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(any::<Vec<u8>>(), any_json()), |(noise, value)| {
        let mut as_pod = review("shop", &json!({}));
        as_pod["request"]["object"] = value.clone();
        let mut as_review = value;
        if as_review.is_object() {
            as_review["apiVersion"] = "admission.k8s.io/v1".into();
            as_review["kind"] = "AdmissionReview".into();
        }
        for body in [noise, as_pod.to_string().into_bytes(), as_review.to_string().into_bytes()] {
            runtime.block_on(post(&router, "application/json", body));
        }
        let labels = Admitted { result: "error", reason: "Bug", dry_run: "unknown" };
        prop_assert_eq!(metrics.admissions.get_or_create(&labels).get(), 0);
        Ok(())
    });
    outcome.unwrap();
}
