//! What becomes of an install: upgrades, restarts, new certificates, the end.

use anyhow::ensure;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use outrigger_e2e::injected::{assert_injected, assert_untouched};
use outrigger_e2e::manifest::{server_pod, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::release::{self, WEBHOOK};
use outrigger_e2e::{Release, eventually, injected, left_over, metrics, served, with_namespace};
use serde_json::json;

use crate::ENABLED;

/// No retries here: whoever labels a namespace after `helm install` never sees a pod without its sidecar.
#[tokio::test]
async fn an_install_returns_only_when_pods_are_injected() {
    let _alone = release::alone().await;
    release::uninstall();
    with_namespace(&[ENABLED], |ns| async move {
        assert_untouched(&ns.dry_run(server_pod("web")).await.unwrap());
        Release::with(&[]).await;
        assert_injected(&ns.dry_run(server_pod("web")).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn helm_test_tries_a_pod_and_leaves_nothing() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    // An upgrade's old replicas are still going away.
    release.webhook_pods().await;
    release.namespace().rolled_out("outrigger-collector").await;
    let before = left_over::objects_of_release(&release.client).await;
    let said = release::test();
    assert!(said.contains("Succeeded"), "{said}");
    // Its pod may take a moment to go.
    eventually("the test to have left nothing", DEADLINE, || async {
        let after = left_over::objects_of_release(&release.client).await;
        ensure!(after == before, "{after:?}, before {before:?}");
        Ok(())
    })
    .await;
}

/// The webhook's counter, summed over its replicas: the API server never asked.
#[tokio::test]
async fn a_pod_that_nobody_labelled_never_reaches_the_webhook() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    let pods = release.webhook_pods().await;
    let admissions = || async {
        metrics::sum_over(&release.client, &pods, "outrigger_webhook_admissions_total").await.unwrap()
    };
    with_namespace(&[], |ns| async move {
        let before = admissions().await;
        assert_untouched(&ns.create::<Pod>(server_pod("web")).await.unwrap());
        assert_eq!(admissions().await, before);

        // The counter counts: an opted-in pod moves it. Twice, where the API server asks again after its own changes.
        let enabled = json!({"metadata": {"labels": {ENABLED.0: ENABLED.1}}});
        assert_injected(&ns.dry_run(with(server_pod("other"), enabled)).await.unwrap());
        assert!(admissions().await > before);
    })
    .await;
}

/// With `Fail`, so that an answer that is missing is an error here and not a pod without sidecar.
#[tokio::test]
async fn a_restart_of_the_webhook_loses_no_pod() {
    let _alone = release::alone().await;
    let release = Release::with(&["failurePolicy=Fail"]).await;
    with_namespace(&[ENABLED], |ns| async move {
        release.restart().await;
        let rolled_out = async { release.webhook_pods().await };
        tokio::pin!(rolled_out);
        let mut created = 0;
        loop {
            tokio::select! {
                _ = &mut rolled_out => break,
                pod = ns.create::<Pod>(gated_pod(created)) => {
                    assert_injected(&pod.unwrap_or_else(|error| panic!("pod {created} was lost: {error}")));
                    created += 1;
                }
            }
        }
        assert!(created > 10, "only {created} pods were created during the restart");
    })
    .await;
}

/// A pod that is stored and never started.
fn gated_pod(number: usize) -> serde_json::Value {
    let gate = json!({"spec": {"schedulingGates": [{"name": "outrigger.dev/e2e"}]}});
    with(server_pod(&format!("web-{number}")), gate)
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let _alone = release::alone().await;
    // Not by an upgrade: a certificate that is there lives out its own lifetime.
    release::uninstall();
    let release = Release::with(&["failurePolicy=Fail", "certificateLifetime=60s"]).await;
    let pods = release.webhook_pods().await;
    let before = served::by_all(&release, &pods).await.unwrap();
    // Due after two thirds of the lifetime.
    eventually("every replica to serve another certificate", DEADLINE, || async {
        let now = served::by_all(&release, &pods).await?;
        ensure!(now.iter().all(|certificate| !before.contains(certificate)), "the same as before");
        Ok(())
    })
    .await;
    with_namespace(&[ENABLED], |ns| async move {
        assert_injected(&ns.dry_run(server_pod("web")).await.unwrap());
    })
    .await;
    assert_eq!(restarts(&release).await, restarts_of(&pods), "a replica was restarted or replaced");
    // Nor does the next case want a certificate that changes every 40 s.
    release::uninstall();
}

async fn restarts(release: &Release) -> Vec<(String, i32)> {
    restarts_of(&release.webhook_pods().await)
}

fn restarts_of(pods: &[Pod]) -> Vec<(String, i32)> {
    let mut restarts: Vec<_> = pods.iter().map(|pod| (pod.name_any(), injected::restarts(pod))).collect();
    restarts.sort();
    restarts
}

/// Helm must not put its empty Secret, nor its registration without CA, in the place of what the webhook wrote.
#[tokio::test]
async fn an_upgrade_keeps_the_certificate() {
    let _alone = release::alone().await;
    let release = Release::with(&["timeoutSeconds=5"]).await;
    let before = (secret(&release).await, ca_bundles(&release.configuration().await));
    let release = Release::with(&["timeoutSeconds=6"]).await;
    let registration = release.configuration().await;
    assert_eq!(registration.webhooks.as_ref().unwrap()[0].timeout_seconds, Some(6));
    assert_eq!((secret(&release).await, ca_bundles(&registration)), before);
}

async fn secret(release: &Release) -> Secret {
    let name = format!("{WEBHOOK}-certificate");
    let secret = release.namespace().api::<Secret>().get(&name).await.unwrap();
    assert!(secret.data.is_some(), "the webhook has written nothing into its Secret");
    Secret { data: secret.data, ..Secret::default() }
}

fn ca_bundles(registration: &MutatingWebhookConfiguration) -> Vec<Vec<u8>> {
    let bundles =
        registration.webhooks.iter().flatten().map(|webhook| webhook.client_config.ca_bundle.clone());
    bundles.map(|bundle| bundle.expect("the webhook has written its CA").0).collect()
}

#[tokio::test]
async fn an_uninstall_leaves_nothing_but_the_crd() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    release::uninstall();
    eventually("the release's objects to be gone", DEADLINE, || async {
        let left = left_over::objects_of_release(&release.client).await;
        // The APIService is what Kubernetes makes of a CRD.
        let crd =
            ["APIService v1alpha1.outrigger.dev", "CustomResourceDefinition sidecarprofiles.outrigger.dev"];
        ensure!(left == crd, "{left:?}");
        Ok(())
    })
    .await;
    with_namespace(&[ENABLED], |ns| async move {
        assert_untouched(&ns.create::<Pod>(server_pod("web")).await.unwrap());
    })
    .await;
}
