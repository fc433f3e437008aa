//! How traffic comes to the proxy: redirected by the kernel, or by ports, and calls of the app as well as calls to it.

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{LogParams, PostParams};
use outrigger_api::config::Interception;
use outrigger_api::names;
use outrigger_e2e::injected::{assert_injected, config};
use outrigger_e2e::manifest::{demo_container, fetch_job, server_deployment, server_pod, service, with};
use outrigger_e2e::namespace::{DEADLINE, is_ready, summary};
use outrigger_e2e::{Namespace, eventually, metrics};
use serde_json::{Value, json};

use super::in_namespace;
use super::rollout::rolls_out_under_load;
use crate::ENABLED;

const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");
const INTERCEPTION: &str = "outrigger.dev/interception";
const REQUESTS: &str = "outrigger_http_requests_total";

/// A Service for the pods labelled `app: <pods>`, by a port's number.
fn service_by_number(name: &str, pods: &str) -> Value {
    let mut by_number = service(pods);
    by_number["metadata"]["name"] = name.into();
    by_number["spec"]["ports"][0]["targetPort"] = 8080.into();
    by_number
}

/// A pod that calls this URL so often (not one with the pod's own name, which is its hostname), beside a server that stays, so that its proxy can be asked what it has counted.
fn calling_pod(name: &str, url: &str, count: u32) -> Value {
    let count = count.to_string();
    let call = demo_container(&["fetch", url, "--count", &count, "--concurrency", "4", "--wait", "120"]);
    let mut pod = server_pod(name);
    pod["spec"]["restartPolicy"] = "Never".into();
    pod["spec"]["containers"].as_array_mut().unwrap().push(with(call, json!({"name": "call"})));
    pod
}

/// Waits until its calls are made, and fails unless each got a 200.
async fn has_called(ns: &Namespace, name: &str) -> Pod {
    eventually(&format!("{name} to have called"), DEADLINE, || async {
        let pod = ns.api::<Pod>().get(name).await?;
        let status = pod.status.clone().unwrap_or_default();
        let call = status.container_statuses.into_iter().flatten().find(|status| status.name == "call");
        let ended = call.and_then(|call| call.state?.terminated).with_context(|| summary(&pod))?;
        assert_eq!(ended.exit_code, 0, "the calls failed: {ended:?}");
        Ok(pod)
    })
    .await
}

/// Waits until these pods have counted so many, all together.
async fn assert_counted(ns: &Namespace, pods: &[Pod], selector: &str, wanted: u64) {
    eventually(&format!("{wanted} to be counted"), DEADLINE, || async {
        let counted = metrics::sum_over(&ns.client, pods, &format!("{REQUESTS}{selector}")).await?;
        ensure!(counted == wanted, "{counted} of {wanted}: {selector}");
        Ok(())
    })
    .await;
}

/// Has the namespace's pods redirected. Of the annotation the webhook hears a moment later.
async fn redirect(ns: &Namespace) {
    ns.annotate(INTERCEPTION, "redirect").await;
    eventually("the webhook to know of it", DEADLINE, || async {
        let pod = ns.dry_run(server_pod("probe")).await?;
        let spec = pod.spec.unwrap_or_default();
        let redirected = spec.init_containers.iter().flatten().any(|init| init.name == names::INIT_CONTAINER);
        ensure!(redirected, "a pod that comes now is not redirected");
        Ok(())
    })
    .await;
}

/// Creates a profile named `web`, which the namespace's pods get.
async fn use_profile(ns: &Namespace, interception: &str, spec: Value) {
    ns.annotate(INTERCEPTION, interception).await;
    ns.create_profile("web", spec).await.unwrap();
    ns.annotate(names::PROFILE_ANNOTATION, "web").await;
    // The webhook hears of both a moment later.
    eventually("the webhook to know the profile", DEADLINE, || async {
        let pod = ns.dry_run(server_pod("probe")).await?;
        ensure!(config(&pod).profile.ends_with("/web"), "{}", config(&pod).profile);
        Ok(())
    })
    .await;
}

