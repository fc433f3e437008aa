//! Probes and lifecycle handlers that the proxy answers for the app, by asking the app.

use serde::{Deserialize, Serialize};

/// One probe or lifecycle handler of an app container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The app's container.
    pub container: String,
    /// Which of its probes and handlers.
    pub kind: ProbeKind,
    /// How long the app may take, in seconds. Default: as long as the caller waits, as the kubelet does with lifecycle handlers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// What the app is asked.
    pub action: ProbeAction,
}

/// Which probe or handler of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

/// What the app is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeAction {
    /// A GET. The headers of the probe are not here: they come with the kubelet's request and go on to the app, so that
    /// nobody else who asks gets the app's answer to a header that is a secret.
    Http(HttpProbe),
    /// Whether the port accepts a connection.
    Tcp {
        /// The app's port.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`, in clear text.
    Grpc {
        /// The app's port.
        port: u16,
        /// The service asked about; empty for the server as a whole.
        #[serde(default)]
        service: String,
    },
}

/// A GET to the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// The app's port.
    pub port: u16,
    /// Path and query, as `/healthz?full=1`.
    pub path: String,
    /// In clear text or by TLS, whose certificate is not verified.
    #[serde(default)]
    pub scheme: Scheme,
    /// The `Host` header that the probe sets. Default: the pod's address and the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The scheme of a probe's URL, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// In clear text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Probe {
    /// Where the proxy's admin server answers it: `/probe/app/readiness`.
    pub fn path(&self) -> String {
        format!("/probe/{}/{}", self.container, self.kind.segment())
    }
}

impl ProbeKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Liveness, Self::Readiness, Self::Startup, Self::PostStart, Self::PreStop];

    /// Its name in the admin server's paths.
    pub const fn segment(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
            Self::PostStart => "poststart",
            Self::PreStop => "prestop",
        }
    }

    /// Its field in a container, as a JSON pointer.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Liveness => "/livenessProbe",
            Self::Readiness => "/readinessProbe",
            Self::Startup => "/startupProbe",
            Self::PostStart => "/lifecycle/postStart",
            Self::PreStop => "/lifecycle/preStop",
        }
    }

    /// Whether it is a lifecycle handler, for which the kubelet takes any answer at all for a success.
    pub const fn is_handler(self) -> bool {
        matches!(self, Self::PostStart | Self::PreStop)
    }
}
