//! `SidecarProfile`: what a pod gets, as users write it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Fault;
use crate::auth::AuthSpec;
use crate::faults;
use crate::logs::LogSpec;
use crate::metrics::MetricsSpec;
use crate::overrides::{HeadersSpec, MAX_OVERRIDES, OverrideSpec};
use crate::port::PortRef;
use crate::quantity::Quantity;
#[cfg(feature = "crd")]
use crate::schema::{one_for_each_path, rule};
pub use crate::shared_volume::{SharedMount, SharedVolumeSpec};
pub use crate::skip::SkipSpec;
#[cfg(feature = "crd")]
pub use crate::status::SidecarProfileStatus;
use crate::sync::{MAX_SYNCS, SyncSpec};
use crate::tap::TapSpec;
use crate::tls::TlsSpec;
use crate::traffic::{LimitsSpec, TimeoutsSpec};
pub use crate::upstream::UpstreamSpec;

/// The most entries that a list of a profile may have: without a bound the API server refuses rules about lists, whose
/// cost it could not foresee.
pub const MAX_ENTRIES: usize = 64;
/// The most upstreams of a profile: each has metrics of its own, and in `ports` mode a listener.
pub const MAX_UPSTREAMS: usize = 32;
/// The longest path in a profile, in bytes.
pub const MAX_PATH: usize = 1024;

/// What a pod gets when it is injected. Every field has a default, so `spec: {}` is a complete profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "crd",
    kube(
        group = "outrigger.dev",
        version = "v1alpha1",
        kind = "SidecarProfile",
        doc = "What a pod gets when it is injected; a pod or its namespace picks one by the annotation outrigger.dev/profile.",
        namespaced,
        shortname = "scp",
        category = "outrigger",
        status = "SidecarProfileStatus",
        printcolumn = r#"{"name":"Interception","type":"string","jsonPath":".spec.interception"}"#,
        printcolumn = r#"{"name":"Pods","type":"integer","description":"Pods that use it","jsonPath":".status.pods"}"#,
        printcolumn = r#"{"name":"Valid","type":"string","description":"Whether pods can use it","jsonPath":".status.conditions[?(@.type=='Valid')].status"}"#,
        printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
    )
)]
pub struct SidecarProfileSpec {
    /// Whether the sidecars are native ones: init containers with `restartPolicy: Always`. `auto`: where the cluster can.
    pub native_sidecars: NativeSidecars,
    /// How traffic reaches the proxy. `redirect`: the kernel sends all of it there, by rules that an init container with the
    /// capability `NET_ADMIN` writes. `ports`: the proxy takes over the named container ports, with no privilege. `auto`:
    /// `redirect` where the namespace lets a pod have that capability, else `ports`.
    pub interception: Interception,
    /// The proxy's own container.
    pub proxy: ProxySpec,
    /// The ports to take over; the first entry that matches a port decides. Default: every named port.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_ENTRIES),
            extend("x-kubernetes-validations" = [rule(
                "self.all(a, self.exists_one(b, string(a.port) == string(b.port)))",
                "a port appears twice: only the first entry would count",
            )])
        )
    )]
    pub inbound: Vec<InboundSpec>,
    /// Whom the app calls. Default: nobody by name; with `interception: redirect` calls are counted all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_UPSTREAMS),
            extend("x-kubernetes-validations" = [rule(
                "self.all(a, self.exists_one(b, a.name == b.name))",
                "two upstreams have the same name",
            ), rule(
                "self.all(a, self.exists_one(b, a.host == b.host && a.port == b.port))",
                "two upstreams are the same host and port",
            ), rule(
                "self.all(a, !has(a.env) || self.exists_one(b, has(b.env) && a.env == b.env))",
                "two upstreams set the same variable",
            )])
        )
    )]
    pub upstreams: Vec<UpstreamSpec>,
    /// Traffic that goes past the proxy. Default: none.
    #[serde(skip_serializing_if = "SkipSpec::is_empty")]
    pub skip: SkipSpec,
    /// Whether probes and lifecycle handlers of ports that are taken over go through the proxy's admin server, which asks
    /// the app. Default: true.
    pub rewrite_probes: bool,
    /// What Prometheus is told beyond the sidecars' own metrics. Default: nothing.
    #[serde(skip_serializing_if = "MetricsSpec::is_empty")]
    pub metrics: MetricsSpec,
    /// An emptyDir shared by the pod's containers, mounted where asked. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "SharedVolumeSpec"))]
    pub shared_volume: Option<SharedVolumeSpec>,
    /// Log files that become JSON lines on the standard output of the container `outrigger-logs`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_ENTRIES),
            extend("x-kubernetes-validations" = [one_for_each_path("a container has two entries for the same path")])
        )
    )]
    pub logs: Vec<LogSpec>,
    /// Files that come from git repositories, by the container `outrigger-sync`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_SYNCS),
            extend("x-kubernetes-validations" = [one_for_each_path("a container has two entries for the same path")])
        )
    )]
    pub sync: Vec<SyncSpec>,
}

