//! Bugs that other injectors have had, each under the name of its issue. docs/admission.md has the whole list, and where the
//! tests are of those that are not a matter of `inject` alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod scenario;

use json_patch::PatchOperation;
use outrigger_inject::{Outcome, Report, Standing, standing, uninject};
use scenario::Scenario;
use serde_json::{Value, json};

fn web() -> Value {
    json!({
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

fn injected(scenario: &Scenario) -> (Value, Vec<PatchOperation>, Report) {
    let outcome = scenario.inject(&scenario.pod);
    let Outcome::Injected { patch, report } = outcome else { panic!("{outcome:?}") };
    let mut pod = scenario.pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    (pod, patch.0, *report)
}

fn reason(scenario: &Scenario) -> &'static str {
    match scenario.inject(&scenario.pod) {
        Outcome::Injected { .. } => "Injected",
        Outcome::Skipped { reason, .. } | Outcome::Rejected { reason, .. } => reason.code(),
    }
}

fn proxy(pod: &Value) -> &Value {
    let inits = pod["spec"]["initContainers"].as_array().unwrap();
    inits.iter().find(|container| container["name"] == "outrigger-proxy").unwrap()
}

/// An injector with old types deleted fields that were newer: `restartPolicy` of init containers, cluster-wide.
#[test]
fn piraeus_operator_1025_unknown_fields_survive() {
    let mut pod = web();
    pod["future"] = json!({"a": [1, null]});
    pod["spec"]["initContainers"] =
        json!([{"name": "theirs", "restartPolicy": "Always", "future": {"b": 2}}]);
    pod["spec"]["containers"][0]["ports"][0]["future"] = json!([3]);
    pod["spec"]["containers"][0]["resizePolicy"] = json!([{"resourceName": "cpu", "future": true}]);
    let (patched, ..) = injected(&Scenario::of_pod(pod.clone()));
    assert_eq!(patched["future"], pod["future"]);
    assert_eq!(patched["spec"]["initContainers"][1], pod["spec"]["initContainers"][0]);
    assert_eq!(patched["spec"]["containers"][0]["ports"][0]["future"], json!([3]));
    assert_eq!(
        patched["spec"]["containers"][0]["resizePolicy"],
        pod["spec"]["containers"][0]["resizePolicy"]
    );
}

/// `add /spec/volumes/-` fails where there is no list; so it was in every pod that mounts no token.
#[test]
fn aws_pod_identity_17_lists_that_are_absent_are_made() {
    let mut pod = web();
    pod["spec"]["automountServiceAccountToken"] = false.into();
    let spec = json!({"sharedVolume": {"mounts": [{"container": "app", "path": "/shared"}]}});
    let scenario = Scenario::with_profile(pod, &spec);
    let (mut patched, ..) = injected(&scenario);
    assert_eq!(patched["spec"]["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(patched["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().len(), 1);
    uninject(&mut patched).unwrap();
    assert_eq!(patched, scenario.pod);
}

/// Annotations went into a text template: a quote broke the patch, a slash its path, and the map was replaced whole.
#[test]
fn linkerd_13480_quotes_and_slashes_in_values_are_data() {
    let mut pod = web();
    let theirs = json!({"example.com/~a/b": "\"quoted\"\n{{.}}", "plain": "x"});
    pod["metadata"]["annotations"] = theirs.clone();
    pod["spec"]["containers"][0]["env"] = json!([{"name": "Q", "value": "\"}, {\"op\": \"remove\""}]);
    let (patched, ..) = injected(&Scenario::of_pod(pod.clone()));
    for (key, value) in theirs.as_object().unwrap() {
        assert_eq!(patched["metadata"]["annotations"][key], *value);
    }
    pod["metadata"]["annotations"] = json!({"outrigger.dev/log-level": "info\", \"x\": \""});
    assert_eq!(reason(&Scenario::of_pod(pod.clone())), "InvalidAnnotation");
    pod["metadata"]["annotations"] = json!({"outrigger.dev/profile": "../\"x"});
    assert_eq!(reason(&Scenario::of_pod(pod)), "ProfileNotFound");
}

/// 1,500 variables took 15 s, since the pods were compared item by item. Here the app's variables are no part of any patch, and
/// those that others gave our container are in that of a later admission once each. The time is `make bench-inject`'s to say.
#[test]
fn istio_34799_many_variables_stay_linear() {
    let with = |variables: usize| {
        let env: Value = (0..variables).map(|i| json!({"name": format!("V{i:04}"), "value": "x"})).collect();
        let mut pod = web();
        pod["spec"]["containers"][0]["env"] = env.clone();
        let scenario = Scenario::of_pod(pod);
        let (mut patched, first, mut report) = injected(&scenario);
        // As of a version that kept no hashes, and without our own variables: they are written anew.
        report.rendered.clear();
        patched["metadata"]["annotations"]["outrigger.dev/status"] = json!(report).to_string().into();
        patched["spec"]["initContainers"][0]["env"] = env;
        let outcome = scenario.inject(&patched);
        let Outcome::Injected { patch: second, .. } = outcome else { panic!("{outcome:?}") };
        let bytes = second.to_string().len();
        (first, second.0.len(), bytes)
    };
    let [(first, operations, bytes), (other, more, longer), (third, most, longest)] =
        [1000, 2000, 3000].map(with);
    assert_eq!((&first, operations), (&other, more));
    assert_eq!((other, more), (third, most));
    assert_eq!(longer - bytes, 1000 * r#",{"name":"V1000","value":"x"}"#.len());
    assert_eq!(longest - longer, longer - bytes);
}

/// A pod that a `ReplicaSet` makes has no namespace in its metadata; the request has.
#[test]
fn tumblr_52_the_namespace_is_that_of_the_request() {
    let scenario = Scenario::of_pod(web());
    assert!(scenario.pod["metadata"].get("namespace").is_none());
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/profile": "nowhere"});
    let outcome = Scenario::of_pod(pod).inject(&json!({
        "metadata": {"namespace": "default", "annotations": {"outrigger.dev/profile": "nowhere"}},
        "spec": web()["spec"],
    }));
    let Outcome::Rejected { errors, .. } = outcome else { panic!("{outcome:?}") };
    assert!(errors[0].contains("namespace shop"), "{errors:?}");
    assert_eq!(reason(&scenario), "Injected");
}

/// A sidecar among the app's containers runs for ever, and so does its Job.
#[test]
fn istio_11045_a_job_is_not_kept_from_completing() {
    let mut pod = web();
    pod["spec"]["restartPolicy"] = "Never".into();
    let (patched, ..) = injected(&Scenario::of_pod(pod));
    assert_eq!(proxy(&patched)["restartPolicy"], "Always");
    assert_eq!(patched["spec"]["containers"].as_array().unwrap().len(), 1);
}

/// Traffic of init containers went to a proxy that had not started.
#[test]
fn istio_cni_77_init_containers_have_a_network() {
    let mut pod = web();
    pod["spec"]["initContainers"] =
        json!([{"name": "migrate"}, {"name": "theirs", "restartPolicy": "Always"}]);
    let (patched, ..) = injected(&Scenario::of_pod(pod));
    assert_eq!(patched["spec"]["initContainers"][0]["name"], "outrigger-proxy");
    // Nothing is redirected: no container of ours may touch the network.
    assert_eq!(proxy(&patched)["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
}

/// The app's first requests failed.
#[test]
fn istio_11130_the_app_waits_for_the_proxy() {
    let (patched, ..) = injected(&Scenario::of_pod(web()));
    // The next container starts when a native sidecar's startup probe has passed.
    assert_eq!(proxy(&patched)["startupProbe"]["httpGet"]["path"], "/ready");
}

/// `uninject` and "already injected" looked into `containers` only.
#[test]
fn linkerd_12395_native_sidecars_are_found() {
    let mut pod = web();
    let theirs = json!({"name": "theirs", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9100}]});
    pod["spec"]["initContainers"] = json!([theirs]);
    let scenario = Scenario::of_pod(pod.clone());
    let (mut patched, _, report) = injected(&scenario);
    assert_eq!(report.ports.len(), 2, "a native sidecar of the user's is an app too");
    assert!(
        matches!(scenario.inject(&patched), Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected")
    );
    uninject(&mut patched).unwrap();
    assert_eq!(patched, pod);
}

/// A probe that names a port which is no longer there never passes.
#[test]
fn istio_32687_no_probe_names_a_port_that_has_moved() {
    let mut pod = web();
    let get = |port: Value| json!({"httpGet": {"path": "/", "port": port}});
    let app = &mut pod["spec"]["containers"][0];
    app["startupProbe"] = json!({"tcpSocket": {"port": "http"}});
    app["livenessProbe"] = get("http".into());
    app["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": "http", "host": "localhost", "scheme": "HTTPS"}});
    app["lifecycle"] = json!({"preStop": get("http".into()), "postStart": get(8080.into())});
    let (patched, ..) = injected(&Scenario::of_pod(pod));
    let app = patched["spec"]["containers"][0].to_string();
    assert!(!app.contains(r#""port":"http""#), "{app}");
}

/// A container that a later webhook adds was never looked at; one that an earlier webhook adds is an app like any other.
#[test]
fn istio_36353_the_order_of_webhooks_does_not_matter() {
    let added = json!({"name": "late", "ports": [{"name": "late", "containerPort": 9000}]});
    let mut before = web();
    before["spec"]["containers"].as_array_mut().unwrap().push(added.clone());
    let (wanted, ..) = injected(&Scenario::of_pod(before));

    let scenario = Scenario::of_pod(web());
    let (mut pod, ..) = injected(&scenario);
    pod["spec"]["containers"].as_array_mut().unwrap().push(added);
    let Outcome::Injected { patch, .. } = scenario.inject(&pod) else { panic!("not renewed") };
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod, wanted);
}

/// Variables twice, the user's UID lost, a prober that was missing: each after a second admission.
#[test]
fn istio_56102_a_second_admission_changes_nothing() {
    let mut pod = web();
    pod["spec"]["securityContext"] = json!({"runAsUser": 1234, "fsGroup": 5});
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"path": "/", "port": "http"}});
    let scenario = Scenario::of_pod(pod);
    let (patched, ..) = injected(&scenario);
    let again = scenario.inject(&patched);
    assert!(matches!(again, Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected"));
}

/// The injector was down, its policy let pods start, and nobody knew which.
#[test]
fn linkerd_13702_pods_that_were_missed_are_found() {
    let scenario = Scenario::of_pod(web());
    assert_eq!(standing(&scenario.pod, &scenario.context()), Standing::Missing);
    let (patched, ..) = injected(&scenario);
    assert_eq!(standing(&patched, &scenario.context()), Standing::Current);
}

/// The API server can't select by annotations, so every pod of the cluster depended on the injector.
#[test]
fn linkerd_5022_opting_in_is_a_label() {
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/inject": "enabled"});
    let mut scenario = Scenario::of_pod(pod);
    let warnings = injected(&scenario).2.warnings;
    assert!(warnings.iter().any(|warning| warning.contains("it is a label")), "{warnings:?}");
    scenario.namespace.labels.clear();
    assert_eq!(reason(&scenario), "NotOptedIn");
}

/// One annotation for one value took all the others away, and the autoscaler had no CPU request to go by.
#[test]
fn istio_35905_one_resource_annotation_leaves_the_rest() {
    let (wanted, ..) = injected(&Scenario::of_pod(web()));
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"outrigger.dev/proxy-memory-limit": "96Mi"});
    let (patched, ..) = injected(&Scenario::of_pod(pod));
    let mut wanted = proxy(&wanted)["resources"].clone();
    wanted["limits"]["memory"] = "96Mi".into();
    assert_eq!(proxy(&patched)["resources"], wanted);
    assert!(wanted["requests"]["cpu"].is_string());
}

/// Namespaces that enforce `restricted` refused every injected pod.
#[test]
fn linkerd_10232_pod_security_restricted_takes_what_is_added() {
    let (patched, ..) = injected(&Scenario::of_pod(web()));
    let context = &proxy(&patched)["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
    let volumes = patched["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume.get("hostPath").is_none()));
}

/// An `fsGroup` was added for the sidecar's sake, and OpenShift refused the pod; elsewhere files changed hands.
#[test]
fn istio_26882_the_pods_security_context_is_the_users() {
    for context in [json!(null), json!({}), json!({"fsGroup": 2000, "runAsUser": 0})] {
        let mut pod = web();
        pod["spec"]["securityContext"] = context.clone();
        let (patched, ..) = injected(&Scenario::of_pod(pod));
        assert_eq!(patched["spec"]["securityContext"], context);
    }
    let (patched, ..) = injected(&Scenario::of_pod(web()));
    assert!(patched["spec"].get("securityContext").is_none());
}

/// Whatever had "serviceaccount" in its name was taken for the token. We look for none, and need none.
#[test]
fn vault_k8s_335_volumes_that_look_like_the_token_are_left_alone() {
    let mut pod = web();
    let volumes = json!([
        {"name": "my-serviceaccount-notes", "emptyDir": {}},
        {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ]);
    let mounts = json!([
        {"name": "my-serviceaccount-notes", "mountPath": "/serviceaccount"},
        {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
    ]);
    pod["spec"]["volumes"] = volumes.clone();
    pod["spec"]["containers"][0]["volumeMounts"] = mounts.clone();
    let (patched, ..) = injected(&Scenario::of_pod(pod));
    assert_eq!(patched["spec"]["containers"][0]["volumeMounts"], mounts);
    assert_eq!(patched["spec"]["volumes"].as_array().unwrap()[..2], volumes.as_array().unwrap()[..]);
    let of_proxy = proxy(&patched)["volumeMounts"].as_array().unwrap();
    assert!(of_proxy.iter().all(|mount| mount["name"] == "outrigger-config"), "{of_proxy:?}");
}

/// A volume of the user's was called `podinfo` as well; a port was taken, and the container crashed for ever.
#[test]
fn linkerd_11254_names_that_clash_are_refused_with_the_reason() {
    let mut pod = web();
    pod["spec"]["volumes"] = json!([{"name": "podinfo", "emptyDir": {}}]);
    assert_eq!(reason(&Scenario::of_pod(pod.clone())), "Injected");
    pod["spec"]["volumes"][0]["name"] = "outrigger-config".into();
    assert_eq!(reason(&Scenario::of_pod(pod)), "NameCollision");
    let mut pod = web();
    pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 15190.into();
    assert_eq!(reason(&Scenario::of_pod(pod)), "PortCollision");
}

/// Pods were passed over by who had asked, and nothing said so. Here the answer depends on the pod alone, and it has a sentence.
#[test]
fn dapr_7755_whoever_is_skipped_is_told_why() {
    let mut opted_out = web();
    opted_out["metadata"]["labels"] = json!({"outrigger.dev/inject": "disabled"});
    let mut of_node = web();
    of_node["spec"]["hostNetwork"] = true.into();
    let mut silent = web();
    silent["spec"]["containers"][0].as_object_mut().unwrap().shift_remove("ports").unwrap();
    for pod in [opted_out, of_node, silent] {
        let outcome = Scenario::of_pod(pod.clone()).inject(&pod);
        let Outcome::Skipped { message, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(message.len() > 20, "{message}");
    }
}

/// A copy by `kubectl debug` has the label no longer, and the sidecars still.
#[test]
fn osm_4668_copies_are_no_strangers() {
    let scenario = Scenario::of_pod(web());
    let (mut copy, ..) = injected(&scenario);
    copy["metadata"] = json!({"name": "copy"});
    let Outcome::Injected { patch, .. } = scenario.inject(&copy) else { panic!("not renewed") };
    json_patch::patch(&mut copy, &patch).unwrap();
    assert_eq!(copy["spec"], injected(&scenario).0["spec"]);
}

/// The kubelet runs the file on its disk: a mirror that was changed is a lie, and may not be created at all.
#[test]
fn kube_image_keeper_560_mirror_pods_are_left_alone() {
    let mut pod = web();
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    assert_eq!(reason(&Scenario::of_pod(pod.clone())), "MirrorPod");
    // Also where the file on the disk went through `outrigger inject`.
    let (mut file, ..) = injected(&Scenario::of_pod(web()));
    file["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash".into();
    assert_eq!(reason(&Scenario::of_pod(file)), "MirrorPod");
}
