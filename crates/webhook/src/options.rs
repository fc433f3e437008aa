//! The flags of `outrigger webhook`.

use std::time::Duration;

use outrigger_runtime::duration::{self, DurationError};

/// Runs the admission webhook.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Namespace of this release: its Secret, its Service, and the profiles that serve every namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of the Service through which API servers call. The certificate is for `<service>.<namespace>.svc`.
    #[arg(long, env = "OUTRIGGER_SERVICE", default_value = "outrigger-webhook")]
    pub service: String,
    /// Name of the Secret that keeps the certificate. It must exist; its content is made here.
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
    /// How long a new server certificate lives, as 90s, 45m, 12h or 30d; renewed after two thirds. 10s to 366d.
    #[arg(long, env = "OUTRIGGER_CERTIFICATE_LIFETIME", default_value = "30d", value_parser = lifetime)]
    pub certificate_lifetime: Duration,
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

/// Why a lifetime is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum LifetimeError {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("it is shorter than 10s")]
    TooShort,
}

fn lifetime(text: &str) -> Result<Duration, LifetimeError> {
    let lifetime = duration::parse(text)?;
    if lifetime < Duration::from_secs(10) { Err(LifetimeError::TooShort) } else { Ok(lifetime) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_has_a_lower_bound() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(lifetime("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(lifetime("9s"), Err(LifetimeError::TooShort));
        assert_eq!(lifetime("3w"), Err(LifetimeError::Duration(DurationError::Syntax)));
    }
}
