//! Why a pod was not injected, as a stable code.

use std::fmt;

use serde::Serialize;

/// One reason for skipping or refusing a pod.
///
/// The code stands unchanged in the admission response, the metric label, the log line and the CLI's report.
/// `CamelCase`, as the reasons of Kubernetes Events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Neither the pod nor its namespace asks for injection.
    NotOptedIn,
    /// The pod (or, where the pod is silent, its namespace) says `disabled`.
    OptedOut,
    /// The webhook configuration leaves the namespace out, whatever its labels. Only tools say so: the API server does not ask
    /// about such a pod.
    ExcludedNamespace,
    /// The pod carries our sidecars already.
    AlreadyInjected,
    /// The pod uses the node's network, where our ports would be the node's ports.
    HostNetwork,
    /// The mirror of a static pod: the kubelet runs the file on its disk, whatever the API server stores.
    MirrorPod,
    /// The pod asks for a Windows node; our images are for Linux.
    WindowsPod,
    /// No port that the profile selects can be taken over, and nothing else is asked for.
    NothingToIntercept,
    /// No profile of that name in the pod's namespace or the release namespace.
    ProfileNotFound,
    /// The profile has faults; each is listed.
    InvalidProfile,
    /// The label that asks for injection has a value that is not allowed. A pod's own refuses the pod; a namespace's skips
    /// it, because a slip of the hand there must not keep every pod of the namespace from starting.
    InvalidLabel,
    /// An annotation of the pod or namespace has a value that is not allowed; each is listed.
    InvalidAnnotation,
    /// A container or volume of the pod has a name that ours needs.
    NameCollision,
    /// A port of the pod is one that ours needs.
    PortCollision,
    /// A container of the pod runs as the proxy's own user, whose traffic `redirect` leaves alone.
    UidCollision,
    /// A volume mount of the pod stands where the profile wants the shared volume.
    MountCollision,
    /// A container that the profile names is not in the pod.
    ContainerNotFound,
    /// Native sidecars are asked for, and the cluster can't run them or its Services can't follow a port into them.
    NativeSidecarsUnavailable,
    /// The object is not a pod that injection understands.
    MalformedPod,
}

impl Reason {
    /// Every reason, for documentation and for metrics that must exist before the first decision.
    pub const ALL: [Self; 19] = [
        Self::NotOptedIn,
        Self::OptedOut,
        Self::ExcludedNamespace,
        Self::AlreadyInjected,
        Self::HostNetwork,
        Self::MirrorPod,
        Self::WindowsPod,
        Self::NothingToIntercept,
        Self::ProfileNotFound,
        Self::InvalidProfile,
        Self::InvalidLabel,
        Self::InvalidAnnotation,
        Self::NameCollision,
        Self::PortCollision,
        Self::UidCollision,
        Self::MountCollision,
        Self::ContainerNotFound,
        Self::NativeSidecarsUnavailable,
        Self::MalformedPod,
    ];

    /// The code, as it appears everywhere.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotOptedIn => "NotOptedIn",
            Self::OptedOut => "OptedOut",
            Self::ExcludedNamespace => "ExcludedNamespace",
            Self::AlreadyInjected => "AlreadyInjected",
            Self::HostNetwork => "HostNetwork",
            Self::MirrorPod => "MirrorPod",
            Self::WindowsPod => "WindowsPod",
            Self::NothingToIntercept => "NothingToIntercept",
            Self::ProfileNotFound => "ProfileNotFound",
            Self::InvalidProfile => "InvalidProfile",
            Self::InvalidLabel => "InvalidLabel",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::NameCollision => "NameCollision",
            Self::PortCollision => "PortCollision",
            Self::UidCollision => "UidCollision",
            Self::MountCollision => "MountCollision",
            Self::ContainerNotFound => "ContainerNotFound",
            Self::NativeSidecarsUnavailable => "NativeSidecarsUnavailable",
            Self::MalformedPod => "MalformedPod",
        }
    }

    /// What a user changes to get another decision, as one sentence for every pod of that reason.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotOptedIn => "label the pod or its namespace with outrigger.dev/inject=enabled",
            Self::OptedOut => "take the label outrigger.dev/inject=disabled off, or set it to enabled",
            Self::ExcludedNamespace => {
                "move the pod to another namespace, or take this one out of the chart's excludedNamespaces"
            }
            Self::AlreadyInjected => "nothing to do: the sidecars are there",
            Self::HostNetwork => "set hostNetwork to false",
            Self::MirrorPod => "run `outrigger inject` on the static pod's file on its node",
            Self::WindowsPod => "nothing to do: the sidecars run on Linux only",
            Self::NothingToIntercept => {
                "give a TCP port of a container a name that the profile selects, or let the profile bring a shared volume"
            }
            Self::ProfileNotFound => {
                "create the profile in the pod's namespace, or name one that exists in the annotation outrigger.dev/profile"
            }
            Self::InvalidProfile => "mend the profile; kubectl get sidecarprofiles -A lists them",
            Self::InvalidLabel => "set the label outrigger.dev/inject to enabled or disabled",
            Self::InvalidAnnotation => "mend the annotations, or take them off for the profile's own values",
            Self::NameCollision => "rename the pod's container or volume",
            Self::PortCollision => "let the pod use another port",
            Self::UidCollision => {
                "let the container run as another user, or the profile say interception: ports"
            }
            Self::MountCollision => "let the profile's sharedVolume, or the container, use another path",
            Self::ContainerNotFound => {
                "let the profile's sharedVolume name containers that the pod has, or let the pod use another profile"
            }
            Self::NativeSidecarsUnavailable => {
                "let the profile, or the annotation outrigger.dev/native-sidecars, say auto or never"
            }
            Self::MalformedPod => {
                "mend the manifest; kubectl apply --dry-run=server says what is wrong with it"
            }
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_in_the_documentation() {
        let page = include_str!("../../../docs/injection.md");
        for reason in Reason::ALL {
            assert!(page.contains(&format!("| `{reason}` |")), "docs/injection.md has no row for {reason}");
        }
    }
}
