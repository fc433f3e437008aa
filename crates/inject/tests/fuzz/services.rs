//! Where a Service leads whose `targetPort` is a name, by Kubernetes' own rule (`FindPort`).

use std::collections::BTreeMap;

use serde_json::Value;

/// For every name of a TCP port: the container and the number that a Service reaches, through the proxy where it has the name.
pub(crate) fn leads(pod: &Value, into_native_sidecars: bool) -> BTreeMap<String, (String, u64)> {
    let config = pod["metadata"]["annotations"]["outrigger.dev/config"].as_str().unwrap_or_default();
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let native =
        items(&pod["spec"]["initContainers"]).iter().filter(|item| item["restartPolicy"] == "Always");
    let native = native.filter(|_| into_native_sidecars);
    let mut found = BTreeMap::new();
    for container in items(&pod["spec"]["containers"]).iter().chain(native) {
        for port in items(&container["ports"]) {
            let tcp = port.get("protocol").is_none_or(|protocol| protocol == "TCP" || protocol.is_null());
            let number = port["containerPort"].as_u64().filter(|number| u16::try_from(*number).is_ok());
            let (Some(name), Some(number), true) = (port["name"].as_str(), number, tcp) else { continue };
            if !name.is_empty() {
                let lead = behind(pod, &config, container, number);
                found.entry(name.to_owned()).or_insert(lead);
            }
        }
    }
    found
}

/// The app's port behind one of the proxy's; any other port is its own.
fn behind(pod: &Value, config: &Value, container: &Value, number: u64) -> (String, u64) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let inbound = items(&config["inbound"]).iter().find(|inbound| inbound["listen"] == number);
    let (Some(inbound), "outrigger-proxy") = (inbound, name.as_str()) else { return (name, number) };
    let status = pod["metadata"]["annotations"]["outrigger.dev/status"].as_str().unwrap_or_default();
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let moved = items(&status["ports"]).iter().find(|moved| moved["listen"] == number);
    let app = moved.and_then(|moved| moved["container"].as_str()).unwrap_or_default().to_owned();
    (app, inbound["target"].as_u64().unwrap_or_default())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
