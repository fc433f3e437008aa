//! Pods that no API server would store, which it shows to webhooks all the same: one of them must not take the time and memory
//! that the admissions of everybody share.

// Every function here is part of a test: its panic is the report.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "scenario/mod.rs"]
mod scenario;

use outrigger_inject::Outcome;
use scenario::Scenario;
use serde_json::{Value, json};

fn refused(pod: Value) -> (String, Vec<String>) {
    let scenario = Scenario::of_pod(pod);
    let outcome = scenario.inject(&scenario.pod);
    let Outcome::Rejected { reason, errors } = outcome else { panic!("{outcome:?}") };
    (reason.to_string(), errors)
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}, "spec": {"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 80}]}]}})
}

#[test]
fn long_lists_in_annotations_are_refused_before_they_are_worked_on() {
    let logs: Vec<_> = (0..20_000).map(|number| format!("app=/{number}/f")).collect();
    let ports: Vec<_> = (1..=30_000).map(|number| number.to_string()).collect();
    for (knob, value) in [("logs", logs.join(",")), ("skip-inbound-ports", ports.join(","))] {
        let (reason, errors) = refused(annotated(&format!("outrigger.dev/{knob}"), &value));
        assert_eq!(reason, "InvalidAnnotation");
        assert!(errors.len() == 1 && errors[0].contains("more than 64"), "{knob}: {} errors", errors.len());
    }
    let (reason, errors) = refused(annotated("note", &"x".repeat(300_000)));
    assert_eq!((reason.as_str(), errors.len()), ("MalformedPod", 1));
}

/// Each entry that names no container of the pod said the names of all.
#[test]
fn what_is_said_about_a_pod_does_not_grow_with_it_many_times_over() {
    let containers: Vec<_> = (0..10_000).map(|number| json!({"name": format!("c{number}")})).collect();
    let logs: Vec<_> = (0..64).map(|number| format!("nope=/a{number}/x.log")).collect();
    let mut pod = annotated("outrigger.dev/logs", &logs.join(","));
    pod["spec"]["containers"].as_array_mut().unwrap().extend(containers);
    let (reason, errors) = refused(pod);
    assert_eq!((reason.as_str(), errors.len()), ("ContainerNotFound", 64));
    assert!(errors.iter().map(String::len).sum::<usize>() < 20_000);
}

#[test]
fn names_and_paths_that_no_api_server_takes_are_refused() {
    let long = "x".repeat(5000);
    for container in [
        json!({"name": long}),
        json!({"name": "app", "ports": [{"name": long, "containerPort": 80}]}),
        json!({"name": "app", "volumeMounts": [{"name": "v", "mountPath": long}]}),
        json!({"name": "app", "volumeMounts": [{"name": long, "mountPath": "/v"}]}),
    ] {
        let (reason, errors) = refused(json!({"spec": {"containers": [container]}}));
        assert_eq!(reason, "MalformedPod");
        assert!(errors.len() == 1 && errors[0].len() < 200, "{errors:?}");
    }
}
