//! What the webhook tells, counts and mends beside admissions. On an install that looks often, and reloads profiles.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use outrigger_api::names;
use outrigger_e2e::injected::{assert_injected, assert_untouched, restarts, running_config};
use outrigger_e2e::manifest::{server_deployment, server_pod, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, Release, eventually, metrics, release, with_namespace};
use serde_json::{Value, json};

use crate::ENABLED;

async fn in_namespace<Test, Running>(labels: &[(&str, &str)], test: Test)
where
    Test: FnOnce(Release, Namespace) -> Running,
    Running: Future<Output = ()>,
{
    let _alone = release::alone().await;
    let release = Release::with(&["auditInterval=5s", "liveReload.enabled=true"]).await;
    with_namespace(labels, |ns| test(release, ns)).await;
}

/// A Deployment whose pods have this annotation.
fn deployment_with(name: &str, (key, value): (&str, &str)) -> Value {
    let template = json!({"metadata": {"annotations": {key: value}}});
    with(server_deployment(name, 1), json!({"spec": {"template": template}}))
}

/// A metric of the webhook, summed over its replicas.
async fn counted(release: &Release, selector: &str) -> u64 {
    metrics::sum_over(&release.client, &release.webhook_pods().await, selector).await.unwrap()
}

fn admissions(result: &str, reason: &str, dry_run: bool) -> String {
    format!(
        "outrigger_webhook_admissions_total{{result=\"{result}\",reason=\"{reason}\",dry_run=\"{dry_run}\"}}"
    )
}

fn standing(ns: &Namespace, standing: &str) -> String {
    format!("outrigger_webhook_pods{{namespace=\"{}\",standing=\"{standing}\"}}", ns.name)
}

/// Waits until so many pods of the namespace stand so.
async fn stand(release: &Release, ns: &Namespace, wanted: u64, standing_so: &str) {
    let selector = standing(ns, standing_so);
    eventually(&format!("{wanted} pods to be {standing_so}"), DEADLINE, || async {
        let found = counted(release, &selector).await;
        ensure!(found == wanted, "{found} are");
        Ok(())
    })
    .await;
}

/// Waits for the Event with this reason about a `ReplicaSet` of the namespace.
async fn told(ns: &Namespace, reason: &str) -> Event {
    eventually(&format!("an event {reason}"), DEADLINE, || async {
        ns.events("ReplicaSet", reason).await?.pop().context("there is none")
    })
    .await
}

/// The log lines of admissions in the namespace that were decided so, of all replicas.
async fn logged(release: &Release, ns: &Namespace, result: &str, reason: &str) -> usize {
    let log = release.namespace().logs_of("app.kubernetes.io/component=webhook").await;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["namespace"] == *ns.name && line["result"] == result && line["reason"] == reason)
        .count()
}

