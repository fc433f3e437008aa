//! A volume that the pod's containers share, as users write it.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::names::is_label;
#[cfg(feature = "crd")]
use crate::profile::MAX_ENTRIES;
use crate::profile::MAX_PATH;
use crate::quantity::Quantity;
#[cfg(feature = "crd")]
use crate::schema::{container_rule, one_for_each_path, rule, without_default};

/// An emptyDir shared by the pod's containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct SharedVolumeSpec {
    /// The most that it may hold; the kubelet evicts a pod that writes more. Default: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Quantity"))]
    pub size_limit: Option<Quantity>,
    /// Where it is mounted.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_ENTRIES),
            extend("x-kubernetes-validations" = [one_for_each_path("a container has two mounts on the same path")])
        )
    )]
    pub mounts: Vec<SharedMount>,
}

/// One place where the shared volume is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["container", "path"]))
)]
pub struct SharedMount {
    /// Name of the container.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 63),
            transform = without_default,
            extend("x-kubernetes-validations" = [container_rule()])
        )
    )]
    pub container: String,
    /// Absolute path in that container.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule(
                "self.startsWith('/') && self != '/' && !self.contains(':')",
                "it takes an absolute path without ':', not \"/\"",
            ), rule(
                "!self.matches('^/+var/+run/+secrets/+kubernetes[.]io/+serviceaccount(/|$)')",
                "the app's service account token is mounted there",
            )])
        )
    )]
    pub path: String,
    /// Path in the volume that is mounted instead of the whole of it. Relative, without `..`. The kubelet makes it where it
    /// is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            extend("x-kubernetes-validations" = [rule(
                "self != '' && !self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",
                "it takes a relative path without \"..\"",
            )])
        )
    )]
    pub sub_path: Option<String>,
    /// Whether that container may only read.
    pub read_only: bool,
}

impl SharedMount {
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !is_label(&self.container) {
            let message = format!("{:?} is no container name: at most 63 of a-z, 0-9 and -", self.container);
            faults.push(Fault::new(format!("{at}.container"), message));
        }
        if !self.path.starts_with('/')
            || self.path.contains(':')
            || self.path == "/"
            || self.path.len() > MAX_PATH
        {
            let message = format!(
                "{:?} can't be mounted on: it takes an absolute path without ':', not \"/\", of at most {MAX_PATH} bytes",
                self.path
            );
            faults.push(Fault::new(format!("{at}.path"), message));
        }
        // The API server mounts the app's token only where nothing else is mounted.
        let parts: Vec<_> = self.path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.starts_with(&["var", "run", "secrets", "kubernetes.io", "serviceaccount"]) {
            let message = format!("{:?} is where the app's service account token is mounted", self.path);
            faults.push(Fault::new(format!("{at}.path"), message));
        }
        let is_relative = |path: &str| {
            !path.is_empty()
                && path.len() <= MAX_PATH
                && !path.starts_with('/')
                && path.split('/').all(|part| part != "..")
        };
        if let Some(path) = self.sub_path.as_deref().filter(|path| !is_relative(path)) {
            let message =
                format!("{path:?} is no path in the volume: it takes a relative one without \"..\"");
            faults.push(Fault::new(format!("{at}.subPath"), message));
        }
        faults
    }
}
