//! The flags of `outrigger collector`.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Watches all sidecars and serves the dashboard
///
/// The chart runs it in a pod; `outrigger dashboard` opens it. It finds pods by their label outrigger.dev/injected, asks each for its
/// /stats once a second, and keeps the last 15 minutes in memory.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  outrigger collector                                   in a cluster, or beside kubectl's kubeconfig
  outrigger collector --pods pods.json                  the pods of a file: kubectl get pods -o json")]
pub struct Options {
    /// Where the page and its API are served. Anything but loopback lets everybody in who gets there: there is no login.
    #[arg(long, env = "OUTRIGGER_LISTEN", default_value = "127.0.0.1:15195")]
    pub listen: SocketAddr,
    /// Where probes and metrics are served, in plain HTTP. Default: not at all.
    #[arg(long, env = "OUTRIGGER_ADMIN_PORT")]
    pub admin_port: Option<u16>,
    /// Where custom.metrics.k8s.io is served to API servers, over TLS. Default: not at all.
    #[arg(
        long,
        env = "OUTRIGGER_CUSTOM_METRICS_PORT",
        requires = "custom_metrics_service",
        conflicts_with = "pods"
    )]
    pub custom_metrics_port: Option<u16>,
    /// The Service, as NAMESPACE/NAME, by which API servers find custom metrics.
    #[arg(long, env = "OUTRIGGER_CUSTOM_METRICS_SERVICE", value_name = "NAMESPACE/NAME")]
    pub custom_metrics_service: Option<String>,
    /// A List of pods as JSON in place of a cluster; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub pods: Option<PathBuf>,
    /// What is logged: error, warn, info, debug or trace, also by module.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    pub log_format: outrigger_runtime::log::Format,
}
