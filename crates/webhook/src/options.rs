//! The flags of `outrigger webhook`.

use std::time::Duration;

use outrigger_runtime::duration::{self, DurationError};

/// Runs the admission webhook
///
/// The chart runs it in a pod; docs/webhook.md says what it answers and counts.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  outrigger webhook --namespace outrigger-system --sidecar-image outrigger/sidecar:0.1.0
  outrigger webhook --namespace outrigger-system --sidecar-image outrigger/sidecar:0.1.0 --log-format text")]
pub struct Options {
    /// Namespace of this release: its Secret, its Service, and the profiles that serve every namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of the Service through which API servers call. The certificate is for `<service>.<namespace>.svc`.
    #[arg(long, env = "OUTRIGGER_SERVICE", default_value = "outrigger-webhook")]
    pub service: String,
    /// Name of the Secret that keeps the certificate. Made where it is not there.
    #[arg(long, env = "OUTRIGGER_SECRET", default_value = "outrigger-webhook-certificate")]
    pub secret: String,
    /// Name of the `MutatingWebhookConfiguration` whose caBundle is kept right.
    #[arg(long, env = "OUTRIGGER_WEBHOOK_CONFIGURATION", default_value = "outrigger-webhook")]
    pub webhook_configuration: String,
    /// Image of the sidecars.
    #[arg(long, env = "OUTRIGGER_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// Their imagePullPolicy. Default: the cluster's own default for the image's tag.
    #[arg(long, env = "OUTRIGGER_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// TLS port for API servers. 10250 is open between nodes and control plane on private GKE clusters.
    #[arg(long, env = "OUTRIGGER_PORT", default_value_t = 10250)]
    pub port: u16,
    /// Plain HTTP port for probes and metrics.
    #[arg(long, env = "OUTRIGGER_ADMIN_PORT", default_value_t = outrigger_api::names::ADMIN_PORT)]
    pub admin_port: u16,
    /// Whose certificate is served: `self` makes and renews its own in the Secret; `secret` takes what somebody else, such as
    /// cert-manager, keeps there, and never writes it.
    #[arg(long, env = "OUTRIGGER_TLS_MODE", value_enum, default_value_t = TlsMode::SelfMade)]
    pub tls_mode: TlsMode,
    /// How long a new server certificate lives, as 90s, 45m, 12h or 30d; renewed after two thirds. 10s to 366d.
    #[arg(long, env = "OUTRIGGER_CERTIFICATE_LIFETIME", default_value = "30d", value_parser = lifetime)]
    pub certificate_lifetime: Duration,
    /// Name of the Lease in the release's namespace by which one replica is chosen to look after the pods that run. It must
    /// exist; its content is written here.
    #[arg(long, env = "OUTRIGGER_LEASE", default_value = "outrigger-webhook")]
    pub lease: String,
    /// Who this replica is in that Lease and in Events. Default: a name drawn at the start.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// How long from one look at all pods that should be injected to the next. 5s to 366d.
    #[arg(long, env = "OUTRIGGER_AUDIT_INTERVAL", default_value = "60s", value_parser = audit_interval)]
    pub audit_interval: Duration,
    /// Writes a changed profile to the pods that run with it, where it needs no new container. Takes the right to patch pods.
    #[arg(long, env = "OUTRIGGER_LIVE_RELOAD")]
    pub live_reload: bool,
    /// How long to go on accepting after SIGTERM, until every API server knows that we are going. 0s to 366d.
    #[arg(long, env = "OUTRIGGER_SHUTDOWN_DELAY", default_value = "5s", value_parser = duration::parse)]
    pub shutdown_delay: Duration,
    /// What is logged: error, warn, info, debug or trace, also by module: `info,outrigger_webhook=debug`.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    pub log_format: outrigger_runtime::log::Format,
}

/// Who makes the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsMode {
    /// We do.
    #[default]
    #[value(name = "self")]
    SelfMade,
    /// Somebody else, who keeps it in the Secret.
    Secret,
}

/// Why a duration is not allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BoundError {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("it is shorter than {0:?}")]
    TooShort(Duration),
}

fn lifetime(text: &str) -> Result<Duration, BoundError> {
    at_least(Duration::from_secs(10), text)
}

/// Below 5 s the lists would cost the API server more than they tell.
fn audit_interval(text: &str) -> Result<Duration, BoundError> {
    at_least(Duration::from_secs(5), text)
}

fn at_least(least: Duration, text: &str) -> Result<Duration, BoundError> {
    let duration = duration::parse(text)?;
    if duration < least { Err(BoundError::TooShort(least)) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_lower_bound() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(lifetime("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(lifetime("9s").unwrap_err().to_string(), "it is shorter than 10s");
        assert_eq!(lifetime("3w"), Err(BoundError::Duration(DurationError::Syntax)));
        assert_eq!(audit_interval("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(audit_interval("4s").unwrap_err().to_string(), "it is shorter than 5s");
    }
}
