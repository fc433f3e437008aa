//! Probes and lifecycle handlers of ports that are taken over.
//!
//! They go to the proxy's admin server, which asks the app at the pod's own address: what the probe says is true of the app,
//! and is not counted as traffic. The kubelet looks a port's name up in the probe's own container, where it is no longer; so
//! where a probe is not rewritten, the app's number takes the place of a name that moved.

use std::collections::{HashMap, HashSet};

use outrigger_api::names::ADMIN_PORT;
use outrigger_api::probe::{HttpProbe, Probe, ProbeAction, ProbeKind, Scheme};
use serde_json::{Value, json};

use crate::edit::Edit;
use crate::outcome::ReplacedProbe;
use crate::pod::{Container, Pod};
use crate::ports::{Taken, Takeover};

/// What asks a port.
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
/// Every action that a probe or a handler may have, of which it has one.
const ALL_ACTIONS: [&str; 5] = ["httpGet", "tcpSocket", "grpc", "exec", "sleep"];

/// How long an app may take to answer a probe, in seconds, where the probe does not say.
const DEFAULT_TIMEOUT_SECONDS: u32 = 1;

/// What becomes of the probes.
#[derive(Default)]
pub(crate) struct Probes {
    pub(crate) changes: Vec<Change>,
    /// What the proxy answers.
    pub(crate) answered: Vec<Probe>,
    pub(crate) warnings: Vec<String>,
}

/// One change, and what stood there.
pub(crate) struct Change {
    pub(crate) record: ReplacedProbe,
    with: Value,
}

/// The ports that come to the proxy, to be looked up.
struct Moved<'a> {
    taken: &'a Taken,
    /// Whether the kernel brings them.
    redirected: bool,
    /// By the name of a port that lost it; no two of them share one.
    containers: HashMap<&'a str, &'a str>,
}

/// One probe or handler with one action.
struct Asked<'a> {
    container: Container<'a>,
    kind: ProbeKind,
    handler: &'a Value,
    action: &'static str,
    what: &'a Value,
}

/// `rewrite`: whether they may go through the proxy at all. `native`: whether the proxy is a native sidecar; a plain container
/// starts after the user's native sidecars, whose probes it so can't answer.
pub(crate) fn plan(pod: Pod, takeover: &Takeover, rewrite: bool, native: bool, redirected: bool) -> Probes {
    let mut probes = Probes::default();
    let moved = Moved {
        taken: &takeover.taken,
        redirected,
        containers: takeover
            .moved()
            .iter()
            .map(|moved| (moved.name.as_str(), moved.container.as_str()))
            .collect(),
    };
    for container in pod.containers().filter(|container| container.is_long_running()) {
        let may_rewrite = rewrite && (native || !container.is_init());
        for kind in ProbeKind::ALL {
            let Some(handler) = container.json.pointer(kind.field()) else { continue };
            let given: Vec<_> = ALL_ACTIONS.into_iter().filter(|action| !handler[action].is_null()).collect();
            for action in given.iter().copied().filter(|action| may_ask(kind, action)) {
                let asked = Asked { container, kind, handler, action, what: &handler[action] };
                // The API server refuses a probe with two actions. It is not for us to choose one.
                probes.plan_one(&asked, &moved, given.len() == 1 && may_rewrite);
            }
        }
    }
    probes
}

/// Whether the kubelet would ask a port by it. A handler's `tcpSocket` is taken by the API server and never run.
fn may_ask(kind: ProbeKind, action: &str) -> bool {
    ACTIONS.contains(&action) && (action == "httpGet" || !kind.is_handler())
}

impl Probes {
    /// Keeps answering a probe that others have made to ask another place since: they may ask the proxy in their turn, as
    /// Istio's agent does, which would get a 404.
    pub(crate) fn keep(&mut self, pod: Pod, answered: Vec<Probe>, taken: &Taken) {
        let planned: HashSet<_> = self.answered.iter().map(Probe::path).collect();
        let containers: HashMap<_, _> =
            pod.containers().enumerate().map(|(place, found)| (found.name, (place, found.json))).collect();
        let kept = answered.into_iter().filter(|probe| {
            let port = match &probe.action {
                ProbeAction::Http(http) => http.port,
                ProbeAction::Tcp { port } | ProbeAction::Grpc { port, .. } => *port,
            };
            let handler = || containers.get(probe.container.as_str())?.1.pointer(probe.kind.field());
            !planned.contains(&probe.path())
                && taken.contains(port)
                && handler().is_some_and(|handler| handler["httpGet"].is_object())
        });
        let before = self.answered.len();
        self.answered.extend(kept);
        if self.answered.len() > before {
            // In the order of those that were planned at once, or the config would look as if something had changed.
            let place = |name: &str| containers.get(name).map(|(place, _)| *place);
            let kind = |kind| ProbeKind::ALL.iter().position(|other| *other == kind);
            self.answered.sort_by_cached_key(|probe| (place(&probe.container), kind(probe.kind)));
        }
    }