/// One reason for each decision, and the same everywhere: on what makes the pod, in the metric, in the log.
#[tokio::test]
async fn each_decision_is_told_with_its_reason() {
    in_namespace(&[ENABLED], |release, ns| async move {
        let mut on_the_node = server_deployment("on-the-node", 1);
        // A node that does not exist: nothing is to run on the network of the one that does.
        let spec = json!({"hostNetwork": true, "nodeSelector": {"none": "such"}});
        on_the_node["spec"]["template"]["spec"] = with(on_the_node["spec"]["template"]["spec"].take(), spec);
        let cases = [
            (
                deployment_with("refused", (names::PROFILE_ANNOTATION, "nowhere")),
                "rejected",
                "ProfileNotFound",
                "nowhere",
            ),
            (on_the_node, "skipped", "HostNetwork", "pod not injected"),
            (server_deployment("fine", 1), "injected", "Injected", "outrigger-system/default"),
        ];
        for (deployment, result, reason, words) in cases {
            let before = counted(&release, &admissions(result, reason, false)).await;
            let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
            ns.create::<Deployment>(deployment).await.unwrap();
            let event = told(&ns, reason).await;
            let about = event.involved_object.name.unwrap_or_default();
            assert!(about.starts_with(&format!("{name}-")), "{reason} about {about}");
            let message = event.message.unwrap_or_default();
            assert!(message.contains(words), "no {words:?} in {message:?}");
            let kind = if result == "injected" { "Normal" } else { "Warning" };
            assert_eq!(event.type_.as_deref(), Some(kind), "{message}");
            assert!(counted(&release, &admissions(result, reason, false)).await > before, "{reason}");
            eventually(&format!("a log line of {reason}"), DEADLINE, || async {
                ensure!(logged(&release, &ns, result, reason).await > 0, "there is none");
                Ok(())
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_is_counted_as_one_and_told_to_nobody() {
    in_namespace(&[ENABLED], |release, ns| async move {
        ns.create::<Deployment>(server_deployment("web", 0)).await.unwrap();
        let owner = eventually("the replicaset", DEADLINE, || async {
            let sets = ns.api::<ReplicaSet>().list(&ListParams::default()).await?;
            sets.items.first().and_then(|set| set.controller_owner_ref(&())).context("there is none")
        })
        .await;
        let pod_with = |key: &str, value: &str| {
            let metadata = json!({"ownerReferences": [owner], "annotations": {key: value}});
            with(server_pod("web"), json!({ "metadata": metadata }))
        };
        let dry_runs = admissions("rejected", "InvalidAnnotation", true);
        let before = counted(&release, &dry_runs).await;
        ns.dry_run(pod_with("outrigger.dev/proxy-cpu-request", "lots")).await.expect_err("it is wrong");
        assert_eq!(counted(&release, &dry_runs).await, before + 1);
        // What is created in earnest later is told.
        let refused = ns.create::<Pod>(pod_with(names::PROFILE_ANNOTATION, "nowhere")).await;
        refused.expect_err("there is no such profile");
        told(&ns, "ProfileNotFound").await;
        let events = ns.events("ReplicaSet", "InvalidAnnotation").await.unwrap();
        assert!(events.is_empty(), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_from_before_its_label_counts_as_missing_until_it_is_replaced() {
    in_namespace(&[], |release, ns| async move {
        ns.create::<Deployment>(server_deployment("web", 1)).await.unwrap();
        assert_untouched(&ns.rolled_out("web").await[0]);
        ns.label(ENABLED).await;
        stand(&release, &ns, 1, "missing").await;
        told(&ns, "SidecarsMissing").await;

        ns.restart("web").await;
        assert_injected(&ns.rolled_out("web").await[0]);
        stand(&release, &ns, 0, "missing").await;
        stand(&release, &ns, 1, "current").await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_profile_reaches_pods_by_itself_and_a_restart_that_is_needed_is_told() {
    in_namespace(&[ENABLED], |release, ns| async move {
        ns.create_profile("own", json!({"proxy": {"logLevel": "info"}})).await.unwrap();
        // The watch of the webhook may not know the profile yet; the Deployment tries again.
        ns.create::<Deployment>(deployment_with("web", (names::PROFILE_ANNOTATION, "own"))).await.unwrap();
        let before = ns.rolled_out("web").await.remove(0);
        assert_eq!(running_config(&ns, &before).await.unwrap()["logLevel"], "info");
        eventually("the profile to count its pod", DEADLINE, || async {
            let status = ns.profiles().get_status("own").await?.data["status"].take();
            ensure!(status["pods"] == 1 && status["conditions"][0]["reason"] == "Valid", "{status}");
            Ok(())
        })
        .await;

        ns.change_profile("own", json!({"proxy": {"logLevel": "debug"}})).await;
        eventually("the proxy to run by the changed profile", DEADLINE, || async {
            let running = running_config(&ns, &before).await?;
            ensure!(running["logLevel"] == "debug", "{running}");
            Ok(())
        })
        .await;
        told(&ns, "Reconfigured").await;
        let reloaded = ns.rolled_out("web").await.remove(0);
        assert_eq!((reloaded.uid(), restarts(&reloaded)), (before.uid(), 0));

        // One change with two parts: none of it is written to a pod that can't have the other.
        let resources = json!({"requests": {"cpu": "15m"}});
        ns.change_profile("own", json!({"proxy": {"logLevel": "warn", "resources": resources}})).await;
        stand(&release, &ns, 1, "outdated").await;
        let message = told(&ns, "RestartNeeded").await.message.unwrap_or_default();
        assert!(message.contains("resources.requests.cpu"), "{message}");
        let kept = ns.rolled_out("web").await.remove(0);
        assert_eq!((kept.uid(), kept.annotations()), (reloaded.uid(), reloaded.annotations()));

        ns.restart("web").await;
        let after = ns.rolled_out("web").await.remove(0);
        assert_eq!(running_config(&ns, &after).await.unwrap()["logLevel"], "warn");
        stand(&release, &ns, 0, "outdated").await;
    })
    .await;
}
