//! What becomes of pods while replicas of the webhook come and go.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use outrigger_e2e::injected::{assert_injected, assert_untouched};
use outrigger_e2e::manifest::{server_pod, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, Release, eventually, release, with_namespace};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::ENABLED;
use crate::command::{findings, in_shell};

/// Pods that are created in a second while replicas are replaced, where the machine is quick enough.
const RATE: u32 = 200;
/// Pods that are being created at any time, at the most.
const AT_A_TIME: usize = 32;

fn labelled_pod() -> Value {
    with(server_pod("web"), json!({"metadata": {"labels": {ENABLED.0: ENABLED.1}}}))
}

#[tokio::test]
async fn with_no_webhook_pods_start_without_their_sidecars() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    release.scale(0).await;
    with_namespace(&[ENABLED], |ns| async move {
        assert_untouched(&ns.create::<Pod>(server_pod("web")).await.unwrap());
        ns.pod_ready("web").await;
        release.scale(2).await;

        // Who was missed is found, and the command that is named mends it.
        let found = findings(&ns, "MissedPods");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["object"], json!(format!("{}/pod/web", ns.name)));
        let mended = in_shell(found[0]["command"].as_str().unwrap());
        assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stderr));
        assert_injected(&ns.pod_ready("web").await);
        assert_eq!(findings(&ns, "MissedPods"), Vec::<Value>::new());
    })
    .await;
}

/// linkerd2#3104, istio#21147: what the cluster needs to start, and the webhook itself, waited for the webhook.
#[tokio::test]
async fn with_no_webhook_and_fail_nothing_waits_in_a_circle() {
    let _alone = release::alone().await;
    let release = Release::highly_available().await;
    release.scale(0).await;
    with_namespace(&[ENABLED], |ns| async move {
        let refused = ns.dry_run(server_pod("web")).await;
        let message = refused.expect_err("nobody could inject it").to_string();
        assert!(message.contains("failed calling webhook"), "{message}");

        // Labelled though the pods are: these namespaces are never asked about.
        for excluded in ["kube-system", "kube-public", "kube-node-lease", release::NAMESPACE] {
            let excluded = Namespace::existing(ns.client.clone(), excluded);
            assert_untouched(&excluded.dry_run(with(labelled_pod(), own_account())).await.unwrap());
        }
        // Nor is anybody asked who did not label.
        with_namespace(&[], |other| async move {
            assert_untouched(&other.dry_run(server_pod("web")).await.unwrap());
        })
        .await;

        release.scale(3).await;
        eventually("pods to be injected again", DEADLINE, || async {
            assert_injected(&ns.dry_run(server_pod("web")).await?);
            Ok(())
        })
        .await;
    })
    .await;
}

/// `kube-public` and `kube-node-lease` may have no default service account on the spot; no token is needed either.
fn own_account() -> Value {
    json!({"spec": {"serviceAccountName": "default", "automountServiceAccountToken": false}})
}

/// With `Fail`, so that an answer that is missing is an error and not a pod without sidecar.
#[tokio::test]
async fn a_restart_under_load_loses_no_admission() {
    let _alone = release::alone().await;
    let release = Release::highly_available().await;
    with_namespace(&[ENABLED], |ns| async move {
        let (replaced, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (begin, pace) =
            (Instant::now(), Mutex::new(tokio::time::interval(Duration::from_secs(1) / RATE)));
        let create = || async {
            while !replaced.load(Ordering::Relaxed) {
                pace.lock().await.tick().await;
                let pod = ns.dry_run(server_pod("web")).await;
                let number = admitted.fetch_add(1, Ordering::Relaxed);
                assert_injected(&pod.unwrap_or_else(|error| panic!("pod {number} was lost: {error}")));
            }
        };
        let replace = async {
            release.restart().await;
            release.webhook_pods().await;
            replaced.store(true, Ordering::Relaxed);
        };
        tokio::join!(replace, join_all((0..AT_A_TIME).map(|_| create())));
        let (admitted, took) = (admitted.into_inner(), begin.elapsed());
        println!("{admitted} pods in {took:.1?}");
        // Less would prove nothing. How many it were in a second is the machine's affair.
        assert!(admitted > 2 * AT_A_TIME, "only {admitted} pods were created during the restart");
    })
    .await;
}
