//! `custom.metrics.k8s.io/v1beta2` for pods, so that a `HorizontalPodAutoscaler` goes by requests without Prometheus and without a line
//! of the app's code.
//!
//! [`api`] answers from what the dashboard knows anyway. API servers alone may ask ([`front`]), in somebody's name, and that somebody's
//! rights are asked for ([`rights`]). [`identity`] is the certificate, which lives in memory: there is one replica, and a new one
//! tells API servers its new authority as it starts. Values for other resources than pods are not served; nobody could say whose they are.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

mod api;
mod front;
mod identity;
mod labels;
mod rights;
mod serve;

pub(crate) use identity::Service;
pub(crate) use serve::serve;

/// The group and version that is served.
pub(crate) const GROUP: &str = "custom.metrics.k8s.io";
pub(crate) const VERSION: &str = "v1beta2";