    /// A copy that has lost its annotations: what its probes asked is gone with them.
    pub(crate) fn warn_of_strays(&mut self, pod: Pod) {
        let answered: HashSet<_> = self.answered.iter().map(Probe::path).collect();
        let strays = asking_the_proxy(pod).filter(|(path, _)| !answered.contains(path.as_str()));
        self.warnings.extend(strays.map(|(path, probe)| {
            format!("{probe} asks the proxy for {path}, which does not know it any more and says 404: write what it is to ask")
        }));
    }

    fn plan_one(&mut self, asked: &Asked, moved: &Moved, may_rewrite: bool) {
        let Some(port) = asked.port() else {
            self.warnings.extend(asked.undeclared());
            return;
        };
        if !moved.taken.contains(port) {
            return;
        }
        let host = asked.what["host"].as_str().filter(|host| !host.is_empty());
        self.warnings.extend(host.filter(|host| is_loopback(host)).map(|host| asked.asks_the_node(host)));
        let replaced = if host.is_none() && may_rewrite { asked.rewritten(port) } else { None };
        let Some((change, probe)) = replaced else {
            let asks_proxy = moved.redirected && asked.action == "tcpSocket" && host.is_none();
            self.warnings.extend(asks_proxy.then(|| asked.asks_the_proxy()));
            self.changes.extend(asked.by_number(port, moved));
            return;
        };
        self.changes.push(change);
        self.answered.push(probe);
    }
}

impl Asked<'_> {
    /// The number of the port that the kubelet would ask; none for a name that the container does not declare. Istio
    /// rewrites such a probe and then knows no port for it: the warning is all that can be done.
    fn port(&self) -> Option<u16> {
        let port = &self.what["port"];
        if let Some(number) = port.as_u64() {
            return u16::try_from(number).ok();
        }
        let name = port.as_str()?;
        let declared = self.container.json["ports"].as_array().into_iter().flatten();
        let named = declared.filter(|declared| declared["name"] == name);
        u16::try_from(named.map(|declared| &declared["containerPort"]).next()?.as_u64()?).ok()
    }

    fn undeclared(&self) -> Option<String> {
        let name = self.what["port"].as_str()?;
        Some(format!(
            "{self} asks port {name:?}, which the container does not declare: the kubelet will not find it. It is left as it is; \
             declare the port or give its number"
        ))
    }

    fn asks_the_node(&self, host: &str) -> String {
        format!(
            "{self} has host {host:?} and is left as it is: the kubelet asks from the node, so that is the node and not the \
             pod. Without host it asks the app"
        )
    }

    fn asks_the_proxy(&self) -> String {
        format!(
            "{self} is left as it is, and the rules bring it to the proxy, which takes connections whether the app does or not: it says nothing \
             of the app. Let it be rewritten, or make it an httpGet, grpc or exec"
        )
    }

    /// The probe as a question to the admin server; none where its fields have no meaning that this version knows.
    fn rewritten(&self, port: u16) -> Option<(Change, Probe)> {
        let action = match self.action {
            "httpGet" => ProbeAction::Http(self.http(port)),
            "tcpSocket" => ProbeAction::Tcp { port },
            _ => ProbeAction::Grpc {
                port,
                service: self.what["service"].as_str().unwrap_or_default().to_owned(),
            },
        };
        let timeout = self.handler["timeoutSeconds"].as_u64().and_then(|seconds| u32::try_from(seconds).ok());
        let timeout = timeout.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        let probe = Probe {
            container: self.container.name.to_owned(),
            kind: self.kind,
            timeout_seconds: (!self.kind.is_handler()).then_some(timeout),
            action,
        };
        // An httpGet keeps its headers, and fields that this version has never heard of.
        let mut with = if self.action == "httpGet" { self.what.clone() } else { json!({}) };
        let fields = with.as_object_mut()?;
        fields.insert("path".to_owned(), probe.path().into());
        fields.insert("port".to_owned(), ADMIN_PORT.into());
        // The API server would fill it in, and the pod would look as if somebody had changed it.
        fields.insert("scheme".to_owned(), "HTTP".into());
        // A null that we would have to give back.
        let in_the_way = self.action != "httpGet" && self.handler.get("httpGet").is_some();
        let change = Change { record: self.record(self.action, self.what), with };
        (!in_the_way).then_some((change, probe))
    }

    fn http(&self, port: u16) -> HttpProbe {
        let headers = self.what["httpHeaders"].as_array().into_iter().flatten();
        let host = headers
            .filter(|header| header["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("host")))
            .find_map(|header| header["value"].as_str());
        HttpProbe {
            port,
            path: self.what["path"].as_str().unwrap_or_default().to_owned(),
            scheme: if self.what["scheme"] == "HTTPS" { Scheme::Https } else { Scheme::Http },
            host: host.filter(|host| !host.is_empty()).map(str::to_owned),
        }
    }

    /// The app's number in the place of a name that moved.
    fn by_number(&self, port: u16, moved: &Moved) -> Option<Change> {
        let name = self.what["port"].as_str()?;
        let gone = moved.containers.get(name).is_some_and(|container| *container == self.container.name);
        let field = format!("{}/port", self.action);
        gone.then(|| Change { record: self.record(&field, &self.what["port"]), with: port.into() })
    }

    fn record(&self, field: &str, was: &Value) -> ReplacedProbe {
        ReplacedProbe {
            container: self.container.name.to_owned(),
            field: format!("{}/{field}", self.kind.field()),
            was: was.clone(),
        }
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = self.kind.field().trim_start_matches('/').replace('/', ".");
        write!(f, "{field} of container {}", self.container.name)
    }
}

/// As people write it. A name that resolves to loopback is as wrong and is not known here.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

impl Change {
    /// Writes it to a container.
    pub(crate) fn apply(&self, edit: &mut Edit, container: &str) {
        let field = &self.record.field;
        match field.rsplit_once('/') {
            Some((handler, "tcpSocket" | "grpc")) => {
                edit.remove(&format!("{container}{field}"));
                edit.insert(&format!("{container}{handler}"), "httpGet", self.with.clone());
            }
            _ => edit.replace(&format!("{container}{field}"), self.with.clone()),
        }
    }
}

/// What a record is about.
struct Replaced<'a> {
    kind: ProbeKind,
    action: &'a str,
    /// Whether only the action's port was replaced.
    port: bool,
}

