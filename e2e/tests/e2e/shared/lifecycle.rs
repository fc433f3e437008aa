//! A pod's life beside its proxy: probes, start and end, resources, and what the cluster allows.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota, Service};
use kube::ResourceExt;
use outrigger_api::names;
use outrigger_e2e::injected::{config, proxy};
use outrigger_e2e::manifest::{fetch_job, server_deployment, server_pod, service, with};
use outrigger_e2e::namespace::{DEADLINE, is_ready, summary};
use outrigger_e2e::{Namespace, eventually, metrics};
use serde_json::{Value, json};

use super::in_namespace;
use crate::ENABLED;

const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// Changes the app's container; the pod, or the template of a workload, is at `pod`.
fn change_app(manifest: &mut Value, pod: &str, change: Value) {
    let app = manifest.pointer_mut(&format!("{pod}/spec/containers/0")).unwrap();
    *app = with(app.take(), change);
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {format!("{}{key}", names::PREFIX): value}}})
}

/// Tells the app to say `up` or `down` from now on, on its own port and so past the proxy.
async fn set_health(ns: &Namespace, pod: &str, state: &str) {
    let uri = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/healthz/{state}", ns.name);
    ns.client.request_text(http::Request::put(uri).body(Vec::new()).unwrap()).await.unwrap();
}

/// Ready, and restarts so far, of one container.
fn container_state(pod: &Pod, name: &str) -> (bool, i32) {
    let status = pod.status.clone().unwrap_or_default();
    let mut all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
    all.find(|status| status.name == name).map_or((false, 0), |status| (status.ready, status.restart_count))
}

/// A pod with a probe of each kind, on ports that are taken over, in the two ways to give a port.
fn probed_pod() -> Value {
    let mut pod = server_pod("web");
    let readiness = json!({
        "httpGet": {"path": "/healthz", "port": "http", "httpHeaders": [{"name": "Host", "value": "shop.example"}]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "timeoutSeconds": 10,
    });
    let change = json!({
        "args": ["serve", "--port", "8080", "--grpc-port", "9090"],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9090}],
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": readiness,
        "livenessProbe": {"grpc": {"port": 9090}, "periodSeconds": 1, "failureThreshold": 1000},
        "lifecycle": {"preStop": {"httpGet": {"path": "/slow?ms=100", "port": "http"}}},
    });
    change_app(&mut pod, "", change);
    pod
}

/// A probe that asked the proxy, and not the app, would go on saying that all is well.
#[tokio::test]
async fn an_app_that_is_down_is_unready_although_its_proxy_is_well_and_recovers() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Pod>(probed_pod()).await.unwrap();
        let pod = ns.pod_ready("web").await;
        assert_eq!(config(&pod).probes.len(), 4, "all four go through the proxy");

        set_health(&ns, "web", "down").await;
        let pod = eventually("the pod to be unready", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("web").await?;
            ensure!(!is_ready(&pod), "{}", summary(&pod));
            Ok(pod)
        })
        .await;
        assert_eq!(container_state(&pod, "app"), (false, 0));
        assert_eq!(container_state(&pod, names::PROXY_CONTAINER), (true, 0));

        set_health(&ns, "web", "up").await;
        let pod = ns.pod_ready("web").await;
        let counted = metrics::sum_over(&ns.client, &[pod], "outrigger_http_requests_total").await.unwrap();
        assert_eq!(counted, 0, "a probe is no traffic");
    })
    .await;
}

#[tokio::test]
async fn an_app_whose_liveness_fails_is_restarted_and_its_proxy_is_not() {
    in_namespace(&[ENABLED], |ns| async move {
        let mut pod = probed_pod();
        change_app(&mut pod, "", json!({"livenessProbe": {"failureThreshold": 2, "timeoutSeconds": 10}}));
        ns.create::<Pod>(pod).await.unwrap();
        ns.pod_ready("web").await;
        set_health(&ns, "web", "down").await;
        let pod = eventually("the app to be restarted", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("web").await?;
            ensure!(container_state(&pod, "app").1 > 0, "{}", summary(&pod));
            Ok(pod)
        })
        .await;
        assert_eq!(container_state(&pod, names::PROXY_CONTAINER).1, 0);
        ns.pod_ready("web").await;
    })
    .await;
}