/// Whether sidecars are native ones.
///
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum NativeSidecars {
    /// Where the cluster can, else plain containers.
    #[default]
    Auto,
    /// Always: on a cluster that can't, the pod is refused.
    Always,
    /// Never: plain containers.
    Never,
}

/// How traffic reaches the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum Interception {
    /// `redirect` where the namespace allows it, else `ports`.
    #[default]
    Auto,
    /// Let the kernel send the pod's traffic to the proxy.
    Redirect,
    /// Take over named container ports.
    Ports,
}

/// The proxy's own container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct ProxySpec {
    /// Its resource requests and limits.
    pub resources: Resources,
    /// How much it logs.
    pub log_level: LogLevel,
    /// Whether it writes a line for each request.
    pub access_log: AccessLog,
    /// Whether `outrigger tap` shows live requests. Default: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "TapSpec"))]
    pub tap: Option<TapSpec>,
}

/// Resource requests and limits of a sidecar. One value given leaves the defaults of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [at_most_the_limit("cpu"), at_most_the_limit("memory")]))
)]
pub struct Resources {
    /// What is reserved.
    pub requests: Requests,
    /// What is never exceeded.
    pub limits: Limits,
}

/// What is reserved. Both values are always set: an autoscaler that computes a utilisation needs the requests of every
/// container (istio#35905).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct Requests {
    /// CPU. Default: `10m`.
    pub cpu: Quantity,
    /// Memory. Default: `16Mi`.
    pub memory: Quantity,
}

/// What is never exceeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct Limits {
    /// CPU. Default: none, because throttling a proxy slows its app.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Quantity"))]
    pub cpu: Option<Quantity>,
    /// Memory. Default: `64Mi`.
    pub memory: Quantity,
}

/// How much a sidecar logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum LogLevel {
    /// Only what fails.
    Error,
    /// And what should not happen.
    Warn,
    /// And each change of state.
    #[default]
    Info,
    /// And each decision.
    Debug,
    /// Everything.
    Trace,
}

/// What the proxy writes to stdout for each request.
///
/// Not `off`, which YAML 1.1, and so kubectl, reads as `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum AccessLog {
    /// Nothing.
    #[default]
    None,
    /// One JSON object a line.
    Json,
}

impl AccessLog {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl LogLevel {
    /// Its name in log filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// One port, or all, to take over.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct InboundSpec {
    /// A port name, a number, or `"*"` (the default): every declared port, and with redirection those that no container declares too.
    pub port: PortRef,
    /// What it speaks.
    pub protocol: ProtocolSpec,
    /// TLS, which ends at the proxy. Default: what comes is passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "TlsSpec"))]
    pub tls: Option<TlsSpec>,
    /// Who may ask what. Default: everybody everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "AuthSpec"))]
    pub auth: Option<AuthSpec>,
    /// How long is waited.
    #[serde(skip_serializing_if = "TimeoutsSpec::is_empty")]
    pub timeouts: TimeoutsSpec,
    /// How much is let through to the app.
    #[serde(skip_serializing_if = "LimitsSpec::is_empty")]
    pub limits: LimitsSpec,
    /// Headers of requests that are set and taken out before the app sees them.
    #[serde(skip_serializing_if = "HeadersSpec::is_empty")]
    pub request_headers: HeadersSpec,
    /// Headers of the app's answers that are set and taken out before clients see them.
    #[serde(skip_serializing_if = "HeadersSpec::is_empty")]
    pub response_headers: HeadersSpec,
    /// Answers of the app that are changed, by their status; the first entry that matches decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_OVERRIDES)))]
    pub overrides: Vec<OverrideSpec>,
}

/// What a port speaks, as users write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum ProtocolSpec {
    /// From the port's name: `http` and `http-...` are HTTP, and with `tls` so are `https` and `https-...`; every other name is
    /// TCP.
    #[default]
    Auto,
    /// HTTP/1.
    Http,
    /// Bytes, passed on untouched.
    Tcp,
}

impl Default for SidecarProfileSpec {
    fn default() -> Self {
        Self {
            native_sidecars: NativeSidecars::default(),
            interception: Interception::default(),
            proxy: ProxySpec::default(),
            inbound: vec![InboundSpec::default()],
            upstreams: Vec::new(),
            skip: SkipSpec::default(),
            rewrite_probes: true,
            metrics: MetricsSpec::default(),
            shared_volume: None,
            logs: Vec::new(),
            sync: Vec::new(),
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self { cpu: default_quantity("10m"), memory: default_quantity("16Mi") }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu: None, memory: default_quantity("64Mi") }
    }
}