fn parse(record: &ReplacedProbe) -> Option<Replaced<'_>> {
    let (kind, action) = ProbeKind::ALL.into_iter().find_map(|kind| {
        record.field.strip_prefix(kind.field())?.strip_prefix('/').map(|action| (kind, action))
    })?;
    let (action, port) = action.strip_suffix("/port").map_or((action, false), |action| (action, true));
    let was_one = if port { record.was.is_string() } else { record.was.is_object() };
    (was_one && may_ask(kind, action)).then_some(Replaced { kind, action, port })
}

/// Whether injection may have replaced what the record says.
pub(crate) fn is_sound(record: &ReplacedProbe) -> bool {
    parse(record).is_some()
}

/// Puts back what stood in a container whose ports have their names again, where what stands there now is what we wrote:
/// a probe that the user has edited since, or another webhook, is theirs.
pub(crate) fn restore(container: &mut Value, record: &ReplacedProbe) {
    let Some(Replaced { kind, action, port }) = parse(record) else { return };
    let mut ports = container["ports"].as_array().into_iter().flatten();
    let number = ports.find(|port| port["name"] == record.was).map(|port| port["containerPort"].clone());
    let Some(Value::Object(fields)) = container.pointer_mut(kind.field()) else { return };
    if port {
        let now = fields.get_mut(action).and_then(|what| what.get_mut("port"));
        if let Some(now) = now.filter(|now| number.as_ref() == Some(&**now)) {
            *now = record.was.clone();
        }
        return;
    }
    let path = format!("/probe/{}/{}", record.container, kind.segment());
    let ours = fields.get("httpGet").is_some_and(|now| now["path"] == path && now["port"] == ADMIN_PORT);
    let mut others = ALL_ACTIONS.iter().filter(|action| **action != "httpGet");
    if ours && others.all(|action| fields.get(*action).is_none_or(Value::is_null)) {
        if action != "httpGet" {
            fields.shift_remove("httpGet");
        }
        fields.insert(action.to_owned(), record.was.clone());
    }
}
/// Probes and handlers that ask the proxy, as `readinessProbe of container app`.
pub(crate) fn asking_the_proxy(pod: Pod) -> impl Iterator<Item = (String, String)> {
    pod.containers().flat_map(|container| {
        ProbeKind::ALL.into_iter().filter_map(move |kind| {
            let http = container.json.pointer(kind.field())?.get("httpGet")?;
            let path = http["path"].as_str().filter(|path| path.starts_with("/probe/"))?;
            let field = kind.field().trim_start_matches('/').replace('/', ".");
            (http["port"] == ADMIN_PORT)
                .then(|| (path.to_owned(), format!("{field} of container {}", container.name)))
        })
    })
}