/// Over TLS, by whatever certificate; with `host: localhost`, which asks the node and is left as it is; and a handler at the start,
/// without which a pod does not become ready.
#[tokio::test]
async fn https_is_asked_over_tls_and_what_asks_the_node_stays() {
    in_namespace(&[ENABLED], |ns| async move {
        let mut pod = server_pod("web");
        let node = json!({"httpGet": {"path": "/healthz", "port": 8443, "host": "localhost"}, "failureThreshold": 1000});
        let change = json!({
            "args": ["serve", "--port", "8080", "--https-port", "8443"],
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "https", "containerPort": 8443}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"}, "periodSeconds": 1, "failureThreshold": 1},
            "livenessProbe": node,
            "lifecycle": {"postStart": {"httpGet": {"path": "/slow?ms=500", "port": "http"}}},
        });
        change_app(&mut pod, "", change);
        ns.create::<Pod>(pod).await.unwrap();
        let pod = ns.pod_ready("web").await;
        let config = config(&pod);
        let kinds: Vec<_> = config.probes.iter().map(|probe| format!("{:?}", probe.kind)).collect();
        assert_eq!(kinds, ["Readiness", "PostStart"]);
        let app = pod.spec.as_ref().unwrap().containers.iter().find(|container| container.name == "app").unwrap();
        let liveness = app.liveness_probe.as_ref().and_then(|probe| probe.http_get.as_ref()).unwrap();
        assert_eq!(liveness.host.as_deref(), Some("localhost"), "{liveness:?}");

        set_health(&ns, "web", "down").await;
        eventually("the pod to be unready", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("web").await?;
            ensure!(!is_ready(&pod), "{}", summary(&pod));
            Ok(())
        })
        .await;
    })
    .await;
}

/// The kubelet asks the app itself, on the port whose name has gone to the proxy.
#[tokio::test]
async fn probes_are_left_to_the_kubelet_where_an_annotation_says_so() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Pod>(with(probed_pod(), annotated("rewrite-probes", "false"))).await.unwrap();
        let pod = ns.pod_ready("web").await;
        assert!(config(&pod).probes.is_empty());
        let counted = metrics::sum_over(&ns.client, &[pod], "outrigger_http_requests_total").await.unwrap();
        assert_eq!(counted, 0, "the kubelet does not ask through the proxy");
    })
    .await;
}

/// The user's native sidecar starts before the app, and its probe is answered by the proxy, which starts before it.
#[tokio::test]
async fn a_native_sidecar_of_the_users_is_probed_through_the_proxy() {
    in_namespace(&[ENABLED], |ns| async move {
        let mut pod = server_pod("web");
        let app = pod["spec"]["containers"][0].clone();
        let helper = json!({
            "name": "helper",
            "restartPolicy": "Always",
            "args": ["serve", "--port", "8081"],
            "ports": [{"name": "helper", "containerPort": 8081}],
            "readinessProbe": null,
            "startupProbe": {"httpGet": {"path": "/healthz", "port": "helper"}, "periodSeconds": 1},
        });
        pod["spec"]["initContainers"] = json!([with(app, helper)]);
        ns.create::<Pod>(pod).await.unwrap();
        let pod = ns.pod_ready("web").await;
        assert!(config(&pod).probes.iter().any(|probe| probe.container == "helper"));
    })
    .await;
}

/// Fails unless the proxy is the first of the plain containers.
#[track_caller]
fn assert_plain(pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.containers[0].name, names::PROXY_CONTAINER);
    assert!(proxy(pod).is_some_and(|proxy| proxy.restart_policy.is_none()));
}

#[tokio::test]
async fn a_plain_proxy_serves_and_goes_with_its_app() {
    in_namespace(&[ENABLED, RESTRICTED], |ns| async move {
        ns.create::<Service>(service("web")).await.unwrap();
        let mut web = server_deployment("web", 2);
        let template = &mut web["spec"]["template"];
        *template = with(template.take(), annotated("native-sidecars", "never"));
        // As apps behind a Service must: it goes on for a while when it is told to end. The proxy has to, too.
        change_app(&mut web, "/spec/template", json!({"lifecycle": {"preStop": {"sleep": {"seconds": 2}}}}));
        ns.create::<Deployment>(web).await.unwrap();
        let pods = ns.rolled_out("web").await;
        pods.iter().for_each(assert_plain);

        ns.leads_to_its_pods("web").await;
        ns.create::<Job>(fetch_job("fetch", "http://web/", 100)).await.unwrap();
        ns.job_completed("fetch").await;
        eventually("the sidecars to have counted every request", DEADLINE, || async {
            let counted = metrics::sum_over(&ns.client, &pods, "outrigger_http_requests_total").await?;
            ensure!(counted == 100, "{counted} of 100");
            Ok(())
        })
        .await;

        // 5 seconds are given to each pod; a proxy that waited for more than its app would have to be killed.
        let gone = pods[0].name_any();
        ns.api::<Pod>().delete(&gone, &kube::api::DeleteParams::default()).await.unwrap();
        eventually("the pod to be gone", DEADLINE, || async {
            ensure!(ns.api::<Pod>().get_opt(&gone).await?.is_none(), "it is there");
            Ok(())
        })
        .await;
        ns.rolled_out("web").await;
    })
    .await;
}

