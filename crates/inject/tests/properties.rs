//! What holds for every pod, however strange.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use std::collections::BTreeSet;

use outrigger_inject::{Outcome, Report, uninject};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Map, Value, json};

use scenario::Scenario;

/// Any JSON, as a field of some future Kubernetes may hold.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[a-z/~]{1,4}", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Adds fields that nobody knows to a map of known ones; each known field may be missing.
fn object(known: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let known: Vec<_> =
        known.into_iter().map(|(key, value)| (Just(key), prop::option::weighted(0.8, value))).collect();
    (known, btree_map("future[A-Z]{0,2}", any_json(), 0..3))
        .prop_map(|(known, unknown)| {
            let known = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Value::Object(known.chain(unknown).collect::<Map<_, _>>())
        })
        .boxed()
}

fn words(choices: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(choices).prop_map(Value::from).boxed()
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 8 => vec(item, 0..4).prop_map(Value::from)].boxed()
}

fn port() -> BoxedStrategy<Value> {
    let number = prop_oneof![1..20_000_u16, Just(15200), Just(8080)].prop_map(Value::from).boxed();
    object(vec![
        ("name", words(&["http", "http-web", "grpc", "metrics", "a", ""])),
        ("containerPort", number),
        ("protocol", words(&["TCP", "UDP", "SCTP"])),
        ("hostPort", (0..3_u16).prop_map(Value::from).boxed()),
    ])
}

fn probe() -> BoxedStrategy<Value> {
    let port =
        prop_oneof![words(&["http", "metrics", "none"]), Just(json!(8080)).boxed(), any_json().boxed()]
            .boxed();
    let host = words(&["", "localhost", "::1", "example.org"]);
    let header = object(vec![("name", words(&["Host", "X-Probe"])), ("value", words(&["web", ""]))]);
    let http = object(vec![
        ("port", port.clone()),
        ("path", Just(json!("/")).boxed()),
        ("scheme", words(&["HTTP", "HTTPS"])),
        ("host", prop_oneof![3 => Just(Value::Null).boxed(), 1 => host.clone()].boxed()),
        ("httpHeaders", list(header)),
    ]);
    let tcp = object(vec![
        ("port", port.clone()),
        ("host", prop_oneof![3 => Just(Value::Null).boxed(), 1 => host].boxed()),
    ]);
    let grpc = object(vec![("port", port), ("service", words(&["", "shop.Cart"]))]);
    let one = |name: &'static str, action: BoxedStrategy<Value>| {
        object(vec![(name, action), ("timeoutSeconds", any_json().boxed())])
    };
    // Two of them the API server refuses, but only after us.
    let two =
        object(vec![("httpGet", prop_oneof![http.clone(), any_json()].boxed()), ("tcpSocket", tcp.clone())]);
    prop_oneof![one("httpGet", http), one("tcpSocket", tcp), one("grpc", grpc), two].boxed()
}

fn resources() -> BoxedStrategy<Value> {
    object(vec![("cpu", words(&["1", "1000m", "x"])), ("memory", words(&["64Mi", "1Gi"]))])
}

fn container() -> BoxedStrategy<Value> {
    let mount = object(vec![("name", words(&["v", "w"])), ("mountPath", words(&["/v", "/w"]))]);
    object(vec![
        ("ports", prop_oneof![9 => list(port()), 1 => any_json().boxed()].boxed()),
        ("readinessProbe", probe()),
        ("livenessProbe", probe()),
        ("startupProbe", probe()),
        ("lifecycle", object(vec![("preStop", probe()), ("postStart", probe())])),
        ("resources", object(vec![("limits", resources()), ("requests", resources())])),
        ("volumeMounts", list(mount)),
        ("restartPolicy", words(&["Always"])),
        ("image", words(&["app:1"])),
    ])
}