fn default_quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("the default quantities are valid")
}

/// As [`Resources::faults`], for the API server.
#[cfg(feature = "crd")]
fn at_most_the_limit(resource: &str) -> Value {
    let request = format!("self.requests.{resource}");
    let limit = format!("self.limits.{resource}");
    // What is no quantity is told by the quantity's own rule.
    let rule = format!(
        "!has({request}) || !has({limit}) || !isQuantity(string({request})) || !isQuantity(string({limit})) \
         || quantity(string({request})).compareTo(quantity(string({limit}))) <= 0"
    );
    serde_json::json!({
        "rule": rule,
        "message": format!("the request exceeds limits.{resource}"),
        "fieldPath": format!(".requests.{resource}"),
    })
}

impl SidecarProfileSpec {
    /// Reads the `spec` of a profile and finds every fault in it, in the order of the document.
    ///
    /// The API server has checked the schema of a stored profile; a profile from a file, or one stored before the
    /// schema changed, has been checked by nobody.
    pub fn parse(spec: &Value) -> Result<Self, Vec<Fault>> {
        let spec = if spec.is_null() { Value::Object(serde_json::Map::new()) } else { without_nulls(spec) };
        let (profile, mut faults) = faults::deserialize::<Self>(spec, "spec");
        // A field that could not be read has its default now, which is nobody's fault.
        let later: Vec<_> =
            profile.check().into_iter().filter(|later| faults.iter().all(|f| f.path != later.path)).collect();
        faults.extend(later);
        if faults.is_empty() { Ok(profile) } else { Err(faults) }
    }

    /// The faults that types can't express.
    fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (field, message) in self.proxy.resources.faults() {
            faults.push(Fault::new(format!("spec.proxy.resources.{field}"), message));
        }
        faults.extend(self.proxy.tap.and_then(|tap| tap.check("spec.proxy.tap")));
        faults.extend(too_many("spec.inbound", self.inbound.len()));
        let mut ports = BTreeSet::new();
        for (i, inbound) in self.inbound.iter().enumerate() {
            if !ports.insert(inbound.port.to_string()) {
                let message = format!("{} appears twice: only the first entry would count", inbound.port);
                faults.push(Fault::new(format!("spec.inbound[{i}].port"), message));
            }
            faults.extend(inbound.check(&format!("spec.inbound[{i}]")));
        }
        faults.extend(self.check_upstreams());
        faults.extend(self.skip.check("spec.skip"));
        faults.extend(self.metrics.check("spec.metrics"));
        let mounts = self.shared_volume.iter().flat_map(|volume| &volume.mounts);
        faults.extend(too_many("spec.sharedVolume.mounts", mounts.clone().count()));
        let mut places = BTreeSet::new();
        for (i, mount) in mounts.enumerate() {
            let at = format!("spec.sharedVolume.mounts[{i}]");
            faults.extend(mount.check(&at));
            if !places.insert((&mount.container, mount.path.trim_end_matches('/'))) {
                let message = format!("container {} has a mount on {} already", mount.container, mount.path);
                faults.push(Fault::new(format!("{at}.path"), message));
            }
        }
        faults.extend(too_many("spec.logs", self.logs.len()));
        for (i, logs) in self.logs.iter().enumerate() {
            let at = format!("spec.logs[{i}]");
            faults.extend(logs.check(&at));
            if !places.insert((&logs.container, logs.path.trim_end_matches('/'))) {
                let message = format!("container {} has a mount on {} already", logs.container, logs.path);
                faults.push(Fault::new(format!("{at}.path"), message));
            }
        }
        if self.sync.len() > MAX_SYNCS {
            let message = format!("{} entries: at most {MAX_SYNCS}", self.sync.len());
            faults.push(Fault::new("spec.sync", message));
        }
        for (i, sync) in self.sync.iter().enumerate() {
            let at = format!("spec.sync[{i}]");
            faults.extend(sync.check(&at));
            if !places.insert((&sync.container, sync.path.trim_end_matches('/'))) {
                let message = format!("container {} has a mount on {} already", sync.container, sync.path);
                faults.push(Fault::new(format!("{at}.path"), message));
            }
        }
        faults
    }

    fn check_upstreams(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.upstreams.len() > MAX_UPSTREAMS {
            let message = format!("{} entries: at most {MAX_UPSTREAMS}", self.upstreams.len());
            faults.push(Fault::new("spec.upstreams", message));
        }
        let (mut names, mut places, mut variables) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (i, upstream) in self.upstreams.iter().enumerate() {
            let at = format!("spec.upstreams[{i}]");
            faults.extend(upstream.check(&at));
            let UpstreamSpec { name, host, port, env, .. } = upstream;
            if !names.insert(name) {
                faults.push(Fault::new(
                    format!("{at}.name"),
                    format!("{name} is the name of another upstream"),
                ));
            }
            if !places.insert((host, port)) {
                faults
                    .push(Fault::new(format!("{at}.host"), format!("{host}:{port} is another upstream too")));
            }
            if let Some(env) = env.as_ref().filter(|env| !variables.insert(*env)) {
                faults.push(Fault::new(format!("{at}.env"), format!("{env} is set by another upstream too")));
            }
        }
        faults
    }
}