fn upstream(name: &str, env: Option<&str>) -> Value {
    with(json!({"name": name, "host": name, "port": 80}), json!({"env": env}))
}

#[tokio::test]
async fn redirected_calls_are_counted_exactly_on_both_sides_by_number_and_by_name() {
    in_namespace(&[ENABLED], |ns| async move {
        use_profile(&ns, "redirect", json!({"upstreams": [upstream("web", None)]})).await;
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create::<Service>(service_by_number("by-number", "web")).await.unwrap();
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        let servers = ns.rolled_out("web").await;
        for pod in &servers {
            assert_injected(pod);
            assert_eq!(config(pod).interception, Interception::Redirect);
        }
        ns.leads_to_its_pods("web").await;
        ns.leads_to_its_pods("by-number").await;
        ns.create::<Pod>(calling_pod("names", "http://web/", 300)).await.unwrap();
        ns.create::<Pod>(calling_pod("numbers", "http://by-number/", 200)).await.unwrap();
        let by_name = has_called(&ns, "names").await;
        let by_number = has_called(&ns, "numbers").await;
        assert_counted(&ns, &servers, r#"{direction="inbound",port="http"}"#, 500).await;
        assert_counted(&ns, &[by_name], r#"{direction="outbound",port="80",upstream="web"}"#, 300).await;
        assert_counted(&ns, &[by_number], r#"{direction="outbound",port="80",upstream="_other"}"#, 200).await;
    })
    .await;
}

#[tokio::test]
async fn calls_by_ports_are_counted_exactly_on_both_sides() {
    in_namespace(&[ENABLED, RESTRICTED], |ns| async move {
        use_profile(&ns, "auto", json!({"upstreams": [upstream("web", Some("WEB_URL"))]})).await;
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        let servers = ns.rolled_out("web").await;
        for pod in &servers {
            assert_eq!(config(pod).interception, Interception::Ports, "the namespace allows no more");
        }
        ns.leads_to_its_pods("web").await;
        ns.create::<Pod>(calling_pod("caller", "$(WEB_URL)/", 300)).await.unwrap();
        let caller = has_called(&ns, "caller").await;
        assert_counted(&ns, &servers, r#"{direction="inbound",port="http"}"#, 300).await;
        assert_counted(&ns, &[caller], r#"{direction="outbound",port="80",upstream="web"}"#, 300).await;
    })
    .await;
}

/// Its Service is reached at the node, which sends it back. The calls begin before the Service leads anywhere, so they are tried again.
#[tokio::test]
async fn a_redirected_pod_calls_itself_through_its_service() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        let early = json!({"spec": {"publishNotReadyAddresses": true}});
        ns.create::<Service>(with(service_by_number("itself", "self"), early)).await.unwrap();
        let again = json!({"metadata": {"labels": {"app": "self"}}, "spec": {"restartPolicy": "OnFailure"}});
        ns.create::<Pod>(with(calling_pod("self", "http://itself/", 50), again)).await.unwrap();
        eventually("the pod to have called itself", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("self").await?;
            let status = pod.status.clone().unwrap_or_default();
            let call = status.container_statuses.into_iter().flatten().find(|status| status.name == "call");
            let ended = call.and_then(|call| call.state?.terminated).with_context(|| summary(&pod))?;
            ensure!(ended.exit_code == 0, "{ended:?}");
            let counted = |direction: &str| {
                let selector = format!(r#"{REQUESTS}{{direction="{direction}",code="200"}}"#);
                let (client, pods) = (ns.client.clone(), vec![pod.clone()]);
                async move { metrics::sum_over(&client, &pods, &selector).await }
            };
            let (out, back) = (counted("outbound").await?, counted("inbound").await?);
            ensure!(out >= 50 && out == back, "{out} went out, {back} came in");
            Ok(())
        })
        .await;
    })
    .await;
}

/// The rules are there before any other container, and so must be the proxy.
#[tokio::test]
async fn a_users_init_container_calls_a_service_through_the_proxy() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create::<Pod>(with(server_pod("web"), json!({"metadata": {"labels": {"app": "web"}}})))
            .await
            .unwrap();
        ns.pod_ready("web").await;
        ns.leads_to_its_pods("web").await;
        let mut pod = server_pod("worker");
        let call = demo_container(&["fetch", "http://web/", "--count", "20", "--wait", "120"]);
        pod["spec"]["initContainers"] = json!([with(call, json!({"name": "warm"}))]);
        ns.create::<Pod>(pod).await.unwrap();
        let worker = ns.pod_ready("worker").await;
        let inits: Vec<_> =
            worker.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).collect();
        let inits: Vec<_> = inits.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(inits, [names::INIT_CONTAINER, names::PROXY_CONTAINER, "warm"]);
        assert_counted(&ns, &[worker], r#"{direction="outbound",port="80"}"#, 20).await;
    })
    .await;
}

