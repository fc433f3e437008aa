//! The chart, installed by the real helm.

use std::process::Command;
use std::sync::OnceLock;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::{Namespace, cluster};

/// The release's name.
pub const NAME: &str = "outrigger";
/// The release's namespace.
pub const NAMESPACE: &str = "outrigger-system";
/// The name of the webhook's objects.
pub const WEBHOOK: &str = "outrigger-webhook";

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/outrigger");

/// The release, installed.
pub struct Release {
    /// For what the methods do not cover.
    pub client: Client,
}

impl Release {
    /// Installed with default values: by the first test of this program that asks, for all of them.
    pub async fn shared() -> Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        // Blocking is right here: all other tests wait for it too.
        INSTALLED.get_or_init(|| install_or_upgrade(&[]));
        Self { client: cluster::client().await }
    }

    /// Installed, or upgraded to, exactly these values beside the defaults.
    pub async fn with(values: &[&str]) -> Self {
        let args: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
        install_or_upgrade(&args);
        Self { client: cluster::client().await }
    }

    /// Installed, or upgraded to, the chart's values for high availability.
    pub async fn highly_available() -> Self {
        install_or_upgrade(&["--values", &format!("{CHART}/values-ha.yaml")]);
        Self { client: cluster::client().await }
    }

    /// Replaces each replica by a new one, as `kubectl rollout restart` does; does not wait.
    pub async fn restart(&self) {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let restarted = json!({"annotations": {"kubectl.kubernetes.io/restartedAt": now}});
        self.change(json!({"spec": {"template": {"metadata": restarted}}})).await;
    }

    /// Changes the number of replicas, and waits until there are so many.
    pub async fn scale(&self, replicas: u32) {
        self.change(json!({"spec": {"replicas": replicas}})).await;
        self.webhook_pods().await;
    }

    async fn change(&self, change: serde_json::Value) {
        let deployments = self.namespace().api::<Deployment>();
        deployments.patch(WEBHOOK, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// The release's namespace.
    pub fn namespace(&self) -> Namespace {
        Namespace::existing(self.client.clone(), NAMESPACE)
    }

    /// The pods of the webhook, once none of an older template is left.
    pub async fn webhook_pods(&self) -> Vec<Pod> {
        self.namespace().rolled_out(WEBHOOK).await
    }

    /// The webhook's registration as it stands.
    pub async fn configuration(&self) -> MutatingWebhookConfiguration {
        Api::all(self.client.clone()).get(WEBHOOK).await.expect("the release has a webhook configuration")
    }
}

/// What `helm test` says.
pub fn test() -> String {
    helm(&["test", NAME])
}

/// `helm uninstall`; fine if there is nothing to uninstall.
pub fn uninstall() -> String {
    helm(&["uninstall", NAME, "--wait", "--ignore-not-found", "--timeout", "2m"])
}

fn install_or_upgrade(values: &[&str]) {
    static FROM_NOTHING: OnceLock<String> = OnceLock::new();
    // An earlier run's replicas may be of another image with the same tag, which no upgrade would replace.
    FROM_NOTHING.get_or_init(uninstall);

    let images = [
        "image.tag=dev",
        "sidecar.image.tag=dev",
        // They were put on the node by hand: a pull would hide that somebody forgot to.
        "image.pullPolicy=Never",
        "sidecar.image.pullPolicy=Never",
    ];
    let mut args =
        vec!["upgrade", "--install", NAME, CHART, "--create-namespace", "--wait", "--timeout", "2m"];
    args.extend(images.iter().flat_map(|image| ["--set", image]));
    args.extend(values);
    helm(&args);
}

/// Runs helm; what it says is what it says on both streams.
fn helm(args: &[&str]) -> String {
    let output = Command::new("helm").args(args).args(["--namespace", NAMESPACE]).output();
    let output = output.expect("helm is on the PATH: `e2e/cluster/run` sees to it");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "helm {} failed:\n{said}", args.join(" "));
    said
}
