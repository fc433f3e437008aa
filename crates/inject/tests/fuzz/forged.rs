//! Status annotations that nobody wrote by injecting.

use serde_json::{Value, json};

use super::dice::Dice;

const NAMES: [&str; 9] = [
    "app0",
    "app1",
    "init0",
    "outrigger-proxy",
    "outrigger-logs",
    "outrigger-x",
    "outrigger-config",
    "outrigger-shared",
    "",
];
const PATHS: [&str; 14] = [
    "",
    "/",
    "/name",
    "/ports",
    "/ports/0/name",
    "/readinessProbe",
    "/readinessProbe/httpGet",
    "/readinessProbe/httpGet/port",
    "/livenessProbe/tcpSocket",
    "/lifecycle/preStop/httpGet",
    "/spec/containers",
    "/spec/containers/0",
    "/spec/volumes",
    "/metadata/annotations",
];

/// Gives a pod one, of its own status and of what it should not say.
pub(crate) fn forge(pod: &mut Value, dice: &mut Dice) {
    const STATUS: &str = "outrigger.dev/status";
    let annotations = &mut pod["metadata"]["annotations"];
    let own = annotations[STATUS].as_str().unwrap_or("{}");
    let mut status: Value = serde_json::from_str(own).expect("what injection writes is JSON");
    for _ in 0..=dice.roll(3) {
        let name = dice.word(&NAMES);
        let path = dice.word(&PATHS);
        match dice.roll(11) {
            0 => status["containers"] = json!([name]),
            1 => status["volumes"] = json!([name]),
            2 | 3 => {
                status["probes"] = json!([{"container": name, "field": path, "was": was(dice)}]);
            }
            8 => status["replacedLabels"] = json!({"outrigger.dev/injected": was(dice), "app": name}),
            9 => status["replacedAnnotations"] = json!({"outrigger.dev/config": was(dice)}),
            10 => {
                status["rendered"] = json!({name.as_str().unwrap_or_default(): {"image": "0", "ports": "1"}});
            }
            4 => status["created"] = json!([path]),
            5 => status["nulls"] = json!([path]),
            6 => status["mounts"] = json!([format!("{}:/v", name.as_str().unwrap_or_default()), path]),
            _ => {
                let port = json!({"container": name, "index": dice.roll(3), "name": path, "port": 8080, "listen": 1, "protocol": "tcp"});
                status["ports"] = json!([port]);
            }
        }
    }
    annotations[STATUS] = status.to_string().into();
}

fn was(dice: &mut Dice) -> Value {
    match dice.roll(3) {
        0 => dice.word(&NAMES),
        1 => json!({"port": 8080, "path": "/"}),
        _ => Value::Null,
    }
}
