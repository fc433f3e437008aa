//! Where a pod that exists stands, and what a pod gets that carries sidecars already.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use outrigger_inject::{Decision, Outcome, Place, Standing, explain, standing, uninject};
use scenario::Scenario;
use serde_json::{Value, json};

fn web() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [{
            "name": "app",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9090}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        }]},
    })
}

fn injected(scenario: &Scenario) -> Value {
    applied(&scenario.pod, &scenario.inject(&scenario.pod))
}

fn applied(pod: &Value, outcome: &Outcome) -> Value {
    let Outcome::Injected { patch, .. } = outcome else { panic!("{outcome:?}") };
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, patch).unwrap();
    pod
}

/// A pod as a cluster holds it: defaults filled in, a token mounted, limits of a `LimitRange`, a node, a status.
fn live(mut pod: Value) -> Value {
    pod["metadata"]["uid"] = "1b4e28ba".into();
    pod["spec"]["nodeName"] = "worker".into();
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]);
    pod["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "kube-api-access-x", "projected": {}}));
    for volume in pod["spec"]["volumes"].as_array_mut().unwrap() {
        if volume.get("downwardAPI").is_some() {
            volume["downwardAPI"]["defaultMode"] = 420.into();
            volume["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = "v1".into();
        }
    }
    let token =
        json!({"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let app = &mut pod["spec"]["containers"][0];
    app["volumeMounts"] =
        Value::from([app["volumeMounts"].as_array().cloned().unwrap_or_default(), vec![token]].concat());
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().unwrap() {
            container["terminationMessagePath"] = "/dev/termination-log".into();
            container["imagePullPolicy"] = "IfNotPresent".into();
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                if let Some(probe) = container.get_mut(probe) {
                    probe["successThreshold"] = 1.into();
                    probe["httpGet"]["scheme"] = "HTTP".into();
                }
            }
            container["resources"]["limits"]["cpu"] = "1".into();
        }
    }
    pod["status"] = json!({"phase": "Running"});
    pod
}

fn differences(standing: &Standing) -> &[String] {
    match standing {
        Standing::Outdated { differences } | Standing::Reconfigurable { differences, .. } => differences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_cluster_filled_in_is_no_difference() {
    let scenario = Scenario::of_pod(web());
    let pod = live(injected(&scenario));
    assert_eq!(standing(&pod, &scenario.context()), Standing::Current);
}

#[test]
fn a_pod_from_before_the_label_is_missing_its_sidecars() {
    let scenario = Scenario::of_pod(web());
    assert_eq!(standing(&scenario.pod, &scenario.context()), Standing::Missing);
    let mut out = web();
    out["spec"]["hostNetwork"] = true.into();
    assert!(matches!(standing(&out, &scenario.context()), Standing::Outside { .. }));
    out = web();
    out["metadata"]["annotations"] = json!({"outrigger.dev/profile": "gone"});
    assert!(matches!(standing(&out, &scenario.context()), Standing::Refused { .. }));
}

#[test]
fn what_leads_prometheus_to_a_pod_comes_and_goes_as_it_runs() {
    let without = Scenario::of_pod(web());
    let with =
        Scenario::with_profile(web(), &json!({"metrics": {"annotate": true, "app": {"port": "grpc"}}}));
    let mut pod = live(injected(&without));
    for (scenario, wanted) in [(&with, "app"), (&without, "")] {
        let found = standing(&pod, &scenario.context());
        let Standing::Reconfigurable { patch, .. } = found else { panic!("{found:?}") };
        json_patch::patch(&mut pod, &patch).unwrap();
        assert_eq!(standing(&pod, &scenario.context()), Standing::Current);
        let told = &pod["metadata"];
        assert_eq!(told["labels"]["outrigger.dev/app-metrics"].as_str().unwrap_or_default(), wanted);
        assert_eq!(told["annotations"]["prometheus.io/port"].is_string(), !wanted.is_empty(), "{told}");
    }
}

#[test]
fn a_change_of_the_config_alone_is_written_to_the_running_pod() {
    let before = Scenario::of_pod(web());
    let mut pod = live(injected(&before));
    let spec = json!({"proxy": {"logLevel": "debug"}, "inbound": [{"port": "grpc", "protocol": "http"}, {}]});
    let after = Scenario::with_profile(web(), &spec);
    let found = standing(&pod, &after.context());
    assert_eq!(
        differences(&found),
        ["config: logLevel is info, would be debug", "config: inbound.grpc.protocol is tcp, would be http"]
    );
    let Standing::Reconfigurable { patch, .. } = found else { panic!("{found:?}") };
    let mut paths: Vec<_> = patch.0.iter().map(|op| op.path().as_str()).collect();
    paths.dedup();
    assert_eq!(
        paths,
        ["/metadata/annotations/outrigger.dev~1config", "/metadata/annotations/outrigger.dev~1status"]
    );

    let token = |pod: &Value| {
        let config = pod["metadata"]["annotations"]["outrigger.dev/config"].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&config).unwrap()["token"].clone()
    };
    let drawn = token(&pod);
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(token(&pod), drawn);
    assert_eq!(standing(&pod, &after.context()), Standing::Current);
    assert!(json_patch::patch(&mut pod, &patch).is_err(), "it says from where it starts");
}

#[test]
fn a_change_of_image_resources_or_ports_needs_a_new_pod() {
    let before = Scenario::of_pod(web());
    let pod = live(injected(&before));
    let spec = json!({
        "proxy": {"resources": {"requests": {"memory": "32Mi"}}},
        "inbound": [{"port": "http"}],
        "sharedVolume": {"mounts": [{"container": "app", "path": "/srv"}]},
    });
    let mut after = Scenario::with_profile(web(), &spec);
    after.settings.sidecar_image = "outrigger/sidecar:1.3.0".into();
    insta::assert_snapshot!(differences(&standing(&pod, &after.context())).join("\n"));
}

/// kuik, Harbor's and others' webhooks give every container an image of their own registry.
#[test]
fn what_another_webhook_made_of_our_container_is_no_difference() {
    let scenario = Scenario::of_pod(web());
    let mut pod = injected(&scenario);
    let proxy = &mut pod["spec"]["initContainers"][0];
    proxy["image"] = "mirror.example/outrigger/sidecar:1.2.3".into();
    proxy["env"].as_array_mut().unwrap().push(json!({"name": "AWS_REGION", "value": "eu-west-1"}));
    assert_eq!(standing(&live(pod), &scenario.context()), Standing::Current);
}

#[test]
fn a_pod_that_has_opted_out_since_is_outdated() {
    let scenario = Scenario::of_pod(web());
    let mut pod = live(injected(&scenario));
    pod["metadata"]["labels"]["outrigger.dev/inject"] = "disabled".into();
    assert!(differences(&standing(&pod, &scenario.context()))[0].contains("OptedOut"));
}

#[test]
fn an_explanation_says_who_decided_what() {
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/skip-inbound-ports": "grpc"});
    let scenario = Scenario::of_pod(pod);
    let fresh = explain(&scenario.pod, &scenario.context());
    assert_eq!(fresh.opt_in.as_ref().unwrap().place, Place::Namespace);
    assert_eq!(fresh.overrides[0].annotation, "outrigger.dev/skip-inbound-ports");
    let Decision::Injected { report, .. } = &fresh.decision else { panic!("{fresh:?}") };
    assert_eq!(report.ports.len(), 1);
    let mut of_live = explain(&injected(&scenario), &scenario.context());
    assert!(std::mem::take(&mut of_live.injected));
    assert_eq!(of_live, fresh, "the sidecars are thought away");
    let mut shown = json!(fresh);
    shown["report"].as_object_mut().unwrap().shift_remove("rendered").unwrap();
    insta::assert_json_snapshot!(shown);
}

#[test]
fn a_refusal_is_explained_with_its_remedy() {
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/profile": "wbe"});
    let scenario = Scenario::of_pod(pod);
    let explanation = explain(&scenario.pod, &scenario.context());
    assert_eq!(explanation.profile.id, None);
    assert!(
        matches!(explanation.decision, Decision::Rejected { remedy, .. } if remedy.contains("create the profile"))
    );
    let mut restored = injected(&Scenario::of_pod(web()));
    uninject(&mut restored).unwrap();
    assert_eq!(restored, web());
}