#[tokio::test]
async fn a_redirected_job_completes() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        ns.create::<Service>(service_by_number("web", "web")).await.unwrap();
        ns.create::<Pod>(with(server_pod("web"), json!({"metadata": {"labels": {"app": "web"}}})))
            .await
            .unwrap();
        ns.pod_ready("web").await;
        ns.leads_to_its_pods("web").await;
        ns.create::<Job>(fetch_job("fetch", "http://web/", 10)).await.unwrap();
        ns.job_completed("fetch").await;
        assert_injected(&ns.pods("job-name=fetch").await.unwrap()[0]);
    })
    .await;
}

#[tokio::test]
async fn a_rollout_of_redirected_pods_fails_no_request() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        rolls_out_under_load(&ns, service_by_number("web", "web")).await;
    })
    .await;
}

/// A server that speaks first, with the client of its own making, through two proxies that know nothing of it.
#[tokio::test]
async fn a_database_that_speaks_first_is_reached() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        let database = |name: &str, command: Value| {
            let container = demo_container(&[]);
            let security = json!({"runAsUser": 1000});
            let image = json!({"name": name, "image": "outrigger/database:dev", "command": command, "securityContext": security});
            with(container, with(image, json!({"args": null})))
        };
        let command = json!(["/usr/local/bin/mariadbd", "--no-defaults", "--datadir=/data", "--socket=/data/socket",
            "--tmpdir=/data", "--skip-grant-tables", "--skip-log-bin", "--lc-messages-dir=/usr/share/mysql", "--bind-address=0.0.0.0"]);
        let server = with(database("database", command), json!({
            // Without a name, as most have it.
            "ports": [{"containerPort": 3306}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "readinessProbe": {"tcpSocket": {"port": 3306}, "periodSeconds": 1},
        }));
        ns.create::<Pod>(json!({
            "metadata": {"name": "db", "labels": {"app": "db"}},
            "spec": {"containers": [server], "volumes": [{"name": "data", "emptyDir": {}}], "terminationGracePeriodSeconds": 5},
        }))
        .await
        .unwrap();
        ns.create::<Service>(json!({
            "metadata": {"name": "db"},
            "spec": {"selector": {"app": "db"}, "ports": [{"port": 3306}]},
        }))
        .await
        .unwrap();
        let db = ns.pod_ready("db").await;

        let query = json!(["/usr/local/bin/mariadb", "--no-defaults", "--host=db", "--user=root", "--skip-ssl",
            "--connect-timeout=60", "--execute=select 6*7"]);
        // Again where the node's kube-proxy had not heard of the database yet: then nothing has come to it.
        let job = json!({
            "metadata": {"name": "query"},
            "spec": {"backoffLimit": 6, "template": {"spec": {"restartPolicy": "OnFailure", "containers": [database("query", query)]}}},
        });
        ns.api::<Job>().create(&PostParams::default(), &outrigger_e2e::namespace::from_json(job)).await.unwrap();
        ns.job_completed("query").await;
        let answer = ns.logs_of("job-name=query").await;
        assert!(answer.contains("42"), "{answer}");
        let closed = r#"outrigger_tcp_connections_closed_total{direction="inbound",port="3306",reason=""}"#;
        eventually("the query to be counted", DEADLINE, || async {
            let counted = metrics::sum_over(&ns.client, std::slice::from_ref(&db), closed).await?;
            ensure!(counted == 1, "{counted} connections");
            Ok(())
        })
        .await;
    })
    .await;
}