/// istio#11045, istio#6324: a plain proxy runs on when the work is done, and keeps the Job from completing.
#[tokio::test]
async fn a_job_completes_with_a_plain_proxy() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Service>(service("web")).await.unwrap();
        let labels = json!({"metadata": {"labels": {"app": "web"}}});
        ns.create::<Pod>(with(server_pod("web"), labels)).await.unwrap();
        ns.pod_ready("web").await;
        ns.leads_to_its_pods("web").await;

        let mut job = fetch_job("fetch", "http://web/", 10);
        let template = &mut job["spec"]["template"];
        *template = with(template.take(), annotated("native-sidecars", "never"));
        change_app(&mut job, "/spec/template", json!({"ports": [{"name": "http", "containerPort": 9000}]}));
        ns.create::<Job>(job).await.unwrap();
        ns.job_completed("fetch").await;
        let pod = &ns.pods("job-name=fetch").await.unwrap()[0];
        assert_plain(pod);
        assert_eq!(pod.labels().get(names::FINISH_LABEL).map(String::as_str), Some("true"));
        assert_eq!(container_state(pod, names::PROXY_CONTAINER).1, 0, "it ended in order, once");
    })
    .await;
}

/// istio#57393: the API server refuses a pod whose containers request more than the pod itself.
#[tokio::test]
async fn a_pod_with_resources_as_a_whole_is_taken() {
    in_namespace(&[ENABLED], |ns| async move {
        let mut pod = with(
            server_pod("web"),
            json!({"spec": {"resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "500m"}}}}),
        );
        change_app(&mut pod, "", json!({"resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}}));
        ns.create::<Pod>(pod).await.expect("the containers request no more than the pod");
        let pod = ns.pod_ready("web").await;
        // The API server has filled in the pod's request of memory from its containers before any webhook saw it.
        let budget = pod.spec.as_ref().and_then(|spec| spec.resources.clone()?.requests).unwrap();
        assert_eq!(budget["memory"].0, "16Mi");
        let resources = proxy(&pod).and_then(|proxy| proxy.resources.clone()).unwrap_or_default();
        assert!(resources.requests.is_none() && resources.limits.is_none(), "{resources:?}");
    })
    .await;
}

/// Waits until the annotation has reached the webhook and so the pod is taken.
async fn assert_taken(ns: &Namespace, pod: &Value) {
    eventually("the pod to be taken", DEADLINE, || async {
        let pod = ns.dry_run(pod.clone()).await?;
        ensure!(proxy(&pod).is_some(), "it has no proxy");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_annotation_of_the_namespace_fits_its_limit_range() {
    in_namespace(&[ENABLED], |ns| async move {
        let limits = json!([{"type": "Container", "min": {"memory": "32Mi"}}]);
        ns.create::<LimitRange>(json!({"metadata": {"name": "least"}, "spec": {"limits": limits}}))
            .await
            .unwrap();
        let mut pod = server_pod("web");
        change_app(&mut pod, "", json!({"resources": {"requests": {"memory": "32Mi"}}}));
        eventually("a refusal for the proxy's request", DEADLINE, || async {
            let refused = ns.dry_run(pod.clone()).await.map(|pod| summary(&pod));
            let message = refused.map_or_else(|error| error.to_string(), |pod| format!("taken: {pod}"));
            ensure!(message.contains("minimum memory usage per Container is 32Mi"), "{message}");
            Ok(())
        })
        .await;
        ns.annotate("outrigger.dev/proxy-memory-request", "32Mi").await;
        assert_taken(&ns, &pod).await;
    })
    .await;
}

#[tokio::test]
async fn an_annotation_of_the_namespace_fits_its_quota() {
    in_namespace(&[ENABLED], |ns| async move {
        let hard = json!({"limits.cpu": "2", "requests.memory": "1Gi"});
        ns.create::<ResourceQuota>(json!({"metadata": {"name": "all"}, "spec": {"hard": hard}}))
            .await
            .unwrap();
        let mut pod = server_pod("web");
        let resources = json!({"requests": {"memory": "32Mi"}, "limits": {"cpu": "1"}});
        change_app(&mut pod, "", json!({ "resources": resources }));
        eventually("a refusal for the proxy's missing limit", DEADLINE, || async {
            let refused = ns.dry_run(pod.clone()).await.map(|pod| summary(&pod));
            let message = refused.map_or_else(|error| error.to_string(), |pod| format!("taken: {pod}"));
            ensure!(message.contains("must specify limits.cpu for: outrigger-proxy"), "{message}");
            Ok(())
        })
        .await;
        ns.annotate("outrigger.dev/proxy-cpu-limit", "500m").await;
        assert_taken(&ns, &pod).await;
    })
    .await;
}

/// On OpenShift; the annotation alone is enough to see it.
#[tokio::test]
async fn the_sidecar_runs_as_a_user_that_openshift_allows() {
    in_namespace(&[ENABLED, RESTRICTED], |ns| async move {
        ns.annotate(names::OPENSHIFT_UID_RANGE, "1000650000/10000").await;
        eventually("the webhook to see the annotation", DEADLINE, || async {
            let pod = ns.dry_run(server_pod("web")).await?;
            let context = proxy(&pod).and_then(|proxy| proxy.security_context.clone()).unwrap_or_default();
            ensure!(context.run_as_user == Some(1_000_659_999), "{:?}", context.run_as_user);
            Ok(())
        })
        .await;
    })
    .await;
}
