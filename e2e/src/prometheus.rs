//! A real Prometheus in a test's namespace, by the configuration and the rules that users get, only faster.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Namespace;
use crate::namespace::from_json;

const CONFIGURATION: &str = include_str!("../../docs/prometheus.yaml");
const PAGE: &str = include_str!("../../docs/prometheus.md");
const RULES: &str = include_str!("../../charts/outrigger/rules/outrigger.yaml");

/// The image that `e2e/prometheus-image` builds.
pub const IMAGE: &str = "outrigger/prometheus:dev";

/// Starts it, and waits until it is ready: pod `prometheus`, with the right to find pods, which goes with the namespace.
pub async fn start(ns: &Namespace) {
    let name = &ns.name;
    grant(ns, "prometheus").await;
    let configuration = format!("{CONFIGURATION}{}", annotated());
    let files = json!({"prometheus.yaml": faster(&configuration), "outrigger.yaml": faster(RULES)});
    let config = json!({"metadata": {"name": "prometheus"}, "data": files});
    ns.create::<ConfigMap>(config).await.expect("the ConfigMap is created");
    let pod = json!({
        "metadata": {"name": "prometheus", "namespace": name, "labels": {"outrigger.dev/inject": "disabled"}},
        "spec": {
            "serviceAccountName": "prometheus",
            "containers": [{
                "name": "prometheus", "image": IMAGE, "imagePullPolicy": "Never",
                "args": ["--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/data"],
                "ports": [{"name": "web", "containerPort": 9090}],
                "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "web"}, "periodSeconds": 1},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 1,
        },
    });
    ns.create::<Pod>(pod).await.expect("the pod is created");
    ns.pod_ready("prometheus").await;
}

/// The job for annotated pods that the page shows.
fn annotated() -> String {
    let shown = PAGE.lines().skip_while(|line| !line.contains("job_name: annotated-pods"));
    let job = shown.take_while(|line| !line.is_empty());
    job.flat_map(|line| [&line[4..], "\n"]).collect()
}

/// Makes a `ServiceAccount` that may find pods in the whole cluster.
pub async fn grant(ns: &Namespace, account: &str) {
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods", "endpoints", "services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]);
    may(ns, account, rules).await;
}

/// Makes a `ServiceAccount` that may do everything.
pub async fn rule(ns: &Namespace, account: &str) {
    may(ns, account, json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])).await;
}

/// The grant lasts as long as the namespace, which owns it.
async fn may(ns: &Namespace, account: &str, rules: Value) {
    let name = format!("{}-{account}", ns.name);
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ns.client.clone());
    let uid = namespaces.get(&ns.name).await.expect("the namespace is there").metadata.uid;
    let owner = json!([{"apiVersion": "v1", "kind": "Namespace", "name": ns.name, "uid": uid}]);
    ns.create::<ServiceAccount>(json!({"metadata": {"name": account}}))
        .await
        .expect("the account is created");
    let metadata = json!({"name": name, "ownerReferences": owner});
    cluster_wide::<ClusterRole>(ns, json!({"metadata": metadata, "rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": ns.name}]);
    let binding = json!({"metadata": metadata, "roleRef": role, "subjects": subjects});
    cluster_wide::<ClusterRoleBinding>(ns, binding).await;
}

async fn cluster_wide<K>(ns: &Namespace, manifest: Value)
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let created = Api::<K>::all(ns.client.clone()).create(&PostParams::default(), &from_json(manifest)).await;
    created.expect("the API server takes it");
}

/// Seconds where users have minutes, so that a test can wait for an alert. The times themselves are `promtool`'s to test.
fn faster(text: &str) -> String {
    let times = [
        ("_interval: 15s", "_interval: 1s"),
        ("[15m]", "[15s]"),
        ("[10m]", "[10s]"),
        ("[5m]", "[10s]"),
        ("[2m]", "[4s]"),
        ("for: 15m", "for: 2s"),
        ("for: 10m", "for: 2s"),
        ("for: 5m", "for: 2s"),
        ("for: 2m", "for: 2s"),
    ];
    times.iter().fold(text.to_owned(), |text, (slow, fast)| text.replace(slow, fast))
}

/// What an instant query finds: a list of `{metric, value: [time, text]}`.
pub async fn query(ns: &Namespace, pod: &str, expression: &str) -> anyhow::Result<Vec<Value>> {
    let answer = ask(ns, pod, &format!("query?query={}", encoded(expression))).await?;
    answer["result"].as_array().cloned().with_context(|| format!("{expression}: no result in {answer}"))
}

/// The one number that a query finds.
pub async fn number(ns: &Namespace, pod: &str, expression: &str) -> anyhow::Result<f64> {
    let found = query(ns, pod, expression).await?;
    let value = found.first().and_then(|sample| sample["value"][1].as_str()?.parse().ok());
    value.filter(|_| found.len() == 1).with_context(|| format!("{expression}: {found:?} is not one number"))
}

/// Prometheus' own API, by the API server's proxy.
pub async fn ask(ns: &Namespace, pod: &str, path: &str) -> anyhow::Result<Value> {
    let uri = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/api/v1/{path}", ns.name);
    let answer: Value = ns.client.request(http::Request::get(uri).body(Vec::new())?).await?;
    Ok(answer["data"].clone())
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}
