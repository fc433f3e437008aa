//! `outrigger explain`.

use std::fmt::Write as _;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::installed::{
    CONFIGURATION, DEPLOYMENT, RELEASE, injected_pod, installed, outrigger, pod, put_namespace, put_profile,
    put_web,
};

const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

#[test]
fn a_deployment_and_where_its_pods_stand() {
    let api = installed();
    put_web(&api);
    api.edit(WEB, |web| {
        let template = &mut web["spec"]["template"];
        template["metadata"]["annotations"] =
            json!({"outrigger.dev/log-level": "debug", "outrigger.dev/lok-level": "x"});
        template["spec"]["containers"][0]["ports"]
            .as_array_mut()
            .unwrap()
            .push(json!({"containerPort": 9000}));
    });
    api.put("/api/v1/namespaces/shop/pods/web-current", injected_pod("web-current", &json!({})));
    api.put("/api/v1/namespaces/shop/pods/web-missed", pod("web-missed"));
    let mut other = pod("other");
    other["metadata"]["labels"]["app"] = "other".into();
    api.put("/api/v1/namespaces/shop/pods/other", other);
    assert_snapshot!(outrigger(&api, &["explain", "deploy/web"]));
}

#[test]
fn a_pod_that_runs_with_an_older_profile() {
    let api = installed();
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    assert_snapshot!(outrigger(&api, &["explain", "pod/web-1"]));
}

/// What programs rely on. The patch of a pod that can be reconfigured would hold its token.
#[test]
fn the_json_has_names_that_stay_and_no_token() {
    let api = installed();
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    let output = outrigger(&api, &["explain", "pod/web-1", "-o", "json"]);
    assert!(!output.contains("secret"), "{output}");
    let (_, json) = output.split_once("--- stdout\n").unwrap();
    let mut json: Value = serde_json::from_str(json).unwrap();
    // Hashes of what another crate writes.
    for field in ["configHash", "rendered"] {
        json["workloads"][0]["report"].as_object_mut().unwrap().remove(field).unwrap();
    }
    assert_snapshot!(format!("{json:#}"));
}

#[test]
fn each_way_to_stay_without_sidecar_has_its_remedy() {
    let api = installed();
    let mut said = String::new();
    let mut explain = |what: &str, edit: &dyn Fn(&mut Value)| {
        put_web(&api);
        api.edit(WEB, edit);
        let output = outrigger(&api, &["explain", "deploy/web"]);
        let (code, text) = output.split_once("\n--- stderr\n--- stdout\n").unwrap();
        writeln!(said, "{what}: {code}\n{text}").unwrap();
    };
    explain("opted out", &|web| {
        web["spec"]["template"]["metadata"]["labels"]["outrigger.dev/inject"] = "disabled".into();
    });
    explain("no such profile", &|web| {
        web["spec"]["template"]["metadata"]["annotations"] = json!({"outrigger.dev/profile": "none"});
    });
    explain("wrong annotation", &|web| {
        web["spec"]["template"]["metadata"]["annotations"] = json!({"outrigger.dev/log-level": "loud"});
    });
    explain("nothing to intercept", &|web| {
        web["spec"]["template"]["metadata"]["annotations"] = json!({"outrigger.dev/interception": "ports"});
        web["spec"]["template"]["spec"]["containers"][0]["ports"] = Value::Null;
    });
    assert_snapshot!(said);
}

#[test]
fn a_namespace_that_nobody_labelled() {
    let api = installed();
    api.put("/api/v1/namespaces/quiet/pods/web-1", pod("web-1"));
    assert_snapshot!(outrigger(&api, &["explain", "-n", "quiet", "pod/web-1"]));
}

/// The chart leaves it out, whatever its labels: the API server does not ask.
#[test]
fn a_namespace_that_is_left_out() {
    let api = installed();
    api.put("/api/v1/namespaces/kube-system/pods/dns", pod("dns"));
    for labels in [json!({"outrigger.dev/inject": "enabled"}), json!({})] {
        // Without a label the advice was to label it, which leads nowhere.
        put_namespace(&api, "kube-system", &labels);
        let output = outrigger(&api, &["explain", "-n", "kube-system", "pod/dns"]);
        assert!(
            output.contains("is not injected: ExcludedNamespace") && output.starts_with("exit code 0"),
            "{output}"
        );
    }
}

