//! The cluster that is not there: what the chart would have installed, and the shop's manifests.

use outrigger_fake_api::FakeApi;
use serde_json::{Value, json};

/// Namespace of the release, and of the shop.
pub(crate) const RELEASE: &str = "outrigger-system";
pub(crate) const SHOP: &str = "shop";
/// Names of the release, as the chart gives them.
pub(crate) const NAME: &str = "outrigger-webhook";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger-webhook";

/// A Deployment of the shop: how many pods, and which profile.
pub(crate) struct Deployment {
    pub(crate) name: &'static str,
    pub(crate) pods: u8,
    profile: Option<&'static str>,
}

/// Whom others call comes first.
pub(crate) const DEPLOYMENTS: [Deployment; 3] = [
    Deployment { name: "payments", pods: 1, profile: None },
    Deployment { name: "api", pods: 4, profile: None },
    Deployment { name: "frontend", pods: 1, profile: Some("frontend") },
];

/// The objects of a fresh installation, and the shop's namespace, labelled.
pub(crate) fn install(api: &FakeApi) {
    let secret = format!("/api/v1/namespaces/{RELEASE}/secrets/{NAME}-certificate");
    api.put(&secret, json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}));
    let entry = |name: &str| {
        let service = json!({"name": NAME, "namespace": RELEASE, "path": "/mutate"});
        json!({"name": name, "clientConfig": {"service": service}, "sideEffects": "NoneOnDryRun",
            "admissionReviewVersions": ["v1"]})
    };
    api.put(
        CONFIGURATION,
        json!({"webhooks": [entry("namespaces.outrigger.dev"), entry("pods.outrigger.dev")]}),
    );
    api.put(
        "/version",
        json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"}),
    );
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "status": {"nodeInfo": {"kubeletVersion": "v1.34.0"}}});
    api.put("/api/v1/nodes/this-machine", node);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{RELEASE}/leases/{NAME}");
    api.put(&lease, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}));
    for (name, labels) in [(RELEASE, json!({})), (SHOP, json!({"outrigger.dev/inject": "enabled"}))] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": labels}});
        api.put(&format!("/api/v1/namespaces/{name}"), object);
    }
}

/// The shop's Deployments and Services, for those who ask for pods by them.
pub(crate) fn workloads(api: &FakeApi) {
    for Deployment { name, pods, .. } in &DEPLOYMENTS {
        let labels = json!({"app": name});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "spec": {"replicas": pods, "selector": {"matchLabels": labels}}});
        api.put(&format!("/apis/apps/v1/namespaces/{SHOP}/deployments/{name}"), deployment);
        let ports = json!([{"name": "http", "port": 8080, "targetPort": "http"}]);
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"selector": labels, "ports": ports}});
        api.put(&format!("/api/v1/namespaces/{SHOP}/services/{name}"), service);
    }
}

/// The shop's profiles, in the steps of the talk: the second version has each request as JSON in the proxies' logs, the third a breaker too, with
/// a canned answer, between the frontend and the payments that fail.
pub(crate) fn profiles(api: &FakeApi, version: u8, host: impl Fn(&str) -> String) {
    let tap = json!({"enabled": true});
    let proxy = match version {
        1 => json!({"tap": tap}),
        _ => json!({"tap": tap, "accessLog": "json", "logLevel": "debug"}),
    };
    let upstream =
        |name: &str, env: &str| json!({"name": name, "host": host(name), "port": 8080, "env": env});
    let mut upstreams = [upstream("api", "API_URL"), upstream("payments", "PAYMENTS_URL")];
    if version >= 3 {
        let body = r#"{"payments":[],"text":"what we showed yesterday"}"#;
        let fallback = json!({"status": 200, "contentType": "application/json", "body": body});
        upstreams[1]["circuitBreaker"] =
            json!({"failureRatio": 0.1, "minRequests": 10, "fallback": fallback});
    }
    for (namespace, name, spec) in [
        (RELEASE, "default", json!({"interception": "ports", "proxy": proxy})),
        (SHOP, "frontend", json!({"interception": "ports", "proxy": proxy, "upstreams": upstreams})),
    ] {
        let path = format!("/apis/outrigger.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles/{name}");
        api.put(
            &path,
            json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "spec": spec}),
        );
    }
}

/// The authority that API servers are to trust, as the webhook has written it, in base64.
pub(crate) fn ca_bundle(api: &FakeApi) -> Option<String> {
    let configuration = api.object(CONFIGURATION);
    configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().map(str::to_owned)
}

/// A pod as the Deployment's controller creates it.
pub(crate) fn pod(deployment: &Deployment, host: impl Fn(&str) -> String) -> Value {
    let name = deployment.name;
    // As an app finds others without sidecars; where a profile names the upstream, its variable leads to the proxy instead.
    let variable =
        |name: &str, service| json!({"name": name, "value": format!("http://{}:8080", host(service))});
    let environment = [variable("API_URL", "api"), variable("PAYMENTS_URL", "payments")];
    let environment = if name == "frontend" { json!(environment) } else { json!([]) };
    let annotations =
        deployment.profile.map_or(json!({}), |profile| json!({"outrigger.dev/profile": profile}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": format!("{name}-7d9c4f-"), "namespace": SHOP, "annotations": annotations,
            "labels": {"app": name, "pod-template-hash": "7d9c4f"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{name}-7d9c4f"),
                "uid": "00000000-0000-4000-8000-000000000001", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "containers": [{
                "name": name, "image": "outrigger/demo:local", "args": ["serve", "--port=8080"],
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "env": environment, "resources": {}, "imagePullPolicy": "IfNotPresent",
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
            }],
            "restartPolicy": "Always", "serviceAccountName": "default",
        },
    })
}
