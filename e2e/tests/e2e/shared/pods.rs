//! What happens to pods.

use anyhow::ensure;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::ListParams;
use outrigger_api::names;
use outrigger_api::profile::LogLevel;
use outrigger_e2e::injected::{assert_injected, assert_untouched, config, proxy};
use outrigger_e2e::manifest::{fetch_job, server_deployment, server_pod, service, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, eventually, metrics};
use serde_json::{Value, json};

use super::in_namespace;
use super::rollout::rolls_out_under_load;
use crate::ENABLED;

const DISABLED: (&str, &str) = (names::INJECT_LABEL, names::DISABLED);
const REQUESTS: &str = "outrigger_http_requests_total";

fn labelled((key, value): (&str, &str)) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

fn using_profile(name: &str) -> Value {
    json!({"metadata": {"annotations": {names::PROFILE_ANNOTATION: name}}})
}

#[tokio::test]
async fn a_labelled_namespace_opts_its_pods_in() {
    in_namespace(&[ENABLED], |ns| async move {
        let pod = ns.create::<Pod>(server_pod("web")).await.unwrap();
        assert_injected(&pod);
        ns.pod_ready("web").await;
    })
    .await;
}

#[tokio::test]
async fn a_labelled_pod_opts_itself_in() {
    in_namespace(&[], |ns| async move {
        let pod = ns.create::<Pod>(with(server_pod("web"), labelled(ENABLED))).await.unwrap();
        assert_injected(&pod);
        ns.pod_ready("web").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_opts_out_of_its_labelled_namespace() {
    in_namespace(&[ENABLED], |ns| async move {
        let pod = ns.create::<Pod>(with(server_pod("web"), labelled(DISABLED))).await.unwrap();
        assert_untouched(&pod);
    })
    .await;
}

#[tokio::test]
async fn a_pod_opts_in_where_its_namespace_opts_out() {
    in_namespace(&[DISABLED], |ns| async move {
        assert_untouched(&ns.dry_run(server_pod("web")).await.unwrap());
        assert_injected(&ns.dry_run(with(server_pod("web"), labelled(ENABLED))).await.unwrap());
    })
    .await;
}

/// Selected by `enabled` alone, either would start without sidecars and nobody would know why.
#[tokio::test]
async fn a_label_with_a_third_value_refuses_its_pod_and_skips_a_namespace() {
    in_namespace(&[(names::INJECT_LABEL, "true")], |ns| async move {
        assert_untouched(&ns.dry_run(server_pod("web")).await.unwrap());
        let refused = ns.dry_run(with(server_pod("web"), labelled((names::INJECT_LABEL, "yes")))).await;
        let message = refused.expect_err("yes is neither enabled nor disabled").to_string();
        for wanted in ["InvalidLabel", "\"yes\"", "enabled or disabled"] {
            assert!(message.contains(wanted), "no {wanted:?} in {message:?}");
        }
    })
    .await;
}

/// They come with `generateName`, and with their namespace in the request alone.
#[tokio::test]
async fn pods_of_a_deployment_are_injected() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        for pod in ns.rolled_out("web").await {
            assert_injected(&pod);
        }
    })
    .await;
}

/// Before and after a rollout: all pods that are counted are those of the newest template.
#[tokio::test]
async fn requests_through_a_service_are_counted_exactly() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        let first = ns.rolled_out("web").await;
        ns.leads_to_its_pods("web").await;
        fetch(&ns, "before", 300).await;
        assert_counted(&ns, &first, 300).await;

        ns.restart("web").await;
        let second = ns.rolled_out("web").await;
        ns.leads_to_its_pods("web").await;
        assert_eq!(metrics::sum_over(&ns.client, &second, REQUESTS).await.unwrap(), 0);
        fetch(&ns, "after", 200).await;
        assert_counted(&ns, &second, 200).await;
    })
    .await;
}

async fn fetch(ns: &Namespace, job: &str, count: u32) {
    ns.create::<Job>(fetch_job(job, "http://web/", count)).await.unwrap();
    ns.job_completed(job).await;
}

async fn assert_counted(ns: &Namespace, pods: &[Pod], sent: u64) {
    eventually("the sidecars to have counted every request", DEADLINE, || async {
        let counted = metrics::sum_over(&ns.client, pods, REQUESTS).await?;
        assert!(counted <= sent, "{counted} requests counted, {sent} sent");
        ensure!(counted == sent, "{counted} of {sent}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_rollout_fails_no_request() {
    in_namespace(&[ENABLED], |ns| async move { rolls_out_under_load(&ns, service("web")).await }).await;
}

/// A sidecar that went on running would keep the Job from ever completing.
#[tokio::test]
async fn a_job_completes_with_its_sidecar() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create::<Pod>(with(server_pod("web"), json!({"metadata": {"labels": {"app": "web"}}})))
            .await
            .unwrap();
        ns.pod_ready("web").await;
        ns.leads_to_its_pods("web").await;

        // A port, though nobody listens on it: something for the proxy to take over.
        let mut job = fetch_job("fetch", "http://web/", 10);
        job["spec"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{"name": "http", "containerPort": 9000}]);
        ns.create::<Job>(job).await.unwrap();
        ns.job_completed("fetch").await;
        assert_injected(&ns.pods("job-name=fetch").await.unwrap()[0]);
    })
    .await;
}