/// Containers with names of their own, `prefix0`, `prefix1`, ...
fn containers(prefix: &'static str, least: usize) -> BoxedStrategy<Value> {
    (vec(container(), least..3), prop::bool::weighted(0.05))
        .prop_map(move |(mut containers, twice)| {
            for (index, container) in containers.iter_mut().enumerate() {
                // The API server refuses a name that is given twice, but only after us.
                let index = if twice { 0 } else { index };
                container["name"] = format!("{prefix}{index}").into();
            }
            Value::from(containers)
        })
        .boxed()
}

fn pod() -> impl Strategy<Value = Value> {
    let text_map = prop_oneof![
        1 => Just(Value::Null),
        8 => btree_map("[a-z./~]{1,8}", "[a-z\"/]{0,4}".prop_map(Value::from), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect())),
    ]
    .boxed();
    let metadata =
        object(vec![("name", words(&["web"])), ("labels", text_map.clone()), ("annotations", text_map)]);
    let volume = object(vec![("name", words(&["v", "w"]))]);
    let spec = object(vec![
        ("initContainers", containers("init", 0)),
        ("volumes", list(volume)),
        ("restartPolicy", words(&["Always", "Never", "OnFailure"])),
        ("terminationGracePeriodSeconds", any_json().boxed()),
        ("resources", object(vec![("limits", resources()), ("requests", resources())])),
    ]);
    (object(vec![("metadata", metadata)]), spec, containers("app", 1)).prop_map(
        |(mut pod, mut spec, containers)| {
            spec["containers"] = containers;
            pod["spec"] = spec;
            pod
        },
    )
}

/// A profile that takes every port and mounts the shared volume, so that every feature is in play. Whether sidecars are
/// native and probes rewritten depends on the pod, so that each is met in every combination.
fn scenario(pod: &Value) -> Scenario {
    let mounts = json!([{"container": "app0", "path": "/shared"}]);
    let length = pod.to_string().len();
    Scenario::with_profile(
        pod.clone(),
        &json!({
            "nativeSidecars": if length.is_multiple_of(3) { "never" } else { "auto" },
            "rewriteProbes": !length.is_multiple_of(5),
            "sharedVolume": {"mounts": mounts},
            "metrics": {"annotate": true, "app": {"port": "http"}},
        }),
    )
}

