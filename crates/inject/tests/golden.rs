//! Golden files: each `golden/*.yaml` is an input; beside it stand the patched pod and the report as snapshots.
//!
//! A changed snapshot is a changed promise. `cargo insta review`, or `INSTA_UPDATE=always cargo test`, accepts it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use insta::{assert_yaml_snapshot, glob, with_settings};
use outrigger_inject::{Outcome, inject, uninject};
use serde_json::{Value, json};

use scenario::Scenario;

#[test]
fn golden() {
    glob!("golden/*.yaml", |path| {
        let scenario = Scenario::read(path);
        let outcome = scenario.inject(&scenario.pod);
        let name = path.file_stem().unwrap().to_str().unwrap();
        with_settings!({snapshot_path => "golden", snapshot_suffix => name, prepend_module_to_snapshot => false, omit_expression => true}, {
            assert_yaml_snapshot!("report", report(&outcome));
            if let Outcome::Injected { patch, .. } = &outcome {
                let mut patched = scenario.pod.clone();
                json_patch::patch(&mut patched, patch).unwrap();
                // The two annotations are in the report, where they can be read.
                let mut shown = patched.clone();
                for annotation in ["outrigger.dev/config", "outrigger.dev/status"] {
                    assert!(shown["metadata"]["annotations"][annotation].take().is_string());
                }
                assert_yaml_snapshot!("patched", shown);
                check_promises(&scenario, &patched);
            }
        });
    });
}

/// What holds for every injected pod.
fn check_promises(scenario: &Scenario, patched: &Value) {
    let again = scenario.inject(patched);
    assert!(
        matches!(&again, Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected"),
        "{again:?}"
    );
    let mut restored = patched.clone();
    uninject(&mut restored).unwrap();
    assert_eq!(restored, scenario.pod, "uninject restores the pod exactly");
}

fn report(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Injected { patch, report } => {
            let config =
                patch.0.iter().find(|op| op.path().as_str().ends_with("outrigger.dev~1config")).unwrap();
            let config: Value =
                serde_json::from_str(serde_json::to_value(config).unwrap()["value"].as_str().unwrap())
                    .unwrap();
            json!({
                "outcome": "injected",
                "warnings": report.warnings,
                "status": without_hashes(report),
                "config": config,
            })
        }
        Outcome::Skipped { reason, message } => {
            json!({"outcome": "skipped", "reason": reason.code(), "message": message})
        }
        Outcome::Rejected { reason, errors } => {
            json!({"outcome": "rejected", "reason": reason.code(), "errors": errors})
        }
    }
}

/// piraeus-operator#1025 and its kin: what is not ours to read is not ours to judge.
#[test]
fn a_pod_that_is_no_pod_is_refused_and_never_a_panic() {
    let scenario = Scenario::of_pod(json!({}));
    let spec = |spec: Value| json!({"metadata": {}, "spec": spec});
    for pod in [
        json!(null),
        json!([]),
        json!("pod"),
        json!({}),
        spec(json!(null)),
        spec(json!({"containers": {}})),
        spec(json!({"containers": [1]})),
        spec(json!({"containers": [{"image": "nameless"}]})),
        spec(json!({"containers": [], "initContainers": "none"})),
        spec(json!({"containers": [], "volumes": {}})),
        spec(json!({"containers": [{"name": "a", "ports": {}}]})),
        spec(json!({"containers": [{"name": "a", "volumeMounts": "x"}]})),
        json!({"metadata": {"labels": []}, "spec": {"containers": []}}),
    ] {
        let outcome = inject(&pod, &scenario.context());
        assert!(
            matches!(&outcome, Outcome::Rejected { reason, .. } if reason.code() == "MalformedPod"),
            "{pod}: {outcome:?}"
        );
    }
}

/// They say nothing to a reader, and change with every field that is written.
fn without_hashes(report: &outrigger_inject::Report) -> Value {
    let mut status = json!(report);
    let hashes = status.as_object_mut().unwrap().shift_remove("rendered").unwrap();
    assert!(hashes.as_object().is_some_and(|hashes| hashes.contains_key("outrigger-proxy")));
    status
}
