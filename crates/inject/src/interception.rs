//! How a pod's traffic reaches its proxy.

use outrigger_api::Reason;
use outrigger_api::config;
use outrigger_api::names::OPENSHIFT_UID_RANGE;
use outrigger_api::profile::Interception;

use crate::explain::Choice;
use crate::outcome::Refusal;
use crate::overrides::Effective;
use crate::pod::Pod;
use crate::ports::{self, MESHES, Takeover};
use crate::redirected::{self, Redirected};
use crate::upstreams::{self, Upstreams};
use crate::{Cluster, Context, Namespace, Version, user};

/// The level of the Pod Security Standards that a namespace enforces, and as of which version.
/// <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
/// The level that allows all. `baseline` forbids `NET_ADMIN` in each of its versions, and so does what is no level: the API server
/// then enforces `restricted`.
const ALLOWS_ALL: &str = "privileged";

/// The label of pods and namespaces whose traffic Istio takes by itself where it is `ambient`.
/// <https://istio.io/latest/docs/ambient/usage/add-workloads/>
const AMBIENT: &str = "istio.io/dataplane-mode";

/// The first kernel whose tables for IPv4 and IPv6 together may change destinations.
const HAS_TABLES: Version = Version { major: 5, minor: 2 };

/// What of a pod's traffic comes to its proxy, and how.
pub(crate) struct Intercepted {
    pub(crate) chosen: Chosen,
    pub(crate) takeover: Takeover,
    /// What the rules are about, where there are any.
    pub(crate) redirected: Option<Redirected>,
    pub(crate) upstreams: Upstreams,
}

/// What was chosen, and why.
pub(crate) struct Chosen {
    pub(crate) mode: config::Interception,
    pub(crate) why: String,
    /// What the user should know about it.
    pub(crate) warning: Option<String>,
}

pub(crate) fn plan(pod: Pod, effective: &Effective, context: &Context) -> Result<Intercepted, Refusal> {
    let Context { namespace, settings, .. } = context;
    let chosen = choose(effective.profile.interception, pod, namespace, settings.cluster);
    ports::refuse_ours(pod, effective, chosen.mode)?;
    let mut free = ports::free(pod);
    let (mut takeover, redirected) = match chosen.mode {
        config::Interception::Ports => (ports::plan(pod, effective, &mut free)?, None),
        config::Interception::Redirect => {
            refuse_same_user(pod, user::choose(namespace).0)?;
            let (takeover, redirected) = redirected::plan(pod, effective);
            (takeover, Some(redirected))
        }
    };
    takeover.warnings.extend(ports::without_effect(pod, effective, chosen.mode));
    let upstreams = upstreams::plan(&effective.profile.upstreams, chosen.mode, &mut free);
    Ok(Intercepted { chosen, takeover, redirected, upstreams })
}

impl Intercepted {
    /// Whether nothing comes to the proxy.
    pub(crate) fn is_empty(&self) -> bool {
        self.redirected.is_none() && self.takeover.is_empty() && !self.upstreams.have_listeners()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let of_choice = self.chosen.warning.iter().cloned().collect();
        [of_choice, self.takeover.warnings.clone(), self.upstreams.warnings.clone()].concat()
    }
}

impl Chosen {
    pub(crate) fn choice(&self) -> Choice {
        Choice { value: self.mode.as_str().to_owned(), why: self.why.clone() }
    }
}

/// Chooses. Not more than what the profile asks for: where the rules can't be, `redirect` leaves a pod that does not start, which
/// says so, and not one whose traffic goes past the proxy.
pub(crate) fn choose(wanted: Interception, pod: Pod, namespace: &Namespace, cluster: Cluster) -> Chosen {
    let asked = || "asked for by the profile or an annotation".to_owned();
    let chosen = |mode, why| Chosen { mode, why, warning: None };
    match (wanted, obstacle(pod, namespace, cluster)) {
        (Interception::Ports, _) => chosen(config::Interception::Ports, asked()),
        (Interception::Redirect, None) => chosen(config::Interception::Redirect, asked()),
        (Interception::Redirect, Some(obstacle)) => Chosen {
            warning: Some(format!("interception is redirect, and {obstacle}: auto would choose ports here")),
            ..chosen(config::Interception::Redirect, asked())
        },
        (Interception::Auto, None) => {
            let why = format!(
                "auto: nothing known of namespace {} forbids the capability NET_ADMIN",
                namespace.name
            );
            chosen(config::Interception::Redirect, why)
        }
        (Interception::Auto, Some(obstacle)) => {
            chosen(config::Interception::Ports, format!("auto: {obstacle}"))
        }
    }
}

/// What keeps the init container from writing rules, or the rules from working.
fn obstacle(pod: Pod, namespace: &Namespace, cluster: Cluster) -> Option<String> {
    if let Some(level) = namespace.labels.get(ENFORCE).filter(|level| *level != ALLOWS_ALL) {
        let version = namespace.labels.get(ENFORCE_VERSION).map_or("latest", String::as_str);
        return Some(format!(
            "namespace {} enforces Pod Security {level} ({version}), which allows no NET_ADMIN",
            namespace.name
        ));
    }
    if namespace.annotations.contains_key(OPENSHIFT_UID_RANGE) {
        return Some("OpenShift allows NET_ADMIN to nobody by default".to_owned());
    }
    if let Some(kernel) = cluster.oldest_kernel.filter(|kernel| *kernel < HAS_TABLES) {
        return Some(format!("a node runs Linux {kernel} and the rules need {HAS_TABLES}"));
    }
    if let Some(whose) = ambient(pod, namespace) {
        return Some(format!("{whose} is in Istio's ambient mesh ({AMBIENT}), whose rules ours would meet"));
    }
    let other = pod.containers().find(|container| MESHES.contains(&container.name))?;
    Some(format!("container {} is the proxy of another mesh, whose rules ours would meet", other.name))
}

/// What has the pod in Istio's ambient mesh, which redirects in the pod's network namespace without a container there. The pod's own label
/// comes first, as with Istio.
fn ambient(pod: Pod, namespace: &Namespace) -> Option<String> {
    let labels = pod.at("/metadata/labels");
    let of_pod = labels.and_then(|labels| labels.get(AMBIENT)).and_then(serde_json::Value::as_str);
    match (of_pod, namespace.labels.get(AMBIENT)) {
        (Some("ambient"), _) => Some("the pod".to_owned()),
        (None, Some(mode)) if mode == "ambient" => Some(format!("namespace {}", namespace.name)),
        _ => None,
    }
}

/// Refuses a pod of which a container runs as the proxy's user: its calls would pass for the proxy's own, and go past it.
fn refuse_same_user(pod: Pod, proxy: i64) -> Result<(), Refusal> {
    let of_pod = pod.at("/spec/securityContext/runAsUser").and_then(serde_json::Value::as_i64);
    let user = |container: &serde_json::Value| {
        container.pointer("/securityContext/runAsUser").and_then(serde_json::Value::as_i64).or(of_pod)
    };
    let same: Vec<_> = pod.containers().filter(|container| user(container.json) == Some(proxy)).collect();
    if same.is_empty() {
        return Ok(());
    }
    let error = |container: &crate::pod::Container| {
        format!(
            "container {} runs as user {proxy}, which is the proxy's: its calls would go past the proxy",
            container.name
        )
    };
    Err(Refusal::Rejected { reason: Reason::UidCollision, errors: same.iter().map(error).collect() })
}
