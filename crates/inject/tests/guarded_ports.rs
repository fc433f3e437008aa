//! Ports that ask for a credential, or TLS, are never open by how the pod is written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::names::CONFIG_ANNOTATION;
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

/// What the proxy would run by, and what the user is told.
fn injected(containers: &Value, inbound: &Value) -> (SidecarConfig, Vec<String>) {
    let injected = outcome(containers, inbound);
    let Outcome::Injected { patch, report } = injected else { panic!("{injected:?}") };
    let mut pod = json!({"metadata": {"annotations": {}}, "spec": {"containers": containers}});
    json_patch::patch(&mut pod, &patch).unwrap();
    let document = pod["metadata"]["annotations"][CONFIG_ANNOTATION].as_str().unwrap();
    // The namespace of these tests is one where redirection is not allowed.
    let warnings = report.warnings.into_iter().filter(|warning| !warning.contains("Pod Security"));
    (SidecarConfig::parse(document).unwrap(), warnings.collect())
}

/// It was redirected, and passed on by a proxy that knew nothing of it.
#[test]
fn a_guarded_port_that_nobody_declares_is_guarded() {
    let inbound = json!([{"port": 9090, "protocol": "http", "auth": auth()}, {"port": "*"}]);
    let (config, _) = injected(&json!([{"name": "app"}]), &inbound);
    let [port] = &config.inbound[..] else { panic!("{config:?}") };
    assert_eq!((port.target, port.protocol, port.auth.is_some()), (9090, Protocol::Http, true));
    // Where a container declares it, there is one entry all the same.
    let (config, _) = injected(&json!([{"name": "app", "ports": [{"containerPort": 9090}]}]), &inbound);
    assert_eq!(config.inbound.len(), 1);
}

/// They were told in a warning to be open.
#[test]
fn guards_of_every_port_hold_for_those_that_nobody_declares() {
    let inbound = json!([{"port": 22, "protocol": "tcp"}, {"port": "*", "protocol": "http", "auth": auth()}, {"port": 23}]);
    let containers = json!([{"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}]);
    let (config, _) = injected(&containers, &inbound);
    let targets: Vec<_> = config.inbound.iter().map(|port| (port.target, port.auth.is_some())).collect();
    assert_eq!(targets, [(8080, true), (22, false), (0, true)]);
    assert!(config.inbound[2].is_for_rest());
}

#[test]
fn a_profile_that_says_nothing_of_every_port_makes_no_entry_for_the_rest() {
    let (config, warnings) =
        injected(&json!([{"name": "app", "ports": [{"containerPort": 8080}]}]), &json!([{"port": "*"}]));
    assert_eq!(config.inbound.len(), 1);
    assert_eq!(warnings, Vec::<String>::new());
}

/// By how it began, a client could make bytes of its requests.
#[test]
fn a_port_without_a_name_is_http_where_there_are_rules_for_its_requests() {
    let inbound = json!([{"port": "*", "limits": {"maxRequests": 5}}]);
    let containers = json!([{"name": "app", "ports": [{"containerPort": 8080}, {"name": "redis", "containerPort": 6379}]}]);
    let (config, warnings) = injected(&containers, &inbound);
    let spoken: Vec<_> = config.inbound.iter().map(|port| (port.target, port.protocol)).collect();
    assert_eq!(spoken, [(8080, Protocol::Http), (6379, Protocol::Tcp), (0, Protocol::Http)]);
    for told in [
        "port 8080 is taken for HTTP",
        "port redis is passed on as bytes",
        "every port that no container declares is taken for HTTP",
    ] {
        assert!(warnings.iter().any(|warning| warning.starts_with(told)), "{warnings:?}");
    }
}

/// Nothing was said, and nothing counted.
#[test]
fn a_selection_that_matches_nothing_is_told() {
    let containers = json!([{"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}]);
    let (_, warnings) = injected(&containers, &json!([{"port": "http"}]));
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(
        warning,
        "nothing that comes in passes the proxy: the pod declares web (8080); the profile and annotations select http"
    );
    assert_eq!(injected(&containers, &json!([])).1, Vec::<String>::new(), "asked for");
}

/// It said that its ports are left alone, which the rules do not.
#[test]
fn beside_another_mesh_the_truth_is_told() {
    let (_, warnings) = injected(&json!([{"name": "app"}, {"name": "istio-proxy"}]), &json!([{"port": "*"}]));
    let told = "the rules bring its traffic to ours too";
    assert!(warnings.iter().any(|warning| warning.contains(told)), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.contains("left alone")), "{warnings:?}");
}

/// The proxy takes every connection, so the probe always passed.
#[test]
fn a_tcp_probe_that_asks_the_proxy_is_told() {
    let app = json!({"name": "app", "readinessProbe": {"tcpSocket": {"port": 8080}}});
    let redirect = json!({"outrigger.dev/interception": "redirect", "outrigger.dev/rewrite-probes": "false"});
    let pod = json!({"metadata": {"annotations": redirect}, "spec": {"containers": [app]}});
    let scenario = Scenario::of_pod(pod);
    let Outcome::Injected { report, .. } = scenario.inject(&scenario.pod) else { panic!() };
    assert!(report.warnings.iter().any(|warning| warning.contains("says nothing of the app")), "{report:?}");
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
