//! A pod that carries sidecars, or what is left of them, and is admitted once more: it gets what it lacks, nobody else
//! loses anything, and the next admission finds nothing to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use outrigger_inject::{Outcome, Report, Standing, inject, standing, uninject};
use scenario::Scenario;
use serde_json::{Value, json};

fn web() -> Value {
    json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "initContainers": [{"name": "migrate"}],
            "containers": [{
                "name": "app",
                "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9999, "protocol": "UDP"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
            }],
        },
    })
}

fn injected(scenario: &Scenario) -> Value {
    admitted(scenario, &scenario.pod).0
}

/// The pod after an admission that gives a patch; the one after that must give none.
fn admitted(scenario: &Scenario, pod: &Value) -> (Value, Report) {
    let outcome = scenario.inject(pod);
    let Outcome::Injected { patch, report } = outcome else { panic!("{outcome:?}") };
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_nothing_to_do(scenario, &patched);
    (patched, *report)
}

fn assert_nothing_to_do(scenario: &Scenario, pod: &Value) {
    let again = scenario.inject(pod);
    let done = matches!(&again, Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected");
    assert!(done, "{again:?}");
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn ports_of_proxy(pod: &Value) -> Vec<&str> {
    let proxy = pod["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == "outrigger-proxy");
    proxy.unwrap()["ports"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect()
}

fn config(pod: &Value) -> Value {
    serde_json::from_str(pod["metadata"]["annotations"]["outrigger.dev/config"].as_str().unwrap()).unwrap()
}

/// istio#38354, istio#36353: whoever comes after the injector was never looked at.
#[test]
fn a_port_of_a_container_that_another_webhook_added_is_taken_over() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    let added = json!({
        "name": "cache",
        "ports": [{"name": "redis", "containerPort": 6379}],
        "livenessProbe": {"tcpSocket": {"port": "redis"}},
    });
    pod["spec"]["containers"].as_array_mut().unwrap().push(added);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "theirs", "emptyDir": {}}));
    let (pod, _) = admitted(&scenario, &pod);
    assert_eq!(ports_of_proxy(&pod), ["http", "redis", "outrigger-admin"]);
    assert_eq!(config(&pod)["inbound"].as_array().unwrap().len(), 2);
    assert_eq!(names(&pod, "containers"), ["app", "cache"]);
    assert_eq!(names(&pod, "volumes"), ["outrigger-config", "theirs"]);
    assert!(pod["spec"]["containers"][1]["ports"][0].get("name").is_none());

    let mut restored = pod;
    uninject(&mut restored).unwrap();
    let mut wanted = web();
    wanted["spec"]["containers"].as_array_mut().unwrap().push(json!({
        "name": "cache",
        "ports": [{"containerPort": 6379, "name": "redis"}],
        "livenessProbe": {"tcpSocket": {"port": "redis"}},
    }));
    wanted["spec"]["volumes"] = json!([{"name": "theirs", "emptyDir": {}}]);
    assert_eq!(restored, wanted, "what the others added stays");
}

/// istio#56102: a probe that was added after the first admission.
#[test]
fn a_probe_that_another_webhook_added_follows_its_port() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"path": "/live", "port": "http"}});
    let (pod, report) = admitted(&scenario, &pod);
    assert_ne!(pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"], "http");
    assert_eq!(report.probes.len(), 2);
}

/// Others' variables, mounts and images in a container of ours stay, and a container before ours too: in `ports` mode it
/// merely runs earlier, and to move ours to the front again would start a fight with whoever wants that place.
#[test]
fn what_others_did_to_our_container_stays() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "their-init"}));
    let proxy = &mut pod["spec"]["initContainers"][1];
    proxy["image"] = "mirror.example/sidecar".into();
    proxy["env"].as_array_mut().unwrap().push(json!({"name": "AWS_REGION", "value": "eu-west-1"}));
    assert_nothing_to_do(&scenario, &pod);

    pod["spec"]["containers"][0]["ports"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "grpc", "containerPort": 9090}));
    let (pod, _) = admitted(&scenario, &pod);
    assert_eq!(names(&pod, "initContainers"), ["their-init", "outrigger-proxy", "migrate"]);
    assert_eq!(ports_of_proxy(&pod), ["http", "grpc", "outrigger-admin"]);
    assert_eq!(pod["spec"]["initContainers"][1]["image"], "mirror.example/sidecar");
    assert_eq!(pod["spec"]["initContainers"][1]["env"].as_array().unwrap().len(), 2);
}

