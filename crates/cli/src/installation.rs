//! The Outrigger of a cluster, as its own objects tell of it.

use k8s_openapi::ByteString;
use outrigger_inject::{Cluster as Versions, Namespace, Profiles, Settings, Version, is_asked};
use serde_json::Value;

use crate::cluster::{AskError, Cluster};
use crate::output::str_at;

/// Where the API server keeps webhook configurations.
pub(crate) const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// One webhook configuration of ours, and what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// The configuration's name, which is also the Deployment's and the service account's.
    pub(crate) name: String,
    /// The release's namespace.
    pub(crate) namespace: String,
    /// The release that the chart was installed as.
    pub(crate) release: String,
    /// The Service that API servers call.
    pub(crate) service: String,
    /// Whether cert-manager writes the authority into the entries.
    pub(crate) cert_manager: bool,
    /// The configuration's entries, as they are.
    pub(crate) entries: Vec<Value>,
}

impl Installation {
    /// The installation behind a webhook configuration; none if it is somebody else's. By the names of its entries: the
    /// configuration itself is called like the release.
    fn of(configuration: &Value) -> Option<Self> {
        let entries: Vec<_> =
            configuration["webhooks"].as_array()?.iter().filter(|entry| is_ours(entry)).cloned().collect();
        let service = &entries.first()?["clientConfig"]["service"];
        let name = str_at(configuration, "/metadata/name");
        // The label, because the name does not tell: `my-outrigger-webhook` is of release `my`, or of `my-outrigger`.
        let release = configuration["metadata"]["labels"]["app.kubernetes.io/instance"].as_str();
        let mut annotations = configuration["metadata"]["annotations"].as_object().into_iter().flatten();
        Some(Self {
            name: name.to_owned(),
            namespace: str_at(service, "/namespace").to_owned(),
            release: release.unwrap_or(name.strip_suffix("-webhook").unwrap_or(name)).to_owned(),
            cert_manager: annotations.any(|(key, _)| key.starts_with("cert-manager.io/inject-")),
            service: str_at(service, "/name").to_owned(),
            entries,
        })
    }

    /// Every installation of the cluster: one, mostly.
    pub(crate) async fn all(cluster: &Cluster) -> Result<Vec<Self>, AskError> {
        let configurations = cluster.list(CONFIGURATIONS, "", "list webhook configurations").await?;
        Ok(configurations.iter().filter_map(Self::of).collect())
    }

    /// Whether the API server asks about a pod with these labels in this namespace.
    pub(crate) fn is_asked(&self, namespace: &Namespace, pod_labels: &Value) -> bool {
        is_asked(&self.entries, namespace, pod_labels)
    }

    /// The Deployment of the webhook.
    pub(crate) async fn deployment(&self, cluster: &Cluster) -> Result<Option<Value>, AskError> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", self.namespace, self.name);
        cluster.find(&path, &format!("read deployment {} in namespace {}", self.name, self.namespace)).await
    }

    /// Who keeps the certificate that this Deployment of the webhook serves.
    pub(crate) fn tls_mode(&self, deployment: &Value) -> TlsMode {
        match flag(deployment, "tls-mode") {
            Some("secret") if self.cert_manager => TlsMode::CertManager,
            Some("secret") => TlsMode::Secret,
            _ => TlsMode::Own,
        }
    }

    /// The name of the Secret with that certificate.
    pub(crate) fn secret(&self, deployment: &Value) -> String {
        let own = || format!("{}-certificate", self.name);
        flag(deployment, "secret").map_or_else(own, str::to_owned)
    }
}

/// The chart's `tls.mode`. The webhook knows two of them; cert-manager leaves its trace in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// `self`: the webhook.
    Own,
    /// `certManager`.
    CertManager,
    /// `secret`: somebody else.
    Secret,
}

fn is_ours(entry: &Value) -> bool {
    str_at(entry, "/name").ends_with(".outrigger.dev") && entry["clientConfig"]["service"].is_object()
}

/// The value of a flag of the webhook's container: `--secret=x`.
pub(crate) fn flag<'a>(deployment: &'a Value, name: &str) -> Option<&'a str> {
    args(deployment).find_map(|arg| arg.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
}

