//! The objects of a cluster where the chart has just been installed.

use kube::{Client, Config};
use serde_json::{Value, json};

use outrigger_fake_api::FakeApi;

pub(crate) const RELEASE: &str = "outrigger";
pub(crate) const SECRET: &str = "/api/v1/namespaces/outrigger/secrets/outrigger-webhook-certificate";
pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger-webhook";
pub(crate) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/outrigger/leases/outrigger-webhook";
pub(crate) const NAME: &str = "outrigger-webhook.outrigger.svc";

/// As the chart leaves it, with one labelled namespace, `shop`.
pub(crate) async fn installed() -> (FakeApi, Client) {
    let api = FakeApi::start(0).await;
    api.put(SECRET, json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}));
    let entry = |name: &str| {
        let service = json!({"name": "outrigger-webhook", "namespace": RELEASE, "path": "/mutate"});
        json!({
            "name": name, "clientConfig": {"service": service},
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    };
    let webhooks = [entry("namespaces.outrigger.dev"), entry("pods.outrigger.dev")];
    api.put(CONFIGURATION, json!({"metadata": {"labels": {"kept": "yes"}}, "webhooks": webhooks}));
    api.put(
        "/version",
        json!({"major": "1", "minor": "34+", "gitVersion": "v1.34.1-x", "platform": "linux/amd64"}),
    );
    put_node(&api, "old", "v1.33.2");
    put_node(&api, "new", "v1.34.1");
    api.put(LEASE, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}));
    put_namespace(&api, RELEASE, &json!({}));
    put_namespace(&api, "shop", &json!({"outrigger.dev/inject": "enabled"}));
    put_profile(&api, RELEASE, "default", &json!({}));
    let client = client(&api);
    (api, client)
}

pub(crate) fn client(api: &FakeApi) -> Client {
    client_of(&api.url())
}

pub(crate) fn client_of(url: &str) -> Client {
    // Its TLS, which nobody uses here, is made by the default of the process, and a build of many crates has none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(Config::new(url.parse().unwrap())).unwrap()
}

pub(crate) fn put_namespace(api: &FakeApi, name: &str, labels: &Value) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": labels}});
    api.put(&format!("/api/v1/namespaces/{name}"), object);
}

pub(crate) fn put_node(api: &FakeApi, name: &str, version: &str) {
    let status = json!({"nodeInfo": {"kubeletVersion": version}, "images": [{"names": ["large"]}]});
    api.put(&format!("/api/v1/nodes/{name}"), json!({"apiVersion": "v1", "kind": "Node", "status": status}));
}

pub(crate) fn put_profile(api: &FakeApi, namespace: &str, name: &str, spec: &Value) {
    let object = json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "spec": spec});
    api.put(&format!("/apis/outrigger.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles/{name}"), object);
}

/// The review of a pod with one named port, as a controller creates it.
pub(crate) fn review(namespace: &str, metadata: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "7b1f", "operation": "CREATE", "namespace": namespace, "dryRun": false,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": {"containers": [{
                    "name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}],
                }]},
            },
        },
    })
}

/// The caBundle of each webhook entry, decoded.
pub(crate) fn bundles(api: &FakeApi) -> Vec<String> {
    use base64::Engine as _;
    let configuration = api.object(CONFIGURATION);
    let webhooks = configuration["webhooks"].as_array().unwrap();
    let bundle = |webhook: &Value| {
        let encoded = webhook["clientConfig"]["caBundle"].as_str().unwrap_or("");
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
    };
    webhooks.iter().map(bundle).collect()
}