/// `outrigger inject -f app.yaml | kubectl apply -f -` in a labelled namespace, where nothing else is to change.
#[test]
fn an_offline_template_gets_a_token() {
    let scenario = Scenario::of_pod(web());
    let context = outrigger_inject::Context { token: "", ..scenario.context() };
    let Outcome::Injected { patch, .. } = inject(&scenario.pod, &context) else { panic!("not injected") };
    let mut template = scenario.pod.clone();
    json_patch::patch(&mut template, &patch).unwrap();
    assert_eq!(config(&template)["token"], "");
    let (pod, _) = admitted(&scenario, &template);
    assert_eq!(config(&pod)["token"], "0123456789abcdef");
    assert_eq!(pod["spec"], template["spec"]);
    // The command again, on what it made: the token of the cluster does not leave it, and none is drawn.
    assert!(matches!(inject(&template, &context), Outcome::Skipped { .. }));
}

#[test]
fn a_template_of_an_older_version_gets_what_this_one_would_write() {
    let mut old = Scenario::of_pod(web());
    old.settings.sidecar_image = "outrigger/sidecar:0.9.0".into();
    let mut pod = injected(&old);
    // As before there were hashes in the status.
    let status = pod["metadata"]["annotations"]["outrigger.dev/status"].as_str().unwrap();
    let mut status: Value = serde_json::from_str(status).unwrap();
    status.as_object_mut().unwrap().shift_remove("rendered").unwrap();
    pod["metadata"]["annotations"]["outrigger.dev/status"] = status.to_string().into();
    pod["spec"]["initContainers"][0].as_object_mut().unwrap().shift_remove("startupProbe").unwrap();
    let new = Scenario::of_pod(web());
    assert_eq!(admitted(&new, &pod).0["spec"], injected(&new)["spec"]);
}

/// By default the copy has neither labels nor annotations nor probes, and our container reads a config that is gone.
#[test]
fn a_copy_by_kubectl_debug_works() {
    let scenario = Scenario::of_pod(web());
    let mut copy = injected(&scenario);
    copy["metadata"] = json!({"name": "web-debug"});
    for list in ["containers", "initContainers"] {
        for container in copy["spec"][list].as_array_mut().unwrap() {
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                container.as_object_mut().unwrap().shift_remove(probe);
            }
        }
    }
    copy["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "debugger-x", "image": "busybox"}));
    let (pod, report) = admitted(&scenario, &copy);
    assert_eq!(report.ports[0].name, "http");
    assert_eq!(config(&pod)["inbound"][0]["target"], 8080);
    assert_eq!(names(&pod, "initContainers"), ["outrigger-proxy", "migrate"]);
    assert!(pod["spec"]["initContainers"][0]["startupProbe"].is_object(), "ours has its probes again");
    assert!(pod["spec"]["containers"][0].get("readinessProbe").is_none(), "the app has not");
    uninject(&mut copy).unwrap();
    assert_eq!(copy["spec"]["containers"][0]["ports"], web()["spec"]["containers"][0]["ports"]);
}

/// With `--keep-annotations --keep-init-containers=false`.
#[test]
fn a_copy_with_its_annotations_and_without_its_init_containers_is_injected_anew() {
    let scenario = Scenario::of_pod(web());
    let mut copy = injected(&scenario);
    copy["metadata"].as_object_mut().unwrap().shift_remove("labels");
    copy["spec"].as_object_mut().unwrap().shift_remove("initContainers");
    let (pod, _) = admitted(&scenario, &copy);
    assert_eq!(names(&pod, "initContainers"), ["outrigger-proxy"]);
    assert_eq!(names(&pod, "volumes"), ["outrigger-config"]);
    assert_eq!(pod["metadata"]["labels"]["outrigger.dev/injected"], "true");
}

/// istio#27675: a backup holds the pod as it ran, with its token's volume and its old node.
#[test]
fn a_pod_restored_by_velero_is_left_as_it_is() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    pod["metadata"]["labels"]["velero.io/restore-name"] = "nightly".into();
    pod["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "kube-api-access-abcde", "projected": {}}));
    // Velero's own init container, which fills the volumes, comes first.
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "restore-wait"}));
    assert_nothing_to_do(&scenario, &pod);
}

#[test]
fn a_pod_whose_profile_is_gone_keeps_its_sidecars() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    pod["metadata"]["annotations"]["outrigger.dev/profile"] = "gone".into();
    let outcome = scenario.inject(&pod);
    let Outcome::Skipped { reason, message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.code(), "ProfileNotFound");
    assert!(message.contains("stay as they are"), "{message}");
}

