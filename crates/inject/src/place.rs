//! Where a word about injection stands: on the pod, or on its namespace.

use serde::Serialize;

use crate::Namespace;
use crate::pod::Pod;

/// On the pod or on its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the pod (in a workload: on the template of its pods).
    Pod,
    /// On the namespace; it counts where the pod is silent.
    Namespace,
}

/// The annotation of the pod, or else of its namespace.
pub(crate) fn annotation<'a>(pod: Pod<'a>, namespace: &'a Namespace, key: &str) -> Option<(&'a str, Place)> {
    let on_pod = pod.annotation(key).map(|value| (value, Place::Pod));
    on_pod.or_else(|| namespace.annotations.get(key).map(|value| (value.as_str(), Place::Namespace)))
}
