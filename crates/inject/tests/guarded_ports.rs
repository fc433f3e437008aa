//! Ports that ask for a credential, or TLS, are never open by how the pod is written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use outrigger_inject::Outcome;
use scenario::Scenario;
use serde_json::{Value, json};

fn outcome(containers: &Value, inbound: &Value) -> Outcome {
    let redirect = json!({"outrigger.dev/interception": "redirect"});
    let pod = json!({"metadata": {"annotations": redirect}, "spec": {"containers": containers}});
    let scenario = Scenario::with_profile(pod, &json!({"inbound": inbound}));
    scenario.inject(&scenario.pod)
}

fn auth() -> Value {
    json!({"jwt": {"secretName": "keys"}})
}

/// It was redirected, and passed on by a proxy that knew nothing of it.
#[test]
fn a_guarded_port_that_nobody_declares_is_refused() {
    let inbound = json!([{"port": 9090, "protocol": "http", "auth": auth()}]);
    let refused = outcome(&json!([{"name": "app"}]), &inbound);
    let Outcome::Rejected { errors, .. } = refused else { panic!("{refused:?}") };
    assert!(errors[0].contains("port 9090") && errors[0].contains("declare it"), "{errors:?}");
    let declared = outcome(&json!([{"name": "app", "ports": [{"containerPort": 9090}]}]), &inbound);
    assert!(matches!(declared, Outcome::Injected { .. }), "{declared:?}");
}

#[test]
fn guards_of_every_port_come_with_a_warning() {
    let inbound = json!([{"port": "*", "protocol": "http", "auth": auth()}]);
    let injected =
        outcome(&json!([{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]), &inbound);
    let Outcome::Injected { report, .. } = injected else { panic!("{injected:?}") };
    assert!(report.warnings.iter().any(|warning| warning.contains("no container declares")), "{report:?}");
}

/// It is counted by its number, and lost its guard with its name.
#[test]
fn the_second_port_of_a_name_is_guarded_as_the_first() {
    let container =
        |name: &str, port: u16| json!({"name": name, "ports": [{"name": "http", "containerPort": port}]});
    let inbound = json!([{"port": "http", "auth": auth()}, {"port": "*"}]);
    let injected = outcome(&json!([container("one", 8080), container("two", 8081)]), &inbound);
    let Outcome::Injected { patch, .. } = injected else { panic!("{injected:?}") };
    let patch = json!(patch).to_string();
    // The document stands in the patch as text.
    assert_eq!(
        patch.matches(r#"\\\"auth\\\":"#).count() + patch.matches(r#"\"auth\":"#).count(),
        2,
        "{patch}"
    );
}