/// Who followed the advice to label met the next obstacle, one after the other.
#[test]
fn what_stands_behind_the_label_is_told_with_it() {
    let api = installed();
    let mut alone = pod("web-1");
    alone["metadata"]["ownerReferences"] = Value::Null;
    alone["spec"]["hostNetwork"] = true.into();
    api.put("/api/v1/namespaces/quiet/pods/web-1", alone);
    let output = outrigger(&api, &["explain", "-n", "quiet", "pod/web-1"]);
    assert!(output.contains("  then         it would still not be injected: HostNetwork: "), "{output}");
}

#[test]
fn a_label_on_the_workload_itself_is_told_to_have_no_effect() {
    let api = installed();
    put_web(&api);
    api.edit(WEB, |web| web["metadata"]["labels"] = json!({"outrigger.dev/inject": "disabled"}));
    let output = outrigger(&api, &["explain", "deployment.apps/web"]);
    assert!(
        output.contains("note: deployment/web: the label outrigger.dev/inject of the Deployment itself"),
        "{output}"
    );
}

/// They were dropped without a word, or the error asked for another argument.
#[test]
fn arguments_that_do_not_fit_are_told() {
    let error = |args: &[&str]| {
        let output = outrigger(&installed(), args);
        assert!(output.starts_with("exit code 2\n"), "{output}");
        output
    };
    assert!(error(&["explain", "deploy/web", "--offline"]).contains("--offline explains files"));
    assert!(error(&["explain", "deploy/web", "-A"]).contains("-A takes labels"));
}

#[test]
fn all_of_a_namespace_and_pods_by_label() {
    let api = installed();
    put_web(&api);
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    let mut alone = pod("alone");
    alone["metadata"]["ownerReferences"] = Value::Null;
    alone["metadata"]["labels"]["app"] = "alone".into();
    api.put("/api/v1/namespaces/shop/pods/alone", alone);
    let heads = |args: &[&str]| {
        let output = outrigger(&api, args);
        let heads = output.lines().filter(|line| line.contains(" in namespace shop "));
        heads.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        heads(&["explain", "ns/shop"]),
        [
            "√ deployment/web in namespace shop would be injected",
            "√ pod/alone in namespace shop would be injected"
        ]
    );
    assert_eq!(
        heads(&["explain", "-l", "app=alone", "-A"]),
        ["√ pod/alone in namespace shop would be injected"]
    );
}

#[test]
fn a_file_in_a_cluster_and_without_one() {
    let api = installed();
    let file = std::env::temp_dir().join(format!("outrigger-explain-{}.yaml", std::process::id()));
    let mut web = pod("web");
    web["metadata"]["ownerReferences"] = Value::Null;
    std::fs::write(&file, web.to_string()).unwrap();
    let file_name = file.to_str().unwrap();
    let online = outrigger(&api, &["explain", "-f", file_name]);
    assert!(
        online.contains("√ pod/web in namespace shop would be injected")
            && online.contains("on the namespace"),
        "{online}"
    );
    let offline = outrigger(&api, &["explain", "--offline", "-n", "shop", "-f", file_name]);
    assert!(offline.contains("- pod/web in namespace shop is not injected: NotOptedIn"), "{offline}");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"outrigger.dev/inject": "enabled"}}});
    std::fs::write(&file, format!("{web}\n{namespace}")).unwrap();
    let described = outrigger(&api, &["explain", "--offline", "-n", "shop", "-f", file_name]);
    std::fs::remove_file(&file).unwrap();
    assert!(described.contains("√ pod/web in namespace shop would be injected"), "{described}");
}

/// An ordinary user, who may see his namespace and nothing of the release's.
#[test]
fn who_may_see_only_his_namespace_gets_an_answer_with_notes() {
    let api = installed();
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    for request in [
        &format!("GET {}", CONFIGURATION.trim_end_matches("/outrigger-webhook")),
        &format!("GET {DEPLOYMENT}"),
        "GET /api/v1/nodes",
    ] {
        api.forbid(request);
    }
    let output = outrigger(&api, &["explain", "pod/web-1"]);
    assert!(output.contains("note: you are not allowed to list webhook configurations: "), "{output}");
    assert!(output.contains("web-1: current (injected by "), "{output}");
}

#[test]
fn what_is_not_there_is_told() {
    assert_snapshot!(outrigger(&installed(), &["explain", "deploy/wbe"]));
    assert_snapshot!(outrigger(&installed(), &["explain", "svc/web"]));
    let output = outrigger(&installed(), &["explain", "ns/nosuch"]);
    assert!(output.starts_with("exit code 2\n--- stderr\nerror: there is no namespace/nosuch\n"), "{output}");
}
