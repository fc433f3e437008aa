//! Whether a sidecar runs by the config that was written for it.

use std::time::{Duration, Instant};

use outrigger_api::config;
use outrigger_api::names::{ADMIN_PORT, CONFIG_ANNOTATION};
use serde_json::Value;

use crate::cluster::{AskError, Cluster};
use crate::output::str_at;

/// Between two looks. The kubelet writes the volume within a second or so, and the sidecar looks at it as often.
const INTERVAL: Duration = Duration::from_millis(500);

/// Waits until the pod's sidecar shows the hash of the pod's config; false if it has not by the deadline. By its metrics,
/// which are open: `/config` is for loopback only. An error where the user may not ask.
pub(super) async fn wait(cluster: &Cluster, pod: &Value, deadline: Instant) -> Result<bool, AskError> {
    let (namespace, name) = (str_at(pod, "/metadata/namespace"), str_at(pod, "/metadata/name"));
    let page = format!("/api/v1/namespaces/{namespace}/pods/{name}:{ADMIN_PORT}/proxy/metrics");
    let document = pod["metadata"]["annotations"][CONFIG_ANNOTATION].as_str().unwrap_or_default();
    let wanted = format!("outrigger_config_info{{hash=\"{}\"}} 1", config::hash(document));
    loop {
        match cluster.text(&page, &format!("ask the sidecar of pod {name} for its metrics")).await {
            Ok(metrics) if metrics.lines().any(|line| line == wanted) => return Ok(true),
            Err(error @ AskError::Forbidden { .. }) => return Err(error),
            // A sidecar that is just starting.
            Ok(_) | Err(_) if Instant::now() >= deadline => return Ok(false),
            Ok(_) | Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
