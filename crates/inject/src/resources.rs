//! The sidecars' resources beside those of the pod.

use outrigger_api::profile::Resources;
use outrigger_api::quantity::Quantity;
use outrigger_api::sync::SyncSpec;
use serde_json::{Value, json};

use crate::pod::Pod;

const NAMES: [&str; 2] = ["cpu", "memory"];
/// What the content sync needs beside its rounds, in MiB: its own 8, and room for pages of files.
const SYNC_ITSELF: u64 = 32;

/// The resources to write into the proxy's container, and what the user should know about them.
pub(crate) fn plan(pod: Pod, resources: &Resources) -> (Value, Vec<String>) {
    let mut written = serde_json::to_value(resources).expect("our own types have string keys only");
    let mut warnings = Vec::new();
    for name in NAMES {
        if has_budget(pod, name) {
            warnings.extend(leave_to_pod(pod, name, &mut written));
        }
    }
    if loses_guarantee(pod, &written) {
        let Resources { requests, limits } = resources;
        warnings.push(format!(
            "the pod's QoS class changes from Guaranteed to Burstable, because the proxy's limits differ from its requests \
             (cpu {}, memory {}). To keep it, give the proxy room of its own: outrigger.dev/proxy-cpu-request and \
             -cpu-limit: 100m, -memory-request and -memory-limit: {}",
            requests.cpu, requests.memory, limits.memory
        ));
    }
    (written, warnings)
}

/// The log adapter's resources, given those of the proxy. No knob: it takes six megabytes, whatever it reads.
pub(crate) fn of_logs(pod: Pod, proxy: &Value) -> Value {
    if is_guaranteed(proxy) && pod.containers().all(|container| is_guaranteed(&container.json["resources"])) {
        return json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}});
    }
    let mut written =
        serde_json::to_value(Resources::default()).expect("our own types have string keys only");
    for name in NAMES.into_iter().filter(|name| has_budget(pod, name)) {
        leave_out(name, &mut written);
    }
    written
}

/// The content sync's resources, given those of the proxy. No knob of its own: a profile's `limits` say what it may need, and a round
/// that wants more is ended by itself before the kernel would end the container.
pub(crate) fn of_sync(pod: Pod, proxy: &Value, specs: &[SyncSpec]) -> Value {
    let mut written = of_logs(pod, proxy);
    // Rounds of several entries may fall together.
    let rounds = specs.iter().map(|spec| spec.limits.memory()).fold(0, u64::saturating_add);
    let memory = format!("{}Mi", rounds.div_ceil(1 << 20) + SYNC_ITSELF);
    for kind in ["requests", "limits"] {
        // Equal ones stay equal, for the sake of the pod's class.
        if written[kind]["memory"] == "64Mi" {
            written[kind]["memory"] = memory.clone().into();
        }
    }
    written
}

fn leave_out(name: &str, written: &mut Value) {
    for kind in ["requests", "limits"] {
        written[kind].as_object_mut().and_then(|of_kind| of_kind.shift_remove(name));
    }
}

/// Whether the pod as a whole has a budget of this resource (`spec.resources`, Kubernetes 1.32).
fn has_budget(pod: Pod, name: &str) -> bool {
    ["requests", "limits"]
        .into_iter()
        .any(|kind| pod.at(&format!("/spec/resources/{kind}/{name}")).is_some_and(|value| !value.is_null()))
}

/// A pod's budget is for all of its containers: with a value of its own the proxy could exceed it, and the API server would
/// refuse the pod (istio#57393). Raising the budget instead would change what the user has set, for a quota perhaps.
fn leave_to_pod(pod: Pod, name: &str, written: &mut Value) -> Option<String> {
    leave_out(name, written);
    let ignored: Vec<_> = ["request", "limit"]
        .into_iter()
        .map(|kind| format!("outrigger.dev/proxy-{name}-{kind}"))
        .filter(|key| pod.annotation(key).is_some())
        .collect();
    let verb = if ignored.len() == 1 { "has" } else { "have" };
    (!ignored.is_empty()).then(|| {
        format!(
            "{} {verb} no effect: spec.resources is the {name} of all containers of the pod",
            ignored.join(" and ")
        )
    })
}

/// Whether every container of the pod has limits that equal its requests, and the proxy's do not. The class decides who is
/// evicted first, and who gets cores of its own.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
fn loses_guarantee(pod: Pod, proxy: &Value) -> bool {
    // Where the pod as a whole has a budget, that alone decides.
    if NAMES.iter().any(|name| has_budget(pod, name)) || is_guaranteed(proxy) {
        return false;
    }
    pod.containers().all(|container| is_guaranteed(&container.json["resources"]))
}

fn is_guaranteed(resources: &Value) -> bool {
    NAMES.iter().all(|name| {
        let Some(limit) = quantity(&resources["limits"][name]) else { return false };
        // A request that is not given is the limit.
        quantity(&resources["requests"][name])
            .is_none_or(|request| !request.exceeds(&limit) && !limit.exceeds(&request))
    })
}

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::try_from(value.clone()).ok()
}
