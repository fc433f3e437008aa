//! Annotations that override single values of the profile.

use outrigger_api::Reason;
use outrigger_api::cidr::{Cidr, CidrError};
use outrigger_api::names::{CONFIG_ANNOTATION, INJECT_LABEL, PREFIX, PROFILE_ANNOTATION, STATUS_ANNOTATION};
use outrigger_api::port::PortRef;
use outrigger_api::profile::{InboundSpec, MAX_ENTRIES, SidecarProfileSpec};
use outrigger_api::quantity::Quantity;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Namespace;
use crate::log_annotation;
use crate::outcome::Refusal;
use crate::owned::OUR_LABELS;
use crate::place;
use crate::pod::{Container, Pod};
use crate::sync_annotation;

/// The most annotations that a warning is made of.
const MOST_WARNINGS: usize = 10;

/// The annotations that override, without their prefix. One for each arm of [`set`].
pub(crate) const KNOBS: [&str; 16] = [
    "native-sidecars",
    "interception",
    "inbound-ports",
    "skip-inbound-ports",
    "skip-outbound-ports",
    "skip-outbound-cidrs",
    "skip-outbound-uids",
    "proxy-cpu-request",
    "proxy-cpu-limit",
    "proxy-memory-request",
    "proxy-memory-limit",
    "log-level",
    "rewrite-probes",
    "logs",
    // After `logs`, whose entries it changes.
    "log-format",
    "sync",
];

/// A profile with the overrides of one pod in it.
pub(crate) struct Effective {
    pub(crate) profile: SidecarProfileSpec,
    pub(crate) warnings: Vec<String>,
}

/// Applies the namespace's annotations, then the pod's. All bad values are reported at once; a key of ours that this
/// version does not know is a warning, because a newer manifest must still start on an older Outrigger.
pub(crate) fn apply(
    profile: SidecarProfileSpec,
    pod: Pod,
    namespace: &Namespace,
) -> Result<Effective, Refusal> {
    let mut effective = Effective { profile, warnings: Vec::new() };
    let mut errors = not_text(pod);
    for knob in KNOBS {
        let key = format!("{PREFIX}{knob}");
        let Some((value, _)) = place::annotation(pod, namespace, &key) else {
            continue;
        };
        if let Err(message) = set(&mut effective, knob, value.trim()) {
            errors.push(format!("annotation {key}: {message}"));
        }
    }
    for (field, message) in effective.profile.proxy.resources.faults() {
        errors.push(format!("proxy {field}: {message} (after the annotations)"));
    }
    // The profile's own were checked when it was read, and their patterns compiled for that.
    let of_annotations = ["logs", "log-format"]
        .iter()
        .any(|knob| place::annotation(pod, namespace, &format!("{PREFIX}{knob}")).is_some());
    for (index, logs) in effective.profile.logs.iter().enumerate().filter(|_| of_annotations) {
        let faults = logs.check(&format!("logs[{index}]"));
        errors.extend(faults.iter().map(|fault| format!("{fault} (after the annotations)")));
    }
    let of_annotation = place::annotation(pod, namespace, &format!("{PREFIX}sync")).is_some();
    for (index, sync) in effective.profile.sync.iter().enumerate().filter(|_| of_annotation) {
        let faults = sync.check(&format!("sync[{index}]"));
        errors.extend(faults.iter().map(|fault| format!("{fault} (after the annotations)")));
    }
    if !errors.is_empty() {
        return Err(Refusal::Rejected { reason: Reason::InvalidAnnotation, errors });
    }
    effective.warnings = pod.annotations().filter_map(|(key, _)| unknown(key)).take(MOST_WARNINGS).collect();
    effective.warnings.extend(labels_without_effect(pod));
    effective.warnings.extend(ports_that_are_not_there(pod));
    Ok(effective)
}

fn set(effective: &mut Effective, knob: &str, value: &str) -> Result<(), String> {
    let Effective { profile, .. } = effective;
    let resources = &mut profile.proxy.resources;
    match knob {
        "native-sidecars" => profile.native_sidecars = parse_word(value)?,
        "rewrite-probes" => profile.rewrite_probes = parse_bool(value)?,
        "interception" => profile.interception = parse_word(value)?,
        "logs" => profile.logs = log_annotation::parse(value, &profile.logs)?,
        "log-format" => log_annotation::set_format(&mut profile.logs, parse_word(value)?),
        "sync" => profile.sync = sync_annotation::parse(value, &profile.sync)?,
        "log-level" => profile.proxy.log_level = parse_word(value)?,
        "inbound-ports" => profile.inbound = select(&profile.inbound, parse_ports(value)?),
        "skip-inbound-ports" => profile.skip.inbound_ports = parse_ports(value)?,
        "skip-outbound-ports" => profile.skip.outbound_ports = parse_list(value, port_number)?,
        "skip-outbound-cidrs" => profile.skip.outbound_cidrs = parse_list(value, cidr)?,
        "skip-outbound-uids" => profile.skip.outbound_uids = parse_list(value, user)?,
        "proxy-cpu-request" => resources.requests.cpu = parse_quantity(value)?,
        "proxy-cpu-limit" => resources.limits.cpu = Some(parse_quantity(value)?),
        "proxy-memory-request" => resources.requests.memory = parse_quantity(value)?,
        "proxy-memory-limit" => resources.limits.memory = parse_quantity(value)?,
        other => unreachable!("{other} is in KNOBS and not here"),
    }
    Ok(())
}

