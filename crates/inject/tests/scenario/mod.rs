//! A pod with everything that `inject` needs to decide about it.

use std::collections::BTreeMap;
use std::path::Path;

use outrigger_inject::{Cluster, Context, Namespace, Outcome, Profiles, Settings, inject};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a golden file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    namespace: Option<NamespaceFile>,
    /// By `namespace/name`. Without any there is `outrigger-system/default` with an empty spec.
    #[serde(default)]
    profiles: Option<BTreeMap<String, Value>>,
    /// Versions, as `1.28`. Without them they are unknown.
    #[serde(default)]
    cluster: ClusterFile,
    pod: Value,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    oldest_node: Option<String>,
    #[serde(default)]
    oldest_kernel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceFile {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

pub(crate) struct Scenario {
    pub(crate) pod: Value,
    pub(crate) namespace: Namespace,
    profiles: Profiles,
    pub(crate) settings: Settings,
}

impl Scenario {
    /// A pod in a namespace that opted in.
    #[allow(
        dead_code,
        reason = "each test binary compiles this module, and fuzz.rs gives every pod a profile"
    )]
    pub(crate) fn of_pod(pod: Value) -> Self {
        Self::new(File { namespace: None, profiles: None, cluster: ClusterFile::default(), pod })
    }

    /// The same, with this spec for its default profile.
    #[allow(
        dead_code,
        reason = "each test binary compiles this module, and golden.rs reads its profiles from files"
    )]
    pub(crate) fn with_profile(pod: Value, spec: &Value) -> Self {
        let profiles = BTreeMap::from([("outrigger-system/default".to_owned(), spec.clone())]);
        Self::new(File { namespace: None, profiles: Some(profiles), cluster: ClusterFile::default(), pod })
    }

    #[allow(
        dead_code,
        reason = "each test binary compiles this module, and properties.rs makes its own pods"
    )]
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self::new(serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn new(file: File) -> Self {
        let (mut labels, annotations) = match file.namespace {
            Some(namespace) => (namespace.labels, namespace.annotations),
            None => (BTreeMap::from([("outrigger.dev/inject".into(), "enabled".into())]), BTreeMap::new()),
        };
        // Most cases are about named ports.
        labels
            .entry("pod-security.kubernetes.io/enforce".to_owned())
            .or_insert_with(|| "restricted".to_owned());
        let mut profiles = Profiles::new("outrigger-system");
        let specs =
            file.profiles.unwrap_or_else(|| BTreeMap::from([("outrigger-system/default".into(), json!({}))]));
        for (id, spec) in &specs {
            let (namespace, name) = id.split_once('/').unwrap();
            profiles.set(namespace, name, spec);
        }
        Self {
            pod: file.pod,
            namespace: Namespace { name: "shop".into(), labels, annotations },
            profiles,
            settings: Settings {
                sidecar_image: "outrigger/sidecar:1.2.3".into(),
                image_pull_policy: None,
                version: "1.2.3".into(),
                cluster: Cluster {
                    server: file.cluster.server.map(|version| version.parse().unwrap()),
                    oldest_node: file.cluster.oldest_node.map(|version| version.parse().unwrap()),
                    oldest_kernel: file.cluster.oldest_kernel.map(|version| version.parse().unwrap()),
                },
            },
        }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            namespace: &self.namespace,
            profiles: &self.profiles,
            settings: &self.settings,
            token: "0123456789abcdef",
        }
    }

    pub(crate) fn inject(&self, pod: &Value) -> Outcome {
        inject(pod, &self.context())
    }
}