/// `kubectl debug --copy-to` drops the annotations. Everything called `outrigger-` was then taken for ours, and taken out.
#[test]
fn a_volume_of_the_users_that_is_called_like_ours_stays_in_a_copy() {
    let mut pod = web();
    let theirs = json!({"name": "outrigger-data", "emptyDir": {}});
    pod["spec"]["volumes"] = json!([theirs]);
    let scenario = Scenario::of_pod(pod);
    let mut copy = injected(&scenario);
    copy["metadata"].as_object_mut().unwrap().remove("annotations");
    let (copy, _) = admitted(&scenario, &copy);
    assert_eq!(names(&copy, "volumes"), ["outrigger-data", "outrigger-config"]);
    let mut restored = copy;
    uninject(&mut restored).unwrap();
    assert_eq!(restored["spec"]["volumes"], json!([theirs]));
}

/// It came out with a proxy less and probes that asked it: the pod never became ready.
#[test]
fn probes_whose_question_is_lost_are_told_and_never_left_behind() {
    let mut pod = web();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/healthz", "port": "http"}});
    let scenario = Scenario::of_pod(pod);
    let mut copy = injected(&scenario);
    copy["metadata"].as_object_mut().unwrap().remove("annotations");
    let error = uninject(&mut copy.clone()).unwrap_err().to_string();
    assert!(
        error.contains("readinessProbe.httpGet") || error.contains("readinessProbe of container app"),
        "{error}"
    );
    let (_, report) = admitted(&scenario, &copy);
    assert!(
        report.warnings.iter().any(|warning| warning.contains("asks the proxy for /probe/app/readiness"))
    );
}

/// The pod of a copied template that came while no webhook answered counted as outdated, which is only a warning.
#[test]
fn a_pod_with_a_copied_status_and_no_sidecar_is_missing_it() {
    let scenario = Scenario::of_pod(web());
    let status = injected(&scenario)["metadata"]["annotations"]["outrigger.dev/status"].clone();
    for status in [status, "{}".into()] {
        let mut pod = web();
        pod["metadata"]["annotations"] = json!({"outrigger.dev/status": status});
        assert_eq!(standing(&pod, &scenario.context()), Standing::Missing);
        let (mut pod, _) = admitted(&scenario, &pod);
        uninject(&mut pod).unwrap();
        assert_eq!(pod["spec"], web()["spec"]);
    }
}

/// A status that claims what is not ours is not believed, or a pod could lose its app to an annotation.
#[test]
fn a_forged_status_reaches_nothing_of_the_users() {
    let probe = |container: &str, field: &str, was: Value| json!({"probes": [{"container": container, "field": field, "was": was}]});
    let port = |container: &str, name: &str| {
        let port = json!({"container": container, "index": 1, "name": name, "port": 9999, "listen": 1, "protocol": "tcp"});
        json!({"ports": [port]})
    };
    let variable = |container: &str, value: &str, was: Option<Value>| json!({"variables": [{"container": container, "name": "API_URL", "value": value, "was": was}]});
    let forgeries = [
        json!({"containers": ["app"]}),
        json!({"volumes": ["data"]}),
        // A user may call things so.
        json!({"containers": ["outrigger-x"]}),
        json!({"volumes": ["outrigger-data"]}),
        json!({"containers": ["outrigger-logs", "outrigger-logs", "outrigger-logs", "outrigger-logs", "outrigger-logs", "outrigger-logs"]}),
        json!({"rendered": {"app": {"image": "0"}}}),
        // This one was a panic: the app took the name of a container of ours.
        probe("app", "/name", "outrigger-x".into()),
        probe("app", "/ports", json!({})),
        probe("app", "/readinessProbe", json!({})),
        probe("app", "/readinessProbe/exec", json!({})),
        probe("app", "/readinessProbe/httpGet", "no action".into()),
        probe("app", "/readinessProbe/httpGet/port", 8080.into()),
        probe("app", "/readinessProbe/httpGet/path", "/".into()),
        probe("app", "/lifecycle/preStop/tcpSocket", json!({})),
        probe("outrigger-logs", "/readinessProbe/httpGet", json!({})),
        port("app", ""),
        port("outrigger-logs", "http"),
        variable("outrigger-logs", "127.0.0.1:15200", None),
        variable("app", "postgres://db", None),
        variable("app", "http://127.0.0.1:80", None),
        variable("app", "127.0.0.1:15200", Some(json!({"name": "OTHER", "value": "x"}))),
        json!({"mounts": ["app"]}),
        json!({"mounts": ["outrigger-logs:/shared"]}),
        json!({"replacedLabels": {"app": "x"}}),
        json!({"replacedAnnotations": {"note": "x"}}),
        json!({"annotations": {"note": "x"}}),
        json!({"created": ["/spec/containers"]}),
        json!({"created": ["/spec/containers/0/ports"]}),
        json!({"created": ["/metadata/labels/app"]}),
        json!({"nulls": ["/spec/containers"]}),
    ];
    for forged in forgeries {
        let mut status = json!({"version": "", "profile": "", "configHash": "", "containers": ["outrigger-logs"], "volumes": []});
        status.as_object_mut().unwrap().extend(forged.as_object().unwrap().clone());
        let mut pod = web();
        pod["metadata"]["annotations"] = json!({"outrigger.dev/status": status.to_string()});
        assert!(uninject(&mut pod.clone()).is_err(), "{status}");
        let scenario = Scenario::of_pod(pod.clone());
        let (mut pod, _) = admitted(&scenario, &pod);
        uninject(&mut pod).unwrap();
        assert_eq!(pod["spec"], web()["spec"], "{status}");
    }
}