/// Whether its container has this flag without a value: `--live-reload`.
pub(crate) fn has_flag(deployment: &Value, name: &str) -> bool {
    args(deployment).any(|arg| arg.strip_prefix("--") == Some(name))
}

fn args(deployment: &Value) -> impl Iterator<Item = &str> {
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let containers = containers.into_iter().flatten();
    containers.filter_map(|container| container["args"].as_array()).flatten().filter_map(Value::as_str)
}

/// How the webhook of this Deployment injects.
pub(crate) fn settings(deployment: &Value, cluster: Versions) -> Option<Settings> {
    Some(Settings {
        sidecar_image: flag(deployment, "sidecar-image")?.to_owned(),
        image_pull_policy: flag(deployment, "image-pull-policy").map(str::to_owned),
        version: str_at(deployment, "/metadata/labels/app.kubernetes.io~1version").to_owned(),
        cluster,
    })
}

/// The versions of the API server and, where the user may see nodes, of the oldest kubelet and Linux.
pub(crate) async fn versions(cluster: &Cluster) -> Result<Versions, AskError> {
    let server = server_version(cluster).await?.parse().ok();
    let (mut oldest_node, mut oldest_kernel): (Option<Version>, Option<Version>) = (None, None);
    let nodes = cluster
        .each("/api/v1/nodes", "", "list nodes", |node| {
            let info =
                |field: &str| str_at(&node, &format!("/status/nodeInfo/{field}")).parse::<Version>().ok();
            oldest_node = oldest_node.into_iter().chain(info("kubeletVersion")).min();
            oldest_kernel = oldest_kernel.into_iter().chain(info("kernelVersion")).min();
        })
        .await;
    match nodes {
        // Nodes are seldom older than what this matters for.
        Ok(()) | Err(AskError::Forbidden { .. }) => Ok(Versions { server, oldest_node, oldest_kernel }),
        Err(error) => Err(error),
    }
}

/// As `v1.34.1`.
pub(crate) async fn server_version(cluster: &Cluster) -> Result<String, AskError> {
    let version =
        cluster.find("/version", "ask for the version of the API server").await?.unwrap_or_default();
    Ok(str_at(&version, "/gitVersion").to_owned())
}

/// The namespace; none if there is none.
pub(crate) async fn namespace(cluster: &Cluster, name: &str) -> Result<Option<Namespace>, AskError> {
    let found =
        cluster.find(&format!("/api/v1/namespaces/{name}"), &format!("read namespace {name}")).await?;
    Ok(found.as_ref().map(namespace_of))
}

/// A namespace by its object.
pub(crate) fn namespace_of(object: &Value) -> Namespace {
    let mut object = object.clone();
    // A list's items don't say what they are.
    object["apiVersion"] = "v1".into();
    object["kind"] = "Namespace".into();
    outrigger_inject::manifest::namespaces(&object).remove(0)
}

/// Where profiles are: of one namespace, or of all.
pub(crate) fn profiles_path(namespace: Option<&str>) -> String {
    let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    format!("/apis/outrigger.dev/v1alpha1{place}/sidecarprofiles")
}

/// Adds the profiles of a namespace, or of all. A cluster without the resource has none.
pub(crate) async fn add_profiles(
    cluster: &Cluster,
    namespace: Option<&str>,
    profiles: &mut Profiles,
) -> Result<(), AskError> {
    let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
    let add = |object: Value| {
        profiles.set(
            str_at(&object, "/metadata/namespace"),
            str_at(&object, "/metadata/name"),
            &object["spec"],
        );
    };
    match cluster.each(&profiles_path(namespace), "", &format!("list sidecarprofiles{place}"), add).await {
        Err(AskError::Refused { code: 404, .. }) => Ok(()),
        answer => answer,
    }
}

/// The bytes of a base64 field, empty where there are none.
pub(crate) fn bytes_at(object: &Value, pointer: &str) -> Vec<u8> {
    let value = object.pointer(pointer).cloned().unwrap_or_default();
    serde_json::from_value::<ByteString>(value).map(|bytes| bytes.0).unwrap_or_default()
}
