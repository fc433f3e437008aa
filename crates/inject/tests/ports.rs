//! Port names that two containers have: a Service leads where it led before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;
#[path = "fuzz/services.rs"]
mod services;

use outrigger_inject::Outcome;
use scenario::Scenario;
use serde_json::{Value, json};

fn pod(list: &str, exporter: &Value) -> Value {
    let app = json!({
        "name": "app",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
    });
    let mut pod = json!({"metadata": {}, "spec": {"containers": [app]}});
    let items = pod["spec"].as_object_mut().unwrap().entry(list).or_insert_with(|| json!([]));
    items.as_array_mut().unwrap().push(exporter.clone());
    pod
}

/// The pod as injected and the warnings, where every Service leads where it led before.
fn injected(scenario: &Scenario) -> (Value, Vec<String>) {
    let outcome = scenario.inject(&scenario.pod);
    let Outcome::Injected { patch, report } = outcome else { panic!("{outcome:?}") };
    let mut patched = scenario.pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    let (before, mut after) = (services::leads(&scenario.pod, true), services::leads(&patched, true));
    after.remove("outrigger-admin");
    assert_eq!(after, before);
    (patched, report.warnings)
}

/// The first one's name moved into the native sidecar, which stands behind the second.
#[test]
fn a_name_that_an_exporter_has_too_is_not_moved_behind_it() {
    let exporter = json!({"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9102}]});
    for list in ["containers", "initContainers"] {
        let mut exporter = exporter.clone();
        if list == "initContainers" {
            exporter["restartPolicy"] = "Always".into();
        }
        let (patched, warnings) = injected(&Scenario::of_pod(pod(list, &exporter)));
        assert_eq!(patched["spec"]["containers"][0]["ports"][1]["name"], "metrics");
        for (one, other) in [("app", "exporter"), ("exporter", "app")] {
            let told =
                format!("port metrics of container {one} stays outside the proxy: container {other} has");
            assert!(warnings.iter().any(|warning| warning.starts_with(&told)), "{warnings:?}");
        }
    }
}

/// A plain proxy is the first container: the second one's name stood before that of the first, which was to be left alone.
#[test]
fn a_name_whose_first_port_is_skipped_is_not_moved_before_it() {
    let exporter = json!({"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9102}]});
    let mut pod = pod("containers", &exporter);
    pod["metadata"]["annotations"] =
        json!({"outrigger.dev/native-sidecars": "never", "outrigger.dev/skip-inbound-ports": "9090"});
    let (patched, warnings) = injected(&Scenario::of_pod(pod));
    assert_eq!(patched["spec"]["containers"][0]["name"], "outrigger-proxy");
    assert_eq!(patched["spec"]["containers"][2]["ports"][0]["name"], "metrics");
    assert!(
        warnings.iter().any(|warning| warning.contains("Give one of the two another name")),
        "{warnings:?}"
    );
}

/// A port of another protocol is another port to Services.
#[test]
fn a_name_that_a_udp_port_has_too_is_moved() {
    let exporter =
        json!({"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9102, "protocol": "UDP"}]});
    let (patched, warnings) = injected(&Scenario::of_pod(pod("containers", &exporter)));
    assert!(patched["spec"]["containers"][0]["ports"][1].get("name").is_none());
    assert_eq!(warnings, Vec::<String>::new());
}
