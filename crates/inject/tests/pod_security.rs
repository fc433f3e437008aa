//! What is added passes Pod Security `restricted`, in every golden file.
//!
//! The rules: <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>, those of `baseline` included.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

#[allow(dead_code, reason = "each test binary compiles this module, and this one reads its pods from files")]
mod scenario;

use insta::glob;
use outrigger_inject::Outcome;
use serde_json::{Value, json};

use scenario::Scenario;

const VOLUME_TYPES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

#[test]
fn what_is_added_is_restricted() {
    let mut checked = 0;
    glob!("golden/*.yaml", |path| {
        let scenario = Scenario::read(path);
        let Outcome::Injected { patch, report } = scenario.inject(&scenario.pod) else { return };
        let mut patched = scenario.pod.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        for container in added(&patched, &["/spec/containers", "/spec/initContainers"], &report.containers) {
            // The one that no namespace of that level gets, unless its profile insists.
            let allowed: &[&str] = match container["name"].as_str() {
                Some("outrigger-init") => &["capabilities.add", "runAsNonRoot", "runAsUser"],
                _ => &[],
            };
            assert_eq!(violations(container), allowed, "{}: {}", path.display(), container["name"]);
            checked += 1;
        }
        for volume in added(&patched, &["/spec/volumes"], &report.volumes) {
            let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
            assert!(kinds.into_iter().all(|kind| VOLUME_TYPES.contains(&kind.as_str())), "{volume}");
        }
        // The rules for the pod as a whole are about fields that are the user's.
        for field in ["securityContext", "hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
            assert_eq!(patched["spec"].get(field), scenario.pod["spec"].get(field), "{}", path.display());
        }
    });
    assert!(checked > 10, "{checked} containers");
}

/// The parts of the lists that the report names.
fn added<'a>(pod: &'a Value, lists: &[&str], names: &[String]) -> Vec<&'a Value> {
    let items = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let found: Vec<_> = items.filter(|item| names.iter().any(|name| item["name"] == name.as_str())).collect();
    assert_eq!(found.len(), names.len());
    found
}

/// The rules that a container breaks. It must keep them by itself: what the pod says is the user's and may be anything.
fn violations(container: &Value) -> Vec<&'static str> {
    let context = &container["securityContext"];
    let capabilities = &context["capabilities"];
    let rules = [
        ("privileged", context["privileged"] != true),
        ("allowPrivilegeEscalation", context["allowPrivilegeEscalation"] == false),
        ("capabilities.drop", capabilities["drop"] == json!(["ALL"])),
        ("capabilities.add", capabilities["add"].is_null()),
        ("runAsNonRoot", context["runAsNonRoot"] == true),
        ("runAsUser", context["runAsUser"].as_i64().is_some_and(|user| user != 0)),
        ("seccompProfile", context["seccompProfile"]["type"] == "RuntimeDefault"),
        ("procMount", context["procMount"].is_null()),
        ("seLinuxOptions", context["seLinuxOptions"].is_null()),
        ("windowsOptions", context["windowsOptions"].is_null()),
        ("appArmorProfile", context["appArmorProfile"].is_null()),
        ("hostPort", !any(&container["ports"], |port| port["hostPort"] != json!(null))),
        ("host of a probe", !any_deep(container, "host")),
        // Beyond the standard, and promised.
        ("readOnlyRootFilesystem", context["readOnlyRootFilesystem"] == true),
    ];
    rules.into_iter().filter(|(_, kept)| !kept).map(|(rule, _)| rule).collect()
}

fn any(list: &Value, predicate: impl Fn(&Value) -> bool) -> bool {
    list.as_array().into_iter().flatten().any(predicate)
}

fn any_deep(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| name == key || any_deep(value, key)),
        Value::Array(items) => items.iter().any(|item| any_deep(item, key)),
        _ => false,
    }
}

/// The check must find what it looks for.
#[test]
fn an_unrestricted_container_breaks_every_rule() {
    let context = json!({
        "privileged": true, "capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 0, "procMount": "Unmasked",
        "seLinuxOptions": {"type": "x"}, "windowsOptions": {"hostProcess": true}, "appArmorProfile": {"type": "Unconfined"},
    });
    let container = json!({
        "securityContext": context,
        "ports": [{"hostPort": 80}],
        "livenessProbe": {"tcpSocket": {"port": 1, "host": "localhost"}},
    });
    assert_eq!(violations(&container).len(), 14);
}
