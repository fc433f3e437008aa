//! Whom the app calls: the listeners that lead there, and the variables of the app that say so.

use outrigger_api::config::{Interception, Protocol, Upstream};
use outrigger_api::names::FIRST_LISTEN_PORT;
use outrigger_api::profile::UpstreamSpec;
use serde_json::{Value, json};

use crate::edit::Edit;
use crate::outcome::{NoList, SetVariable};
use crate::pod::{Container, Pod};

/// The upstreams of the sidecar config, and the variables that lead the app to them.
#[derive(Default)]
pub(crate) struct Upstreams {
    pub(crate) configured: Vec<Upstream>,
    /// Each with its value.
    variables: Vec<(String, String)>,
    pub(crate) warnings: Vec<String>,
}

/// `free`: ports that a listener may have.
pub(crate) fn plan(
    specs: &[UpstreamSpec],
    mode: Interception,
    free: &mut impl Iterator<Item = u16>,
) -> Upstreams {
    let mut upstreams = Upstreams::default();
    for spec in specs {
        let UpstreamSpec { name, host, port, protocol, env, tls, timeouts, limits, circuit_breaker, retries } =
            spec.clone();
        let listen = match (mode, env) {
            (Interception::Redirect, _) => None,
            (Interception::Ports, None) => {
                upstreams.warnings.push(without_variable(spec));
                continue;
            }
            (Interception::Ports, Some(env)) => {
                let Some(listen) = free.next() else { continue };
                upstreams.variables.push((env, address(listen, protocol)));
                Some(listen)
            }
        };
        let upstream =
            Upstream { name, host, port, protocol, tls, listen, timeouts, limits, circuit_breaker, retries };
        upstreams.configured.push(upstream);
    }
    upstreams
}

/// A URL where the app may take one; what speaks another protocol is given as host and port.
fn address(listen: u16, protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => format!("127.0.0.1:{listen}"),
        Protocol::Auto | Protocol::Http => format!("http://127.0.0.1:{listen}"),
    }
}

fn without_variable(spec: &UpstreamSpec) -> String {
    format!(
        "calls to upstream {} ({}:{}) go past the proxy: in ports mode they come to it by a variable of the app, and env names none",
        spec.name, spec.host, spec.port
    )
}

impl Upstreams {
    /// Whether calls come to the proxy by a listener.
    pub(crate) fn have_listeners(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Sets the variables in every container that runs beside the proxy. `native`: whether that is there for init containers too.
    pub(crate) fn apply(&self, edit: &mut Edit, pod: Pod, native: bool) -> Vec<SetVariable> {
        let mut set = Vec::new();
        let beside = |container: &Container| native || !container.is_init();
        for container in pod.containers().filter(beside) {
            let place = format!("{}/env", container.pointer);
            let (given, list) = match container.json.get("env") {
                Some(Value::Array(given)) => (given.as_slice(), None),
                Some(_) => (&[][..], Some(NoList::Null)),
                None => (&[][..], Some(NoList::Missing)),
            };
            // Not by `Edit::append`, which remembers a list by its container's place: init containers of others shift that.
            if list.is_some() && !self.variables.is_empty() {
                edit.add(&place, json!([]));
            }
            for (name, value) in &self.variables {
                let variable = json!({"name": name, "value": value});
                let at = given.iter().position(|given| given["name"] == name.as_str());
                match at {
                    Some(at) => edit.replace(&format!("{place}/{at}"), variable),
                    None => edit.add(&format!("{place}/-"), variable),
                }
                set.push(SetVariable {
                    container: container.name.to_owned(),
                    name: name.clone(),
                    value: value.clone(),
                    was: at.map(|at| given[at].clone()),
                    list,
                });
            }
        }
        set
    }
}

/// Whether injection may have set it: to a listener of the proxy, in the place of an entry of that name.
pub(crate) fn is_sound(set: &SetVariable) -> bool {
    let address = set.value.strip_prefix("http://").unwrap_or(&set.value);
    let port = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse::<u16>().ok());
    let same_name = |was: &Value| was["name"] == set.name.as_str();
    port.is_some_and(|port| port >= FIRST_LISTEN_PORT) && set.was.as_ref().is_none_or(same_name)
}

/// Puts back what stood there, where what stands there now is what we wrote.
pub(crate) fn restore(container: &mut Value, set: &SetVariable) {
    let Some(variables) = container.get_mut("env").and_then(Value::as_array_mut) else { return };
    let ours = json!({"name": set.name, "value": set.value});
    let Some(at) = variables.iter().position(|variable| *variable == ours) else { return };
    match &set.was {
        Some(was) => variables[at] = was.clone(),
        None => {
            variables.remove(at);
        }
    }
    let is_empty = variables.is_empty();
    match set.list.filter(|_| is_empty) {
        Some(NoList::Null) => container["env"] = Value::Null,
        Some(NoList::Missing) => {
            container.as_object_mut().and_then(|fields| fields.shift_remove("env"));
        }
        None => {}
    }
}
