//! What the API server would refuse in a pod, as far as injection could bring it about.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

/// One line each.
pub(crate) fn problems(pod: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let spec = &pod["spec"];
    let volumes: HashSet<_> =
        items(&spec["volumes"]).iter().filter_map(|volume| volume["name"].as_str()).collect();
    twice(&spec["volumes"], "name", "volume", &mut found);
    let containers: Vec<_> =
        items(&spec["containers"]).iter().chain(items(&spec["initContainers"])).collect();
    let mut names = HashSet::new();
    let mut listeners: HashMap<(u64, &str), &str> = HashMap::new();
    for container in containers {
        let name = container["name"].as_str().unwrap_or_default();
        if !names.insert(name) {
            found.insert(format!("two containers {name}"));
        }
        twice(&container["ports"], "name", &format!("port of {name}"), &mut found);
        twice(&container["volumeMounts"], "mountPath", &format!("mount of {name}"), &mut found);
        twice(&container["env"], "name", &format!("variable of {name}"), &mut found);
        for mount in items(&container["volumeMounts"]).iter().filter_map(|mount| mount["name"].as_str()) {
            if !volumes.contains(mount) {
                found.insert(format!("{name} mounts {mount}, which is no volume"));
            }
        }
        for port in items(&container["ports"]) {
            // A protocol of another type is no port, and nothing that injection could mend.
            let protocol = port.get("protocol").map_or(Some("TCP"), Value::as_str);
            let (Some(number), Some(protocol)) = (port["containerPort"].as_u64(), protocol) else { continue };
            let other = listeners.insert((number, protocol), name);
            if let Some(other) = other.filter(|other| *other != name) {
                found.insert(format!("{name} and {other} both listen on {number}"));
            }
        }
        undeclared_ports_of_probes(container, &mut found);
    }
    found
}

fn undeclared_ports_of_probes(container: &Value, found: &mut BTreeSet<String>) {
    let handlers =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    for handler in handlers {
        // A lifecycle handler has no other action with a port that the kubelet would take.
        for action in
            ["httpGet", "tcpSocket"].iter().take(if handler.starts_with("/lifecycle") { 1 } else { 2 })
        {
            let Some(port) = container.pointer(&format!("{handler}/{action}/port")).and_then(Value::as_str)
            else {
                continue;
            };
            if items(&container["ports"]).iter().all(|declared| declared["name"] != port) {
                found
                    .insert(format!("{handler} of {} asks {port}, which is not declared", container["name"]));
            }
        }
    }
}

fn twice(list: &Value, key: &str, what: &str, found: &mut BTreeSet<String>) {
    let mut seen = HashSet::new();
    for value in items(list).iter().filter_map(|item| item[key].as_str()).filter(|value| !value.is_empty()) {
        if !seen.insert(value) {
            found.insert(format!("two {what}: {value}"));
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
