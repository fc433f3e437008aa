//! The golden pods of `inject`, on a real API server: it takes every pod that is injected, and the webhook decides as the golden
//! files say. And pods that carry sidecars before they are created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use outrigger_api::names;
use outrigger_e2e::injected::{assert_injected, config, proxy};
use outrigger_e2e::manifest::{server_pod, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, Release, eventually, with_namespace};
use serde::Deserialize;
use serde_json::{Value, json};

use super::in_namespace;
use crate::ENABLED;

/// How many golden pods were.
static COMPARED: AtomicUsize = AtomicUsize::new(0);

/// As in `crates/inject/tests/scenario/mod.rs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    namespace: Option<GoldenNamespace>,
    profiles: Option<BTreeMap<String, Value>>,
    cluster: Option<Value>,
    pod: Value,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GoldenNamespace {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// What the report beside it says.
#[derive(Debug, Deserialize)]
struct Report {
    outcome: String,
    reason: Option<String>,
}

#[tokio::test]
async fn the_api_server_takes_every_pod_that_is_injected() {
    let _release = Release::shared().await;
    for path in golden_files() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let golden: Golden = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let report = report(&path, &name);
        // The versions of this cluster are what they are, and a wrong profile can't be written to it.
        if golden.cluster.is_some() || report.reason.as_deref() == Some("InvalidProfile") {
            continue;
        }
        compare(&name, golden, report).await;
    }
    let compared = COMPARED.load(Ordering::Relaxed);
    assert!(compared >= 20, "{compared} golden pods were compared");
}

async fn compare(name: &str, golden: Golden, report: Report) {
    let place = golden.namespace.unwrap_or_else(|| GoldenNamespace {
        labels: BTreeMap::from([(ENABLED.0.to_owned(), ENABLED.1.to_owned())]),
        ..GoldenNamespace::default()
    });
    // Where a golden file says what its namespace enforces, that decides how traffic is intercepted.
    let enforced = place.labels.get("pod-security.kubernetes.io/enforce").cloned();
    if enforced.as_ref().is_some_and(|level| level != "privileged") {
        println!("{name} is not compared: its namespace refuses it");
        return;
    }
    let labels: Vec<_> = place.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let (name, pod) = (name.to_owned(), complete(golden.pod));
    let (profiles, annotations) = (golden.profiles.unwrap_or_default(), place.annotations);
    with_namespace(&labels, |ns| async move {
        // A pod that the API server would refuse anyway, as no pod at all, says nothing about us.
        let opted_out = json!({"metadata": {"labels": {names::INJECT_LABEL: names::DISABLED}}});
        if let Err(error) = ns.dry_run(with(pod.clone(), opted_out)).await {
            println!("{name} is not compared: {error}");
            return;
        }
        // All in the pod's own namespace, where they decide alike; the release's, of the same name as one there, is not asked.
        for (id, spec) in profiles.into_iter().rev() {
            match ns.create_profile(id.split_once('/').unwrap().1, spec).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                created => drop(created.unwrap()),
            }
        }
        if enforced.is_some() {
            ns.annotate("outrigger.dev/interception", "auto").await;
        }
        for (key, value) in &annotations {
            ns.annotate(key, value).await;
        }
        // What was written a moment ago reaches the webhook a moment later.
        let what = format!("golden pod {name} to be {report:?}");
        eventually(&what, DEADLINE, || decided(&ns, &pod, &report)).await;
        COMPARED.fetch_add(1, Ordering::Relaxed);
    })
    .await;
}

async fn decided(ns: &Namespace, pod: &Value, wanted: &Report) -> anyhow::Result<()> {
    match (ns.dry_run(pod.clone()).await, wanted.outcome.as_str(), &wanted.reason) {
        (Ok(pod), "injected", _) => ensure!(proxy(&pod).is_some(), "no proxy"),
        (Ok(pod), "skipped", _) => ensure!(proxy(&pod).is_none(), "a proxy"),
        (Err(error), "rejected", Some(reason)) => {
            ensure!(error.to_string().contains(&format!("{reason}: ")), "{error}");
        }
        (Ok(_), _, _) => bail!("taken"),
        (Err(error), ..) => bail!("{error}"),
    }
    Ok(())
}