/// As the API server drops them before it fills in the defaults.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

pub(crate) fn too_many(field: &str, entries: usize) -> Option<Fault> {
    let message = || format!("{entries} entries: at most {MAX_ENTRIES}");
    (entries > MAX_ENTRIES).then(|| Fault::new(field, message()))
}

impl InboundSpec {
    fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults: Vec<_> = self.tls.iter().flat_map(|tls| tls.check(&format!("{at}.tls"))).collect();
        faults.extend(self.auth.iter().flat_map(|auth| auth.check(&format!("{at}.auth"))));
        faults.extend(self.limits.check(&format!("{at}.limits")));
        faults.extend(self.request_headers.check(&format!("{at}.requestHeaders")));
        faults.extend(self.response_headers.check(&format!("{at}.responseHeaders")));
        if self.overrides.len() > MAX_OVERRIDES {
            let message = format!("{} entries: at most {MAX_OVERRIDES}", self.overrides.len());
            faults.push(Fault::new(format!("{at}.overrides"), message));
        }
        for (i, entry) in self.overrides.iter().enumerate() {
            faults.extend(entry.check(&format!("{at}.overrides[{i}]")));
        }
        faults
    }
}

impl Resources {
    /// Where a request exceeds its limit, as (field, message): the API server would refuse the whole pod.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("requests.cpu", &self.requests.cpu, self.limits.cpu.as_ref()),
            ("requests.memory", &self.requests.memory, Some(&self.limits.memory)),
        ];
        let mut faults = Vec::new();
        for (field, request, limit) in pairs {
            if let Some(limit) = limit.filter(|limit| request.exceeds(limit)) {
                faults.push((field, format!("{request} exceeds the limit of {limit}")));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_spec_is_the_default_profile() {
        assert_eq!(SidecarProfileSpec::parse(&json!({})).unwrap(), SidecarProfileSpec::default());
        assert_eq!(SidecarProfileSpec::parse(&Value::Null).unwrap(), SidecarProfileSpec::default());
    }

    #[test]
    fn one_value_given_leaves_the_other_defaults() {
        let spec =
            json!({"proxy": {"resources": {"limits": {"memory": "128Mi"}, "requests": {"memory": "32Mi"}}}});
        let resources = SidecarProfileSpec::parse(&spec).unwrap().proxy.resources;
        let Resources { requests, limits } = resources;
        assert_eq!((requests.cpu.as_str(), requests.memory.as_str()), ("10m", "32Mi"));
        assert_eq!((limits.cpu, limits.memory.as_str()), (None, "128Mi"));
    }

    #[test]
    fn every_fault_is_listed_with_its_path() {
        let spec = json!({
            "interception": "magic",
            "proxi": {},
            "proxy": {"logLevel": "loud", "resources": {"requests": {"memory": "1Gi", "cpu": "1 core"}}},
            "inbound": [{"port": "http"}, {"port": 0}, {"protocol": "tcp"}, {"port": "http"}],
            "sharedVolume": {"mounts": [
                {"container": "app", "path": "data", "subPath": "../up"},
                {"container": "app", "path": "/a"},
                {"container": "app", "path": "/a/"},
                {"container": "app", "path": "/var/run/secrets/kubernetes.io/serviceaccount/x"},
            ]},
        });
        let faults = SidecarProfileSpec::parse(&spec).unwrap_err();
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// Types that sidecars read too ignore what they do not know.
    #[test]
    fn unknown_fields_are_faults_at_any_depth() {
        let spec = json!({
            "inbound": [{"limits": {"maxRequest": 5}}, {"port": "a", "auth": {"jwt": {"secretname": "a"}}}],
            "upstreams": [{"name": "a", "host": "a", "port": 1, "circuitBreaker": {"fallback": {"stauts": 503}}}],
        });
        let faults = SidecarProfileSpec::parse(&spec).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let wanted = [
            "spec.inbound[1].auth.jwt.secretname",
            "spec.inbound[0].limits.maxRequest",
            "spec.upstreams[0].circuitBreaker.fallback.stauts",
            "spec.inbound[1].auth.jwt.secretName",
        ];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn a_spec_of_another_type_is_one_fault() {
        let faults = SidecarProfileSpec::parse(&json!("monitored")).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].path, "spec");
    }
}
