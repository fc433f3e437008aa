//! The flags of `outrigger webhook`.

use std::time::Duration;

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
    #[arg(long, env = "OUTRIGGER_SHUTDOWN_DELAY", default_value = "5s", value_parser = duration)]
    pub shutdown_delay: Duration,
    /// What is logged: error, warn, info, debug or trace, also by module: `info,outrigger_webhook=debug`.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    pub log_format: outrigger_runtime::log::Format,
}

const DAY: u64 = 24 * 3600;
const LONGEST: u64 = 366 * DAY;

/// Why a duration is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum DurationError {
    #[error("it takes a whole number and a unit: 90s, 45m, 12h or 30d")]
    Syntax,
    #[error("it is longer than 366d")]
    TooLong,
    #[error("it is shorter than 10s")]
    TooShort,
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        _ => return Err(DurationError::Syntax),
    };
    let count: u64 = digits.parse().map_err(|_| DurationError::Syntax)?;
    let seconds = count.checked_mul(unit).filter(|seconds| *seconds <= LONGEST);
    seconds.map(Duration::from_secs).ok_or(DurationError::TooLong)
}

fn lifetime(text: &str) -> Result<Duration, DurationError> {
    duration(text).and_then(|d| if d.as_secs() < 10 { Err(DurationError::TooShort) } else { Ok(d) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_bounds() {
        let cases = [
            ("90s", Ok(90)),
            ("90", Ok(90)),
            ("45m", Ok(2700)),
            ("12h", Ok(43200)),
            ("30d", Ok(30 * DAY)),
            ("366d", Ok(LONGEST)),
            ("367d", Err(DurationError::TooLong)),
            ("18446744073709551615d", Err(DurationError::TooLong)),
            ("", Err(DurationError::Syntax)),
            ("d", Err(DurationError::Syntax)),
            ("-1s", Err(DurationError::Syntax)),
            ("1.5h", Err(DurationError::Syntax)),
            ("3w", Err(DurationError::Syntax)),
        ];
        for (text, wanted) in cases {
            assert_eq!(duration(text), wanted.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(lifetime("9s"), Err(DurationError::TooShort));
    }
}
