//! Probes and lifecycle handlers that give a port by its name.
//!
//! The kubelet looks the name up in the probe's own container. Where the name has moved to the proxy it would find
//! nothing, so the app's number takes its place; the probe goes on asking the app itself and is not counted as traffic.

use serde_json::Value;

use crate::outcome::{MovedPort, MovedProbe};
use crate::pod::Pod;

const HANDLERS: [&str; 5] =
    ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
const ACTIONS: [&str; 2] = ["/httpGet/port", "/tcpSocket/port"];

/// The fields to replace, each with the app's port number.
pub(crate) fn plan(pod: Pod, moved: &[MovedPort]) -> Vec<(MovedProbe, u16)> {
    let mut probes = Vec::new();
    for port in moved {
        let Some(container) = pod.container(&port.container) else {
            continue;
        };
        for field in HANDLERS.iter().flat_map(|handler| ACTIONS.map(|action| format!("{handler}{action}"))) {
            if container.json.pointer(&field).and_then(Value::as_str) == Some(&port.name) {
                let probe = MovedProbe { container: port.container.clone(), field, name: port.name.clone() };
                probes.push((probe, port.port));
            }
        }
    }
    probes
}