fn with_readiness(pod: &Value, probe: &Value) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["containers"][0]["readinessProbe"] = probe.clone();
    pod
}

/// `outrigger inject -f app.yaml > injected.yaml`, and then somebody edits what stands there: the old probe came back.
#[test]
fn a_probe_that_the_user_edited_since_is_the_users() {
    let scenario = Scenario::of_pod(web());
    let injected = injected(&scenario);
    let edited = json!({"httpGet": {"path": "/new", "port": 8080}});
    let (mut pod, report) = admitted(&scenario, &with_readiness(&injected, &edited));
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"], "/probe/app/readiness");
    assert_eq!(config(&pod)["probes"][0]["action"]["http"]["path"], "/new");
    assert_eq!(report.probes[0].was, edited["httpGet"]);
    uninject(&mut pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"], edited);
}

/// A second action beside it is what the API server refuses.
#[test]
fn a_probe_that_was_made_another_action_stays_that_one() {
    let scenario = Scenario::of_pod(web());
    let exec = json!({"exec": {"command": ["true"]}});
    let (mut pod, _) = admitted(&scenario, &with_readiness(&injected(&scenario), &exec));
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"], exec);
    assert!(config(&pod).get("probes").is_none());
    uninject(&mut pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"], exec);
}

/// As Istio does, whose agent asks in its turn what stood there: our proxy must go on answering.
#[test]
fn a_probe_that_a_later_webhook_rewrote_stays_so_and_is_answered() {
    let scenario = Scenario::of_pod(web());
    let theirs = json!({"httpGet": {"path": "/app-health/app/readyz", "port": 15_020, "scheme": "HTTP"}});
    let rewritten = with_readiness(&injected(&scenario), &theirs);
    assert_nothing_to_do(&scenario, &rewritten);
    let mut more = rewritten.clone();
    let grpc = json!({"name": "grpc", "containerPort": 9090});
    more["spec"]["containers"][0]["ports"].as_array_mut().unwrap().push(grpc);
    let (pod, _) = admitted(&scenario, &more);
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"], theirs);
    assert_eq!(config(&pod)["probes"][0]["kind"], "readiness");
    assert_eq!(ports_of_proxy(&pod), ["http", "grpc", "outrigger-admin"]);
}

/// Without rewriting, the number stands where the name stood.
#[test]
fn a_port_of_a_probe_that_the_user_edited_since_is_the_users() {
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/rewrite-probes": "false"});
    let scenario = Scenario::of_pod(pod);
    let mut injected = injected(&scenario);
    let port = &mut injected["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"];
    assert_eq!(*port, 8080);
    *port = 8081.into();
    assert_nothing_to_do(&scenario, &injected);
    uninject(&mut injected).unwrap();
    assert_eq!(injected["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 8081);
}

#[test]
fn the_default_container_is_the_users_or_else_the_app() {
    const KEY: &str = "kubectl.kubernetes.io/default-container";
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    assert_eq!(pod["metadata"]["annotations"][KEY], "app");
    pod["metadata"]["annotations"][KEY] = "theirs".into();
    assert_nothing_to_do(&scenario, &pod);
    uninject(&mut pod).unwrap();
    assert_eq!(pod["metadata"]["annotations"], json!({KEY: "theirs"}));

    let mut own = web();
    own["metadata"]["annotations"] = json!({KEY: "own"});
    let scenario = Scenario::of_pod(own.clone());
    let mut pod = injected(&scenario);
    assert_eq!(pod["metadata"]["annotations"][KEY], "own");
    uninject(&mut pod).unwrap();
    assert_eq!(pod, own);
}