/// The ports listed, each with what the profile says of it.
fn select(inbound: &[InboundSpec], ports: Vec<PortRef>) -> Vec<InboundSpec> {
    let said = |port: &PortRef| {
        let spec = inbound.iter().find(|spec| spec.port == *port || spec.port == PortRef::All);
        spec.cloned().unwrap_or_default()
    };
    ports.into_iter().map(|port| InboundSpec { port: port.clone(), ..said(&port) }).collect()
}

/// A comma-separated list of ports; empty for none.
fn parse_ports(value: &str) -> Result<Vec<PortRef>, String> {
    let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
    if items().count() > MAX_ENTRIES {
        return Err(format!(
            "more than {MAX_ENTRIES} ports; a number stands for each port of that number, and * for all"
        ));
    }
    items().map(|item| item.parse().map_err(|error| format!("{error}"))).collect()
}

/// What overrides is an annotation, and one letter makes another label.
fn labels_without_effect(pod: Pod) -> Vec<String> {
    let labels = pod.at("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let known = |key: &str| key == INJECT_LABEL || OUR_LABELS.contains(&key);
    let others = labels.map(|(key, _)| key).filter(|key| key.starts_with(PREFIX) && !known(key));
    let message = |key: &String| {
        format!("label {key} has no effect: the one label is {INJECT_LABEL}, all else are annotations")
    };
    others.take(MOST_WARNINGS).map(message).collect()
}

/// Slips of the pen on the pod itself. A namespace's annotation is for many pods, and not each has every port.
fn ports_that_are_not_there(pod: Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    for knob in ["inbound-ports", "skip-inbound-ports"] {
        let key = format!("{PREFIX}{knob}");
        let asked = pod.annotation(&key).and_then(|value| parse_ports(value).ok()).unwrap_or_default();
        for wanted in asked.iter().filter(|wanted| **wanted != PortRef::All) {
            let mut ports = pod.containers().flat_map(Container::tcp_ports);
            if !ports.any(|port| wanted.matches(port.name, port.number)) {
                warnings.push(format!("annotation {key}: no container has a TCP port {wanted}"));
            }
        }
    }
    warnings
}

/// A comma-separated list; empty for none.
fn parse_list<T>(value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
    if items().count() > MAX_ENTRIES {
        return Err(format!("more than {MAX_ENTRIES} entries"));
    }
    items().map(parse).collect()
}

fn port_number(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text:?} is no port: a number from 1 to 65535"))
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|error: CidrError| error.to_string())
}

fn user(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number < u32::MAX);
    number.ok_or_else(|| format!("{text:?} is no user: a number"))
}

fn parse_quantity(value: &str) -> Result<Quantity, String> {
    Quantity::parse(value).map_err(|error| error.to_string())
}

fn parse_bool(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{value:?} is neither true nor false"))
}

/// A word of a fixed list, as the profile's own types know it.
fn parse_word<T: DeserializeOwned>(value: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(value)).map_err(|error| {
        let error = error.to_string();
        let Some((_, known)) = error.split_once(", expected ") else { return error };
        let known = known.trim_start_matches("one of ").replace('`', "");
        format!("{value:?} is not known: it takes {known}")
    })
}

/// Annotations of ours without quotes around a number or a boolean. The API server never sends them; a manifest may.
fn not_text(pod: Pod) -> Vec<String> {
    let ours = pod.annotations().filter(|(key, value)| key.starts_with(PREFIX) && !value.is_string());
    let told = ours.take(MOST_WARNINGS);
    told.map(|(key, value)| format!("annotation {key}: {value} is no text; put it in quotes")).collect()
}

fn unknown(key: &str) -> Option<String> {
    let knob = key.strip_prefix(PREFIX)?;
    let ours = [PROFILE_ANNOTATION, STATUS_ANNOTATION, CONFIG_ANNOTATION];
    let known = ours.contains(&key) || KNOBS.contains(&knob);
    if key == INJECT_LABEL {
        return Some(format!("{key} has no effect as an annotation: it is a label"));
    }
    (!known).then(|| {
        let known = KNOBS.join(", ");
        format!("annotation {key} is not known to this version and has no effect; known: profile, {known}")
    })
}