#[tokio::test]
async fn pod_security_restricted_takes_injected_pods() {
    let restricted = ("pod-security.kubernetes.io/enforce", "restricted");
    in_namespace(&[ENABLED, restricted], |ns| async move {
        let pod = ns.create::<Pod>(server_pod("web")).await.expect("the namespace takes the pod");
        assert_injected(&pod);
        ns.pod_ready("web").await;
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_shows_the_sidecar_and_creates_nothing() {
    in_namespace(&[ENABLED], |ns| async move {
        assert_injected(&ns.dry_run(server_pod("web")).await.unwrap());
        assert!(ns.pods("").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_missing_profile_is_refused_with_those_that_exist() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("web", json!({})).await.unwrap();
        eventually("a refusal that names both profiles", DEADLINE, || async {
            let refused = ns.dry_run(with(server_pod("web"), using_profile("wbe"))).await;
            let message = refused.expect_err("there is no such profile").to_string();
            for wanted in ["wbe", &format!("{}/web", ns.name), "outrigger-system/default"] {
                ensure!(message.contains(wanted), "no {wanted:?} in {message:?}");
            }
            Ok(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_picks_a_profile_of_its_namespace() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("chatty", json!({"proxy": {"logLevel": "debug"}})).await.unwrap();
        let pod = ns.dry_run(with(server_pod("web"), using_profile("chatty"))).await.unwrap();
        assert_eq!(config(&pod).profile, format!("{}/chatty", ns.name));
        assert_eq!(config(&pod).log_level, LogLevel::Debug);
    })
    .await;
}

#[tokio::test]
async fn a_namespace_picks_the_profile_of_its_pods() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("chatty", json!({"proxy": {"logLevel": "debug"}})).await.unwrap();
        ns.annotate(names::PROFILE_ANNOTATION, "chatty").await;
        eventually("the webhook to see the annotation", DEADLINE, || async {
            let profile = config(&ns.dry_run(server_pod("web")).await?).profile;
            ensure!(profile == format!("{}/chatty", ns.name), "{profile}");
            Ok(())
        })
        .await;
    })
    .await;
}

/// The name is the proxy's now, but a probe is to ask the app; and what it asks is no traffic.
#[tokio::test]
async fn a_probe_by_port_name_asks_the_app() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Pod>(server_pod("web")).await.unwrap();
        let pod = ns.pod_ready("web").await;
        let port = |c: &k8s_openapi::api::core::v1::Container| c.ports.clone().unwrap_or_default();
        let named =
            port(proxy(&pod).expect("it is injected")).into_iter().any(|p| p.name.as_deref() == Some("http"));
        assert!(named, "the proxy has the port's name");
        assert_eq!(metrics::sum_over(&ns.client, &[pod], REQUESTS).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_shared_volume_is_where_the_profile_asks() {
    in_namespace(&[ENABLED], |ns| async move {
        let mounts = json!([
            {"container": "app", "path": "/var/shared"},
            {"container": "second", "path": "/data", "readOnly": true},
        ]);
        ns.create_profile("shared", json!({"sharedVolume": {"mounts": mounts}})).await.unwrap();
        let mut pod = server_pod("web");
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        let second = with(containers[0].clone(), json!({"name": "second", "ports": null, "readinessProbe": null, "args": ["serve", "--port", "8081"]}));
        containers.push(second);
        ns.create::<Pod>(with(pod, using_profile("shared"))).await.unwrap();
        let pod = ns.pod_ready("web").await;
        assert_eq!(shared_mounts(&pod), ["app:/var/shared", "second:/data:ro"]);
    })
    .await;
}

fn shared_mounts(pod: &Pod) -> Vec<String> {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let mounts =
        containers.iter().flat_map(|c| c.volume_mounts.iter().flatten().map(move |mount| (c, mount)));
    mounts
        .filter(|(_, mount)| mount.name == names::SHARED_VOLUME)
        .map(|(c, mount)| {
            let read_only = if mount.read_only == Some(true) { ":ro" } else { "" };
            format!("{}:{}{read_only}", c.name, mount.mount_path)
        })
        .collect()
}

/// What reinvocation does, and a backup that restores pods as they were.
#[tokio::test]
async fn a_second_admission_changes_nothing() {
    in_namespace(&[ENABLED], |ns| async move {
        let first = ns.dry_run(server_pod("web")).await.unwrap();
        let again = json!({
            "metadata": {"name": "again", "labels": first.labels(), "annotations": first.annotations()},
            "spec": first.spec,
        });
        let second = ns.dry_run(again).await.unwrap();
        assert_eq!(first.spec, second.spec);
        assert_eq!(first.labels(), second.labels());
        assert_eq!(first.annotations(), second.annotations());
    })
    .await;
}

/// Many at once, as a node that drains makes them.
#[tokio::test]
async fn a_burst_of_pods_is_injected_to_the_last() {
    in_namespace(&[ENABLED], |ns| async move {
        let names: Vec<_> = (0..50).map(|i| format!("web-{i}")).collect();
        let gate = json!({"spec": {"schedulingGates": [{"name": "outrigger.dev/e2e"}]}});
        let pods =
            try_join_all(names.iter().map(|name| ns.create::<Pod>(with(server_pod(name), gate.clone()))))
                .await;
        for pod in pods.unwrap() {
            assert_injected(&pod);
        }
        assert_eq!(ns.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len(), 50);
    })
    .await;
}
