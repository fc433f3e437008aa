//! What `inject` answers.

use std::collections::BTreeMap;

use json_patch::Patch;
use outrigger_api::Reason;
use serde::{Deserialize, Serialize};

use crate::explain::Choice;

/// The decision about one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The pod gets its sidecars.
    Injected {
        /// What to change, as RFC 6902.
        patch: Patch,
        /// The same, for people and for the status annotation.
        report: Box<Report>,
    },
    /// The pod stays as it is.
    Skipped {
        /// Why.
        reason: Reason,
        /// A sentence that tells the user what to do.
        message: String,
    },
    /// The pod must not start like this.
    Rejected {
        /// Why.
        reason: Reason,
        /// Every fault, one sentence each.
        errors: Vec<String>,
    },
}

/// The other two outcomes, as the error of the steps that lead to a patch.
pub(crate) enum Refusal {
    Skipped { reason: Reason, message: String },
    Rejected { reason: Reason, errors: Vec<String> },
}

impl Refusal {
    pub(crate) fn skipped(reason: Reason, message: impl Into<String>) -> Self {
        Self::Skipped { reason, message: message.into() }
    }

    pub(crate) fn rejected(reason: Reason, error: impl Into<String>) -> Self {
        Self::Rejected { reason, errors: vec![error.into()] }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Skipped { reason, message } => Self::Skipped { reason, message },
            Refusal::Rejected { reason, errors } => Self::Rejected { reason, errors },
        }
    }
}

/// What was added to and replaced in a pod. Without the warnings, it is the pod's status annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of Outrigger that injected.
    pub version: String,
    /// The profile used, as `namespace/name`.
    pub profile: String,
    /// The first half of the SHA-256 of the sidecar config without its token, in hex: two pods of one template have
    /// the same.
    pub config_hash: String,
    /// Containers added, in order.
    pub containers: Vec<String>,
    /// Volumes added, in order.
    pub volumes: Vec<String>,
    /// How the containers run, and why so.
    #[serde(default)]
    pub sidecars: Placement,
    /// How traffic reaches the proxy, and why so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interception: Option<Choice>,
    /// Ports whose name moved to the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<MovedPort>,
    /// Probes and handlers of such ports, with what stood in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ReplacedProbe>,
    /// Variables that lead the app to listeners of the proxy, with what stood in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<SetVariable>,
    /// Containers that got the shared volume, as `container:path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// Log files that the log adapter follows, as `container:path as format`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// Repositories that the content sync follows, as `container:path from url tags`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sync: Vec<String>,
    /// Where the proxy asks the app for its own metrics, as `container:port/path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_metrics: Option<String>,
    /// Annotations that were added so that Prometheus scrapes the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The container that the pod's annotation `kubectl.kubernetes.io/default-container` was made to name; none where the
    /// user had given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_container: Option<String>,
    /// Lists and maps that were not there before, as JSON pointers: taking the sidecars out takes these too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<String>,
    /// The same for those that were null before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nulls: Vec<String>,
    /// Labels of ours that the pod had before, which a copied manifest may: taking the sidecars out leaves them so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced_labels: BTreeMap<String, serde_json::Value>,
    /// The same for annotations, of which a status that can't be read is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced_annotations: BTreeMap<String, serde_json::Value>,
    /// Hashes of what was written into the containers and volumes that were added, by name and field. A later version
    /// compares them with what it would write.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rendered: BTreeMap<String, BTreeMap<String, String>>,
    /// What the user should know, though the pod was injected.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// How sidecars run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Whether they are native sidecars: init containers with `restartPolicy: Always`.
    pub native: bool,
    /// Why, as a part of a sentence: `the cluster has them`.
    pub why: String,
}

/// A port whose name moved from the app to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedPort {
    /// The app's container.
    pub container: String,
    /// Its place in that container's `ports`.
    pub index: usize,
    /// The name that moved.
    pub name: String,
    /// The app's port, which has no name now.
    pub port: u16,
    /// The proxy's port, which has the name now.
    pub listen: u16,
    /// What the proxy speaks on it.
    pub protocol: outrigger_api::config::Protocol,
}

/// A variable of the app that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetVariable {
    /// The app's container.
    pub container: String,
    /// The variable's name.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// The entry of the container's `env` that stood there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<serde_json::Value>,
    /// What stood in the place of the container's `env` where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<NoList>,
}

/// What may stand in the place of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoList {
    /// Nothing.
    Missing,
    /// A null.
    Null,
}

/// A probe or lifecycle handler that asks the proxy now, or gives a port by its number and no longer by the name that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedProbe {
    /// The app's container.
    pub container: String,
    /// The field in the container, as a JSON pointer: `/readinessProbe/tcpSocket`, or `/readinessProbe/httpGet/port`. What
    /// asks the proxy is an `httpGet`, whatever stood there.
    pub field: String,
    /// What stood there.
    pub was: serde_json::Value,
}
