//! What Prometheus finds of a pod: by which annotations, and where the app's own metrics are.

use std::collections::BTreeMap;

use outrigger_api::config::Interception;
use outrigger_api::metrics::{AppMetrics, AppMetricsSpec};
use outrigger_api::names::{ADMIN_PORT, INJECTED_LABEL, SCRAPING_PREFIX};
use outrigger_api::port::PortRef;

use crate::overrides::Effective;
use crate::pod::{Container, Pod};
use crate::ports;

/// What a pod gets so that it is scraped.
#[derive(Default)]
pub(crate) struct Scraping {
    /// Where the proxy asks the app, and the container that this is.
    pub(crate) app: Option<(AppMetrics, String)>,
    /// Annotations that lead to the proxy's metrics.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What the user should know about it.
    pub(crate) warnings: Vec<String>,
}

impl Scraping {
    /// For people: `app:9090/metrics`.
    pub(crate) fn described(&self) -> Option<String> {
        let (app, container) = self.app.as_ref()?;
        Some(format!("{container}:{}{}", app.port, app.path))
    }
}

/// The annotations that injection writes where a pod has none of their kind.
pub(crate) fn keys() -> [String; 3] {
    ours().map(|(key, _)| key)
}

/// One pod can name one place by them, so they are not for the app's own metrics too.
fn ours() -> [(String, String); 3] {
    [("scrape", "true".to_owned()), ("port", ADMIN_PORT.to_string()), ("path", "/metrics".to_owned())]
        .map(|(key, value)| (format!("{SCRAPING_PREFIX}{key}"), value))
}

pub(crate) fn plan(pod: Pod, effective: &Effective, mode: Interception) -> Scraping {
    let spec = &effective.profile.metrics;
    let mut scraping = Scraping::default();
    if spec.annotate {
        match pod.annotations().map(|(key, _)| key).find(|key| key.starts_with(SCRAPING_PREFIX)) {
            None => scraping.annotations = ours().into(),
            Some(theirs) => scraping.warnings.push(format!(
                "metrics.annotate is without effect: the pod's own {theirs} stays, and leads where it did. Let Prometheus find the \
                 sidecar by the label {INJECTED_LABEL}, and the app by metrics.app"
            )),
        }
    }
    match spec.app.as_ref().map(|app| app_metrics(pod, app, effective, mode)) {
        None => {}
        Some(Ok(found)) => scraping.app = Some(found),
        Some(Err(why)) => scraping.warnings.push(format!("metrics.app is without effect: {why}")),
    }
    scraping
}

/// The port of the app, and the container that has it; a number that nobody declares is taken to be of the first one.
fn app_metrics(
    pod: Pod,
    spec: &AppMetricsSpec,
    effective: &Effective,
    mode: Interception,
) -> Result<(AppMetrics, String), String> {
    let AppMetricsSpec { port, path } = spec;
    let containers = || pod.containers().filter(|container| container.is_long_running());
    let declared = containers().find_map(|container| {
        let mut ports = container.tcp_ports();
        let found = ports.find(|declared| port.matches(declared.name, declared.number))?;
        Some((container, found.number))
    });
    let undeclared = || match port {
        PortRef::Number(number) => Some((containers().next()?, *number)),
        _ => None,
    };
    let found = declared.or_else(undeclared);
    let (Container { name, .. }, number) =
        found.ok_or_else(|| format!("no container of the pod declares a TCP port {port}"))?;
    // It would ask itself, which would ask itself.
    if ports::ours(effective, mode).iter().any(|(ours, _)| *ours == number) {
        return Err(format!("port {number} is a sidecar's own"));
    }
    Ok((AppMetrics { port: number, path: path.clone() }, name.to_owned()))
}
