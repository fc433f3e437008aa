//! The chart, installed by the real helm.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Namespace, cluster};

/// The release's name.
pub const NAME: &str = "outrigger";
/// The release's namespace.
pub const NAMESPACE: &str = "outrigger-system";
/// The name of the webhook's objects.
pub const WEBHOOK: &str = "outrigger-webhook";

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/outrigger");

/// Whose the release is: everybody's as it is by default, or one test's, to disturb it.
static TURN: RwLock<()> = RwLock::const_new(());

/// Helm's arguments for what is installed, as far as this program knows.
static INSTALLED: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// The release, installed.
pub struct Release {
    /// For what the methods do not cover.
    pub client: Client,
    _shared: Option<RwLockReadGuard<'static, ()>>,
}

/// The right to disturb the release; it lasts as long as this does.
pub struct Alone(#[expect(dead_code, reason = "it is held, and that is all")] RwLockWriteGuard<'static, ()>);

/// Waits until no other test has anything to do with the release.
pub async fn alone() -> Alone {
    Alone(TURN.write().await)
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Nobody knows what a test that failed has left.
        if std::thread::panicking() {
            *installed() = None;
        }
    }
}

impl Release {
    /// Installed with default values, and not to be disturbed as long as this is held.
    pub async fn shared() -> Self {
        let turn = TURN.read().await;
        install_or_upgrade(&[]);
        Self { client: cluster::client().await, _shared: Some(turn) }
    }

    /// Installed with exactly these values beside the defaults, or upgraded to them. For who is [`alone`].
    pub async fn with(values: &[&str]) -> Self {
        let args: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
        install_or_upgrade(&args);
        Self { client: cluster::client().await, _shared: None }
    }

    /// Installed with the chart's values for high availability, or upgraded to them. For who is [`alone`].
    pub async fn highly_available() -> Self {
        install_or_upgrade(&["--values", &format!("{CHART}/values-ha.yaml")]);
        Self { client: cluster::client().await, _shared: None }
    }

    /// Replaces each replica by a new one, as `kubectl rollout restart` does; does not wait.
    pub async fn restart(&self) {
        self.namespace().restart(WEBHOOK).await;
    }

    /// Changes the number of replicas, and waits until there are so many.
    pub async fn scale(&self, replicas: u32) {
        let deployments = self.namespace().api::<Deployment>();
        let change = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(WEBHOOK, &PatchParams::default(), &change).await.unwrap();
        self.webhook_pods().await;
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
pub fn uninstall() {
    *installed() = None;
    helm_uninstall();
}

fn helm_uninstall() {
    helm(&["uninstall", NAME, "--wait", "--ignore-not-found", "--timeout", "5m"]);
}

/// Blocks, which is right here: all tests that want the release wait for it too.
fn install_or_upgrade(values: &[&str]) {
    let mut installed = installed();
    if installed.as_ref().is_some_and(|installed| installed == values) {
        return;
    }
    // An earlier run's replicas may be of another image with the same tag, which no upgrade would replace.
    if installed.take().is_none() {
        helm_uninstall();
    }
    let images = [
        "image.tag=dev",
        "sidecar.image.tag=dev",
        // They were put on the node by hand: a pull would hide that somebody forgot to.
        "image.pullPolicy=Never",
        "sidecar.image.pullPolicy=Never",
    ];
    let mut args =
        vec!["upgrade", "--install", NAME, CHART, "--create-namespace", "--wait", "--timeout", "5m"];
    args.extend(images.iter().flat_map(|image| ["--set", image]));
    args.extend(values);
    helm(&args);
    *installed = Some(values.iter().map(ToString::to_string).collect());
}

fn installed() -> MutexGuard<'static, Option<Vec<String>>> {
    // Whoever failed while holding it has left `None`.
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
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
