//! Pod in, patch out.
//!
//! [`inject`] is a pure function: no clock, no network, no Kubernetes client. The webhook, `outrigger inject` and the
//! golden tests call the same one. It reads the pod as raw JSON and answers with a patch that only adds, or replaces
//! exactly what a stated feature owns, so a field that this version has never heard of survives
//! (piraeus-operator#1025: re-marshalled typed pods lose users' fields).

mod cluster;
mod edit;
mod eligibility;
mod explain;
mod init_container;
mod interception;
mod log_annotation;
mod logs;
mod logs_container;
pub mod manifest;
mod native;
mod outcome;
mod overrides;
mod owned;
mod place;
mod plan;
mod pod;
mod ports;
mod probes;
mod profiles;
mod proxy_container;
mod redirected;
mod remains;
mod rendered;
mod renewal;
mod resources;
mod scraping;
mod secrets;
mod selector;
mod sentences;
mod shared_volume;
mod standing;
mod status;
mod sync;
mod sync_annotation;
mod sync_container;
mod uninject;
mod upstreams;
mod user;

pub use cluster::{Cluster, Version, VersionError};
pub use explain::{Choice, Decision, Explanation, OptIn, Override, ProfileChoice, explain};
pub use outcome::{MovedPort, NoList, Outcome, Placement, ReplacedProbe, Report, SetVariable};
pub use place::Place;
pub use plan::{inject, profile_name};
pub use profiles::Profiles;
pub use selector::{is_asked, may_be_asked, selects};
pub use standing::{Standing, is_live, standing};
pub use uninject::{UninjectError, uninject};

use std::collections::BTreeMap;

/// What `inject` needs to know beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The pod's namespace. From the admission request, because a pod made by a controller has none in its metadata.
    pub namespace: &'a Namespace,
    /// Every profile that a pod could name.
    pub profiles: &'a Profiles,
    /// How this installation injects.
    pub settings: &'a Settings,
    /// Bearer token for the pod's `/stats`, drawn by the caller: the function itself has no source of randomness.
    pub token: &'a str,
}

/// A namespace, as far as injection looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How this installation injects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the sidecars.
    pub sidecar_image: String,
    /// `imagePullPolicy` of the sidecars. Default: the cluster's own default for the image's tag.
    pub image_pull_policy: Option<String>,
    /// Version of Outrigger, for the status annotation.
    pub version: String,
    /// What the cluster can do. Default: all that this version of Outrigger makes use of.
    pub cluster: Cluster,
}