/// A golden pod says only what its case is about. What else the API server asks for is added: a name, images, the volumes that are
/// mounted.
fn complete(mut pod: Value) -> Value {
    if !(pod["metadata"].is_object() && pod["spec"]["containers"].is_array()) {
        return pod;
    }
    if pod["metadata"]["name"].is_null() && pod["metadata"]["generateName"].is_null() {
        pod["metadata"]["name"] = "golden".into();
    }
    let mut mounted = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = "none.invalid/never-pulled".into();
            }
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounted.extend(mounts.map(|mount| mount["name"].clone()));
        }
    }
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for name in mounted {
        if volumes.iter().all(|volume| volume["name"] != name) {
            volumes.push(json!({"name": name, "emptyDir": {}}));
        }
    }
    pod["spec"]["volumes"] = volumes.into();
    pod
}

fn golden_files() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/inject/tests/golden");
    let paths = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    paths
}

fn report(golden: &Path, name: &str) -> Report {
    let snapshot = std::fs::read_to_string(golden.with_file_name(format!("report@{name}.snap"))).unwrap();
    // The snapshot's own header stands between two lines of dashes.
    serde_saphyr::from_str(snapshot.splitn(3, "---\n").nth(2).unwrap()).unwrap()
}

/// osm#4668. What `kubectl debug --copy-to` makes by default: neither labels nor annotations nor probes.
#[tokio::test]
async fn a_copy_of_an_injected_pod_becomes_ready() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Pod>(server_pod("web")).await.unwrap();
        let mut spec = json!(ns.pod_ready("web").await.spec.unwrap());
        spec.as_object_mut().unwrap().shift_remove("nodeName");
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().unwrap() {
                for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                    container.as_object_mut().unwrap().shift_remove(probe);
                }
            }
        }
        let copy = ns.create::<Pod>(json!({"metadata": {"name": "copy"}, "spec": spec})).await.unwrap();
        assert_injected(&copy);
        assert_eq!(config(&copy).inbound[0].target, 8080);
        ns.pod_ready("copy").await;
    })
    .await;
}

/// `outrigger inject -f pod.yaml | kubectl apply -f -`: the file has no token, the pod has.
#[tokio::test]
async fn a_pod_that_was_injected_as_a_file_gets_its_token() {
    in_namespace(&[ENABLED], |ns| async move {
        let injected = ns.dry_run(server_pod("web")).await.unwrap();
        let mut of_file = config(&injected);
        of_file.token = String::new();
        let annotation =
            json!({"metadata": {"annotations": {names::CONFIG_ANNOTATION: json!(of_file).to_string()}}});
        let file = json!({
            "metadata": {"name": "web", "labels": injected.labels(), "annotations": injected.annotations()},
            "spec": injected.spec,
        });
        let pod = ns.create::<Pod>(with(file, annotation)).await.unwrap();
        assert_injected(&pod);
        assert!(!config(&pod).token.is_empty());
        assert_eq!(pod.spec.unwrap().init_containers, injected.spec.unwrap().init_containers);
        ns.pod_ready("web").await;
    })
    .await;
}

/// istio#38354: as if another webhook had added it after us.
#[tokio::test]
async fn a_container_that_came_later_is_taken_over() {
    in_namespace(&[ENABLED], |ns| async move {
        let injected = ns.dry_run(server_pod("web")).await.unwrap();
        let mut spec = json!(injected.spec);
        let added = json!({
            "name": "late",
            "image": "none.invalid/never-pulled",
            "ports": [{"name": "late", "containerPort": 9000}],
        });
        spec["containers"].as_array_mut().unwrap().push(added);
        let pod = ns.dry_run(json!({
            "metadata": {"name": "web", "labels": injected.labels(), "annotations": injected.annotations()},
            "spec": spec,
        }));
        let pod = pod.await.unwrap();
        assert_injected(&pod);
        let names: Vec<_> = config(&pod).inbound.into_iter().map(|port| port.name).collect();
        assert_eq!(names, ["http", "late"]);
    })
    .await;
}
