//! Which pods are tapped, and what their objects tell of their sidecars.

use std::net::IpAddr;
use std::str::FromStr;

use outrigger_api::names::{ADMIN_PORT, ADMIN_PORT_NAME, CONFIG_ANNOTATION, INJECTED_LABEL};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Hinted;
use crate::output::str_at;
use crate::target::{Target, TargetError, kind_called, live_pods, pods_of};

/// What the user names.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The pods behind a Service.
    Service(String),
    Workload(Target),
}

impl FromStr for Source {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once('/') {
            Some((kind, name)) if !name.is_empty() && kind_called(kind) == Some("Service") => {
                Ok(Self::Service(name.to_owned()))
            }
            _ => text.parse().map(Self::Workload),
        }
    }
}

/// A pod with a sidecar.
#[derive(Clone, Debug)]
pub(super) struct Tapped {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) admin_port: u16,
    pub(super) token: String,
    /// As `namespace/name`.
    pub(super) profile: String,
}

impl Source {
    /// Its pods that run with a sidecar; an error where there is none.
    pub(super) async fn pods(&self, cluster: &Cluster, namespace: &str) -> Result<Vec<Tapped>, Hinted> {
        let found = match self {
            Self::Service(name) => {
                let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
                let service =
                    cluster.find(&path, &format!("read service/{name} in namespace {namespace}")).await?;
                pods_of(cluster, namespace, &service.ok_or_else(|| missing_service(name, namespace))?).await?
            }
            Self::Workload(target) if target.as_namespace().is_some() => {
                live_pods(cluster, target.as_namespace(), &format!("{INJECTED_LABEL}=true")).await?
            }
            Self::Workload(target) => {
                let workload = target.find(cluster, namespace).await?;
                pods_of(cluster, namespace, &workload.ok_or_else(|| target.missing(namespace))?).await?
            }
        };
        let tapped: Vec<_> = found.iter().filter_map(Tapped::of).collect();
        if tapped.is_empty() {
            let message = format!("{self} has no pod that runs with a sidecar, of {} that run", found.len());
            return Err(Hinted::new(message, "outrigger explain says why a pod has none"));
        }
        Ok(tapped)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service/{name}"),
            Self::Workload(target) => target.fmt(f),
        }
    }
}

fn missing_service(name: &str, namespace: &str) -> Hinted {
    Hinted::new(
        format!("there is no service/{name} in namespace {namespace}"),
        "kubectl get services --all-namespaces lists them; -n names the namespace",
    )
}

impl Tapped {
    /// From the object; none where it is not injected.
    fn of(pod: &Value) -> Option<Self> {
        let annotation = pod["metadata"]["annotations"][CONFIG_ANNOTATION].as_str()?;
        let config: Value = serde_json::from_str(annotation).ok()?;
        Some(Self {
            namespace: str_at(pod, "/metadata/namespace").to_owned(),
            name: str_at(pod, "/metadata/name").to_owned(),
            address: str_at(pod, "/status/podIP").parse().ok(),
            admin_port: admin_port(pod).unwrap_or(ADMIN_PORT),
            token: config["token"].as_str()?.to_owned(),
            profile: str_at(&config, "/profile").to_owned(),
        })
    }
}

fn admin_port(pod: &Value) -> Option<u16> {
    let lists = ["initContainers", "containers"].iter().filter_map(|list| pod["spec"][list].as_array());
    let mut ports = lists.flatten().filter_map(|container| container["ports"].as_array()).flatten();
    let port = ports.find(|port| port["name"] == ADMIN_PORT_NAME)?;
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_and_workloads_are_spelt_as_for_kubectl() {
        for (text, wanted) in
            [("svc/api", "service/api"), ("Service/api", "service/api"), ("deploy/api", "deployment/api")]
        {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), wanted);
        }
        assert!("svc/".parse::<Source>().is_err() && "api".parse::<Source>().is_err());
    }

    #[test]
    fn a_pod_tells_its_token_and_a_plain_one_nothing() {
        let config = json!({"token": "s3cret", "profile": "shop/web"}).to_string();
        let ports = json!([{"name": ADMIN_PORT_NAME, "containerPort": 25190}]);
        let pod = json!({
            "metadata": {"name": "api-1", "namespace": "shop", "annotations": {CONFIG_ANNOTATION: config}},
            "spec": {"initContainers": [{"name": "outrigger-proxy", "ports": ports}]}, "status": {"podIP": "10.0.0.7"},
        });
        let tapped = Tapped::of(&pod).unwrap();
        assert_eq!((tapped.token.as_str(), tapped.admin_port), ("s3cret", 25190));
        assert!(Tapped::of(&json!({"metadata": {"name": "plain"}})).is_none());
    }
}