fn injected(scenario: &Scenario) -> Option<(Value, Box<Report>)> {
    let Outcome::Injected { patch, report } = scenario.inject(&scenario.pod) else { return None };
    let mut patched = scenario.pod.clone();
    json_patch::patch(&mut patched, &patch).expect("the patch fits the pod it was made for");
    Some((patched, report))
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
    items.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_second_admission_gives_no_patch(pod in pod()) {
        let scenario = scenario(&pod);
        if let Some((patched, _)) = injected(&scenario) {
            let again = scenario.inject(&patched);
            prop_assert!(matches!(&again, Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected"), "{again:?}");
        }
    }

    /// Exactness is the strong form of "unknown fields at every level survive".
    #[test]
    fn uninject_restores_the_pod_exactly(pod in pod()) {
        let scenario = scenario(&pod);
        if let Some((mut patched, report)) = injected(&scenario) {
            let restored_report = uninject(&mut patched).unwrap();
            prop_assert_eq!(&patched, &scenario.pod);
            prop_assert_eq!(Report { warnings: Vec::new(), ..*report }, restored_report);
        }
    }

    /// Every field of the user's stands in the result with its value, except those that the report names.
    #[test]
    fn nothing_changes_that_the_report_does_not_name(pod in pod()) {
        let scenario = scenario(&pod);
        if let Some((patched, report)) = injected(&scenario) {
            let mut expected: BTreeSet<String> = BTreeSet::new();
            for port in &report.ports {
                expected.insert(format!("{}:/ports/{}/name", port.container, port.index));
            }
            let probes: Vec<_> = report.probes.iter().map(|probe| format!("{}:{}", probe.container, probe.field)).collect();
            let mut changed = BTreeSet::new();
            for list in ["/spec/containers", "/spec/initContainers"] {
                for before in scenario.pod.pointer(list).and_then(Value::as_array).into_iter().flatten() {
                    let name = before["name"].as_str().unwrap();
                    let after = patched.pointer(list).unwrap().as_array().unwrap();
                    let after = after.iter().find(|item| item["name"] == name).unwrap();
                    lost(before, after, "", &mut |path| {
                        let path = format!("{name}:{path}");
                        let of_a_probe = probes.iter().any(|probe| path == *probe || path.starts_with(&format!("{probe}/")));
                        if !of_a_probe { changed.insert(path); }
                    });
                }
            }
            prop_assert_eq!(changed, expected);
            let mut outside = BTreeSet::new();
            lost(&without_containers(&scenario.pod), &without_containers(&patched), "", &mut |path| { outside.insert(path.to_owned()); });
            prop_assert!(outside.is_empty(), "{outside:?}");
        }
    }

    /// The patch applied equals what the report says.
    #[test]
    fn the_report_lists_what_was_added(pod in pod()) {
        let scenario = scenario(&pod);
        if let Some((patched, report)) = injected(&scenario) {
            let (added_to, other) = if report.sidecars.native { ("/spec/initContainers", "/spec/containers") } else { ("/spec/containers", "/spec/initContainers") };
            let containers = [report.containers.clone(), names(&scenario.pod, added_to)].concat();
            prop_assert_eq!(names(&patched, added_to), containers);
            prop_assert_eq!(names(&patched, other), names(&scenario.pod, other));
            let volumes = [names(&scenario.pod, "/spec/volumes"), report.volumes.clone()].concat();
            prop_assert_eq!(names(&patched, "/spec/volumes"), volumes);
            let proxy_ports = patched.pointer(&format!("{added_to}/0/ports")).unwrap().as_array().unwrap();
            let of_report: Vec<_> = report.ports.iter().map(|p| (p.name.clone(), u64::from(p.listen))).collect();
            let of_proxy: Vec<_> = proxy_ports.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), p["containerPort"].as_u64().unwrap())).collect();
            prop_assert_eq!(&of_proxy[..of_report.len()], &of_report[..]);
            let listens: BTreeSet<_> = of_proxy.iter().map(|(_, port)| port).collect();
            prop_assert_eq!(listens.len(), of_proxy.len(), "each listener has a port of its own");
            let status = patched["metadata"]["annotations"]["outrigger.dev/status"].as_str().unwrap();
            prop_assert_eq!(serde_json::from_str::<Report>(status).unwrap(), Report { warnings: Vec::new(), ..*report });
        }
    }

    #[test]
    fn any_json_at_all_is_answered(pod in any_json(), spec in any_json(), containers in any_json()) {
        for pod in [pod, json!({"spec": spec}), json!({"metadata": {}, "spec": {"containers": containers}})] {
            let scenario = Scenario::of_pod(pod);
            // A patch that does not apply panics here.
            let _ = injected(&scenario);
        }
    }
}

/// The generator must reach the code that it is meant to test.
#[test]
fn most_generated_pods_are_injected() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pods = (0..200).map(|_| pod().new_tree(&mut runner).unwrap().current());
    let injected = pods.filter(|pod| injected(&scenario(pod)).is_some()).count();
    assert!(injected > 100, "{injected} of 200");
}

/// Calls `report` for each path of `before` that has another value in `after`, or none.
fn lost(before: &Value, after: &Value, path: &str, report: &mut dyn FnMut(&str)) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}/{key}");
                match after.get(key) {
                    Some(after) => lost(value, after, &path, report),
                    None => report(&path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, value) in before.iter().enumerate() {
                let path = format!("{path}/{index}");
                match after.get(index) {
                    Some(after) => lost(value, after, &path, report),
                    None => report(&path),
                }
            }
        }
        // A null list or map may be filled.
        (Value::Null, Value::Array(_) | Value::Object(_)) => {}
        (before, after) if before == after => {}
        _ => report(path),
    }
}

fn without_containers(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["containers", "initContainers"] {
        if let Some(spec) = pod["spec"].as_object_mut() {
            spec.shift_remove(list);
        }
    }
    pod
}
