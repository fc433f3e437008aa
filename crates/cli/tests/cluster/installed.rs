//! The objects of a cluster where the chart is installed.

use std::process::Command;
use std::time::{Duration, SystemTime};

use kube::CustomResourceExt;
use outrigger_api::profile::SidecarProfile;
use outrigger_inject::{Cluster, Context, Namespace, Outcome, Profiles, Settings, Version, inject};
use outrigger_webhook::certificate::{Material, Policy};
use serde_json::{Value, json};

use crate::api::Api;

pub(crate) const RELEASE: &str = "outrigger-system";
pub(crate) const CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sidecarprofiles.outrigger.dev";
pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger-webhook";
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/outrigger-system/deployments/outrigger-webhook";
pub(crate) const SECRET: &str = "/api/v1/namespaces/outrigger-system/secrets/outrigger-webhook-certificate";
pub(crate) const SIDECAR: &str = "outrigger/sidecar:1";

/// As the chart leaves it, with one labelled namespace, `shop`, and one that is not, `quiet`.
pub(crate) fn installed() -> Api {
    let api = empty();
    let policy = Policy {
        name: "outrigger-webhook.outrigger-system.svc".into(),
        lifetime: Duration::from_hours(30 * 24),
    };
    let material = Material::create(&policy, SystemTime::now()).unwrap();
    api.put(SECRET, json!({"data": material.data()}));
    let bundle = serde_json::to_value(k8s_openapi::ByteString(material.bundle())).unwrap();
    api.put(CONFIGURATION, configuration(&bundle, RELEASE, "outrigger"));
    let args = json!(["webhook", format!("--sidecar-image={SIDECAR}"), "--image-pull-policy=IfNotPresent"]);
    api.put(
        DEPLOYMENT,
        json!({
            "metadata": {"labels": {"app.kubernetes.io/version": env!("CARGO_PKG_VERSION")}},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "webhook"}},
                "template": {"spec": {"containers": [{"name": "webhook", "args": args}]}},
            },
            "status": {"readyReplicas": 2},
        }),
    );
    let mut definition = serde_json::to_value(SidecarProfile::crd()).unwrap();
    definition["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
    api.put(CRD, definition);
    put_namespace(&api, "shop", &json!({"outrigger.dev/inject": "enabled"}));
    put_namespace(&api, "quiet", &json!({}));
    put_profile(&api, RELEASE, "default", &json!({}));
    api
}

/// A cluster without Outrigger.
pub(crate) fn empty() -> Api {
    let api = Api::start();
    for name in ["default", "kube-system", RELEASE] {
        put_namespace(&api, name, &json!({}));
    }
    api
}

/// The chart's, with its selectors, of this release.
pub(crate) fn configuration(bundle: &Value, namespace: &str, release: &str) -> Value {
    let excluded = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", namespace]});
    let key = "outrigger.dev/inject";
    let there = json!({"key": key, "operator": "Exists"});
    let not = |value: &str| json!({"key": key, "operator": "NotIn", "values": [value]});
    let entry = |name: &str, namespaces: Value, pods: Value| {
        let service = json!({"name": "outrigger-webhook", "namespace": namespace, "path": "/mutate"});
        json!({
            "name": name, "clientConfig": {"service": service, "caBundle": bundle},
            "namespaceSelector": {"matchExpressions": namespaces}, "objectSelector": {"matchExpressions": pods},
        })
    };
    json!({"metadata": {"labels": {"app.kubernetes.io/instance": release}}, "webhooks": [
        entry("namespaces.outrigger.dev", json!([there, not("disabled"), excluded]), json!([not("disabled")])),
        entry("pods.outrigger.dev", json!([not("enabled"), excluded]), json!([there, not("disabled")])),
    ]})
}

pub(crate) fn put_namespace(api: &Api, name: &str, labels: &Value) {
    let mut labels = labels.clone();
    labels["kubernetes.io/metadata.name"] = name.into();
    api.put(&format!("/api/v1/namespaces/{name}"), json!({"metadata": {"labels": labels}}));
}

pub(crate) fn put_profile(api: &Api, namespace: &str, name: &str, spec: &Value) {
    let path = format!("/apis/outrigger.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles/{name}");
    api.put(&path, json!({"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "spec": spec}));
}

/// Adds an argument to the webhook's container.
pub(crate) fn push_flag(api: &Api, flag: &str) {
    api.edit(DEPLOYMENT, |deployment| {
        let args = deployment.pointer_mut("/spec/template/spec/containers/0/args").unwrap();
        args.as_array_mut().unwrap().push(flag.into());
    });
}

/// Runs the command against this API server: exit code, then both streams.
pub(crate) fn outrigger(api: &Api, args: &[&str]) -> String {
    run(&format!("http://{}", api.address), args)
}

pub(crate) fn run(server: &str, args: &[&str]) -> String {
    let file = std::env::temp_dir().join(format!(
        "outrigger-cli-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "jane", "namespace": "shop"}}],
        "users": [{"name": "jane", "user": {}}],
    });
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_outrigger")).args(args).env("KUBECONFIG", &file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = |stream: &[u8]| String::from_utf8(stream.to_vec()).unwrap();
    let code = output.status.code().unwrap();
    format!("exit code {code}\n--- stderr\n{}--- stdout\n{}", text(&output.stderr), text(&output.stdout))
}

/// A running pod of the Deployment `web`, with one named port.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "labels": {"app": "web", "pod-template-hash": "5d9f"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d9f", "controller": true}],
        },
        "spec": {"containers": [{"name": "app", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running"},
    })
}

/// The same, as the webhook made it from this profile.
pub(crate) fn injected_pod(name: &str, profile: &Value) -> Value {
    let mut pod = pod(name);
    let mut profiles = Profiles::new(RELEASE);
    profiles.set(RELEASE, "default", profile);
    let namespace = Namespace {
        name: "shop".into(),
        labels: [("outrigger.dev/inject".into(), "enabled".into())].into(),
        ..Namespace::default()
    };
    let version = Version { major: 1, minor: 34 };
    let settings = Settings {
        sidecar_image: SIDECAR.into(),
        image_pull_policy: Some("IfNotPresent".into()),
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: Cluster { server: Some(version), oldest_node: Some(version), ..Cluster::default() },
    };
    let context =
        Context { namespace: &namespace, profiles: &profiles, settings: &settings, token: "secret" };
    let Outcome::Injected { patch, .. } = inject(&pod, &context) else { panic!("the pod is one to inject") };
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// The Deployment that those pods are of.
pub(crate) fn put_web(api: &Api) {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod("x")["spec"]});
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    api.put("/apis/apps/v1/namespaces/shop/deployments/web", json!({"spec": spec}));
}
