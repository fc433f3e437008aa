//! `outrigger reconfigure`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::api::Api;
use crate::installed::{
    RELEASE, injected_pod, installed, outrigger, pod, put_namespace, put_profile, put_web,
};

const POD: &str = "/api/v1/namespaces/shop/pods/web-1";

fn web() -> Api {
    let api = installed();
    put_web(&api);
    api.put(POD, injected_pod("web-1", &json!({})));
    api
}

fn config(api: &Api) -> Value {
    let annotations = api.object(POD)["metadata"]["annotations"].clone();
    serde_json::from_str(annotations["outrigger.dev/config"].as_str().unwrap()).unwrap()
}

#[test]
fn a_changed_profile_reaches_the_running_pod() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    let before = api.object(POD);
    let output = outrigger(&api, &["reconfigure", "deploy/web", "--dry-run"]);
    assert_eq!(api.object(POD), before);
    assert_snapshot!(output);
    assert_snapshot!(outrigger(&api, &["reconfigure", "deploy/web"]));
    let after = config(&api);
    assert_eq!((after["logLevel"].as_str(), after["token"].as_str()), (Some("debug"), Some("secret")));
    assert_eq!(api.object(POD)["spec"], before["spec"]);
    let again = outrigger(&api, &["reconfigure", "deploy/web"]);
    assert!(again.starts_with("exit code 0") && again.contains("web-1 in namespace shop current"), "{again}");
    assert_eq!(api.requests("PATCH"), 1);
}

#[test]
fn what_needs_a_restart_is_left_and_named() {
    let api = web();
    api.put("/api/v1/namespaces/shop/pods/web-2", pod("web-2"));
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"resources": {"requests": {"cpu": "20m"}}}}));
    assert_snapshot!(outrigger(&api, &["reconfigure", "ns/shop"]));
    assert_eq!(api.requests("PATCH"), 0);
}

#[test]
fn the_right_to_patch_is_the_users_own() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    api.forbid("PATCH");
    let output = outrigger(&api, &["reconfigure", "-l", "app=web"]);
    assert!(
        output.starts_with("exit code 1\n")
            && output.contains(
                "web-1 in namespace shop failed: not allowed to patch pod web-1 in namespace shop: "
            )
            && output.contains("hint: kubectl auth can-i patch pods --namespace shop\n"),
        "{output}"
    );
}

/// The command ended at the first pod that it may not write, without a word about those before it.
#[test]
fn a_pod_that_may_not_be_written_does_not_hide_the_others() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    for namespace in ["before", "stage"] {
        put_namespace(&api, namespace, &json!({"outrigger.dev/inject": "enabled"}));
        api.put(&POD.replace("shop", namespace), injected_pod("web-1", &json!({})));
        api.forbid(&format!("PATCH /api/v1/namespaces/{namespace}/"));
    }
    let output = outrigger(&api, &["reconfigure", "-l", "app=web", "-A"]);
    assert!(output.starts_with("exit code 1"), "{output}");
    for line in [
        "× pod/web-1 in namespace before failed: not allowed to patch pod web-1 in namespace before: ",
        "√ pod/web-1 in namespace shop reconfigured: ",
        "× pod/web-1 in namespace stage failed: not allowed to patch pod web-1 in namespace stage: ",
    ] {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(
        (config(&api)["logLevel"].as_str(), api.requests("GET /api/v1/namespaces/shop/pods/web-1:")),
        (Some("debug"), 1)
    );
}

#[test]
fn the_json_says_what_was_done() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    let output = outrigger(&api, &["reconfigure", "pod/web-1", "-o", "json"]);
    assert_snapshot!(output);
}

/// It is written all the same: who reads the exit code learns that it did not help.
#[test]
fn a_sidecar_that_does_not_take_it_is_told() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    api.take_no_config();
    assert_snapshot!(outrigger(&api, &["reconfigure", "pod/web-1", "--wait", "1s"]));
    assert_eq!(config(&api)["logLevel"], "debug");
}

#[test]
fn who_may_not_ask_the_sidecar_gets_a_note() {
    let api = web();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    api.forbid(&format!("GET {POD}:15190"));
    let output = outrigger(&api, &["reconfigure", "pod/web-1"]);
    assert!(output.contains("whether the sidecars run by it is not known\n√ pod/web-1"), "{output}");
}
