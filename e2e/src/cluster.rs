//! The cluster of the tests.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The context that `kind create cluster --name outrigger` writes.
const CONTEXT: &str = "kind-outrigger";

/// A client of the tests' own cluster. Any other cluster is left alone, though `KUBECONFIG` may name one: the tests
/// install and uninstall.
///
/// One for each test: a client is bound to the runtime that it was made in.
pub async fn client() -> Client {
    let kubeconfig = Kubeconfig::read().expect(
        "no kubeconfig: the tests are run by `make e2e`, or `e2e/cluster/run cargo test -p outrigger-e2e`",
    );
    let current = kubeconfig.current_context.clone().unwrap_or_default();
    assert!(
        current == CONTEXT,
        "the current context is {current:?}: the tests run on {CONTEXT:?} alone, which `make e2e-up` makes"
    );
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is whole");
    // The client takes the default of the process, and a build with more than one cryptography has none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config).expect("the kubeconfig makes a client")
}