/// Each pod has an address and a name of its own, and the headless Service leads to all of them at once.
#[tokio::test]
async fn the_pods_of_a_statefulset_are_called_by_their_own_names() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        let headless = json!({"spec": {"clusterIP": "None", "ports": [{"port": 8080, "targetPort": 8080}]}});
        ns.create::<Service>(with(service("web"), headless)).await.unwrap();
        let mut web = server_deployment("web", 2);
        web["spec"]["serviceName"] = "web".into();
        ns.create::<StatefulSet>(web).await.unwrap();
        let (first, second) = (ns.pod_ready("web-0").await, ns.pod_ready("web-1").await);
        ns.create::<Pod>(calling_pod("one", "http://web-0.web:8080/", 100)).await.unwrap();
        has_called(&ns, "one").await;
        assert_counted(&ns, std::slice::from_ref(&first), r#"{direction="inbound",port="http"}"#, 100).await;
        ns.create::<Pod>(calling_pod("any", "http://web:8080/", 60)).await.unwrap();
        let any = has_called(&ns, "any").await;
        assert_counted(&ns, &[first, second], r#"{direction="inbound",port="http"}"#, 160).await;
        assert_counted(&ns, &[any], r#"{direction="outbound",port="8080",upstream="_other"}"#, 60).await;
    })
    .await;
}

/// Without its rules no traffic would pass the proxy, so nothing of the pod starts.
#[tokio::test]
async fn a_pod_whose_rules_can_not_be_written_stays_not_ready_and_says_why() {
    in_namespace(&[ENABLED], |ns| async move {
        redirect(&ns).await;
        let mut pod = serde_json::to_value(ns.dry_run(server_pod("web")).await.unwrap()).unwrap();
        pod["metadata"] = with(
            json!({"name": "web", "labels": {"outrigger.dev/inject": "disabled"}}),
            json!({"annotations": pod["metadata"]["annotations"]}),
        );
        // As a policy engine may take it away after us.
        let init = &mut pod["spec"]["initContainers"][0];
        assert_eq!(init["name"], names::INIT_CONTAINER);
        init["securityContext"]["capabilities"] = json!({"drop": ["ALL"]});
        ns.create::<Pod>(pod).await.unwrap();
        eventually("the first container to have failed", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("web").await?;
            let status = pod.status.clone().unwrap_or_default();
            let init = status.init_container_statuses.into_iter().flatten().next().context("not started")?;
            ensure!(init.restart_count > 0, "{}", summary(&pod));
            ensure!(!is_ready(&pod), "it is ready without its rules");
            let app = status.container_statuses.into_iter().flatten().next().context("no app")?;
            ensure!(app.started != Some(true), "the app runs without its rules");
            Ok(())
        })
        .await;
        let of_init = LogParams { container: Some(names::INIT_CONTAINER.to_owned()), ..LogParams::default() };
        let said = ns.api::<Pod>().logs("web", &of_init).await.unwrap();
        assert!(said.contains("NET_ADMIN"), "{said}");
    })
    .await;
}

/// What can't be redirected does not start without being so: the rules need what the namespace forbids.
#[tokio::test]
async fn redirect_where_it_is_forbidden_leaves_no_pod_that_goes_past_the_proxy() {
    in_namespace(&[ENABLED, RESTRICTED], |ns| async move {
        let asked = json!({"metadata": {"annotations": {INTERCEPTION: "redirect"}}});
        let refused = ns.create::<Pod>(with(server_pod("web"), asked)).await;
        let message = refused.expect_err("the capability is not allowed").to_string();
        assert!(message.contains("NET_ADMIN"), "{message}");
        assert!(ns.pods("").await.unwrap().iter().all(|pod| pod.name_any() != "web"));
    })
    .await;
}
