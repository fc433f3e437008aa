//! `outrigger check`.

use insta::assert_snapshot;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::api::Api;
use crate::installed::{
    CONFIGURATION, CRD, DEPLOYMENT, RELEASE, SECRET, configuration, empty, injected_pod, installed,
    outrigger, pod, push_flag, put_namespace, put_profile, run,
};

/// What cert-manager knows a webhook configuration by that it writes its authority into.
fn annotate(api: &Api) {
    api.edit(CONFIGURATION, |configuration| {
        let from = "outrigger-system/outrigger-webhook";
        configuration["metadata"]["annotations"] = json!({"cert-manager.io/inject-ca-from": from});
    });
}

#[test]
fn a_good_installation() {
    assert_snapshot!(outrigger(&installed(), &["check"]));
}

#[test]
fn a_good_installation_as_json() {
    let output = outrigger(&installed(), &["check", "-o", "json"]);
    let json: Value = serde_json::from_str(output.split_once("--- stdout\n").unwrap().1).unwrap();
    let checks: Vec<_> =
        json["checks"].as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
    assert!(json["checks"].as_array().unwrap().iter().all(|line| line["result"] == "good"), "{output}");
    assert_snapshot!(checks.join("\n"));
    let page = include_str!("../../../../docs/cli.md");
    for check in checks {
        assert!(page.contains(&format!("| `{check}` |")), "docs/cli.md has no row for {check}");
    }
}

#[test]
fn a_cluster_without_outrigger() {
    assert_snapshot!(outrigger(&empty(), &["check"]));
}

#[test]
fn everything_wrong_has_its_line_and_its_command() {
    let api = installed();
    api.edit(DEPLOYMENT, |deployment| {
        deployment["status"]["readyReplicas"] = 1.into();
        deployment["metadata"]["labels"]["app.kubernetes.io/version"] = "0.0.9".into();
    });
    api.edit(CRD, |definition| {
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] = json!({});
    });
    // Another authority than the one that has signed.
    let other = installed().object(CONFIGURATION)["webhooks"][0]["clientConfig"]["caBundle"].clone();
    api.edit(CONFIGURATION, |configuration| configuration["webhooks"][1]["clientConfig"]["caBundle"] = other);
    api.deny("watch namespaces");
    put_profile(&api, "shop", "wrong", &json!({"proxy": {"loglevel": "debug"}}));
    let second = configuration(&Value::Null, "another", "second");
    api.put(&CONFIGURATION.replace("outrigger-webhook", "second-outrigger-webhook"), second);
    api.stop_injecting();
    assert_snapshot!(outrigger(&api, &["check", "--timeout", "0s"]));
}

#[test]
fn a_secret_without_certificate_is_told() {
    let api = installed();
    api.edit(SECRET, |secret| secret["data"] = Value::Null);
    let output = outrigger(&api, &["check"]);
    assert!(output.starts_with("exit code 1") && output.contains("holds no certificate yet"), "{output}");
}

/// The check took the first certificate of the Secret alone, and refused what API servers accept.
#[test]
fn a_certificate_with_its_intermediate_verifies_by_the_root() {
    let api = installed();
    push_flag(&api, "--tls-mode=secret");
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
    let intermediate = CertifiedIssuer::signed_by(authority("intermediate"), key(), &root).unwrap();
    let leaf = CertificateParams::new(vec!["outrigger-webhook.outrigger-system.svc".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key(), &intermediate).unwrap();
    let encoded = |pem: String| serde_json::to_value(ByteString(pem.into_bytes())).unwrap();
    api.edit(CONFIGURATION, |configuration| {
        for entry in configuration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = encoded(root.pem());
        }
    });
    api.edit(SECRET, |secret| secret["data"] = json!({"tls.crt": encoded(leaf.pem() + &intermediate.pem())}));
    let output = outrigger(&api, &["check"]);
    assert!(output.starts_with("exit code 0") && output.contains("the certificate verifies"), "{output}");
    api.edit(SECRET, |secret| secret["data"] = json!({"tls.crt": encoded(leaf.pem())}));
    let output = outrigger(&api, &["check"]);
    assert!(
        output.starts_with("exit code 1") && output.contains("API servers refuse the webhook"),
        "{output}"
    );
}

#[test]
fn the_hint_about_a_certificate_is_for_whoever_keeps_it() {
    let api = installed();
    let other = installed().object(SECRET);
    api.put(SECRET, other);
    let hinted = |hint: &str| {
        let output = outrigger(&api, &["check"]);
        assert!(output.contains("API servers refuse the webhook") && output.contains(hint), "{output}");
    };
    hinted("patch secret outrigger-webhook-certificate --type=json");
    push_flag(&api, "--tls-mode=secret");
    hinted("describe secret outrigger-webhook-certificate; whoever keeps it must see to its tls.crt");
    annotate(&api);
    hinted("describe certificates; cert-manager keeps secret outrigger-webhook-certificate and the caBundle");
}

/// The Role was gone, and the check asked for `ClusterRoles` alone.
#[test]
fn a_right_of_the_role_that_is_missing_is_told() {
    for (right, told) in [
        (
            "update secrets outrigger-system/outrigger-webhook-certificate",
            "secrets/outrigger-webhook-certificate",
        ),
        ("update leases outrigger-system/outrigger-webhook", "leases.coordination.k8s.io/outrigger-webhook"),
    ] {
        let api = installed();
        api.deny(right);
        let output = outrigger(&api, &["check"]);
        let told = format!("service account outrigger-webhook of the webhook may not update {told}\n");
        assert!(output.starts_with("exit code 1") && output.contains(&told), "{output}");
    }
}

#[test]
fn the_webhook_is_asked_for_the_rights_of_its_own_values() {
    let api = installed();
    for right in ["list secrets", "patch pods", "patch sidecarprofiles/status"] {
        api.deny(right);
    }
    let told = |missing: &str| {
        let output = outrigger(&api, &["check"]);
        assert!(output.contains(&format!("of the webhook may not {missing}\n")), "{output}");
    };
    let status = "patch sidecarprofiles.outrigger.dev/status";
    told(status);
    push_flag(&api, "--live-reload");
    told(&format!("{status}, patch pods"));
    push_flag(&api, "--tls-mode=secret");
    told(&format!("{status}, list secrets/outrigger-webhook-certificate, patch pods"));
    // cert-manager changes the configuration, and the webhook may not.
    annotate(&api);
    api.deny("patch mutatingwebhookconfigurations");
    told(&format!("{status}, list secrets/outrigger-webhook-certificate, patch pods"));
}

/// `my-outrigger-webhook` was taken for release `my`.
#[test]
fn a_release_that_is_called_like_the_chart_keeps_its_name() {
    let api = empty();
    let mut ours = configuration(&Value::Null, RELEASE, "my-outrigger");
    ours["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "my-outrigger", "meta.helm.sh/release-namespace": RELEASE});
    api.put(&CONFIGURATION.replace("outrigger-webhook", "my-outrigger-webhook"), ours);
    let output = outrigger(&api, &["check", "--pre", "--release", "my-outrigger"]);
    assert!(
        output.starts_with("exit code 0")
            && output.contains("installed already: helm --namespace outrigger-system upgrade my-outrigger "),
        "{output}"
    );
}

/// Istio chooses by its own label; both at once would take the same ports.
#[test]
fn another_mesh_on_the_same_namespace_is_told() {
    let api = installed();
    let selector = json!({"matchLabels": {"istio-injection": "enabled"}});
    let entry = json!({"name": "namespace.sidecar-injector.istio.io", "namespaceSelector": selector, "clientConfig": {}});
    api.put(
        &CONFIGURATION.replace("outrigger-webhook", "istio-sidecar-injector"),
        json!({"webhooks": [entry]}),
    );
    assert!(outrigger(&api, &["check"]).starts_with("exit code 0"));
    put_namespace(&api, "both", &json!({"outrigger.dev/inject": "enabled", "istio-injection": "enabled"}));
    let output = outrigger(&api, &["check"]);
    assert!(output.contains("istio.io injects the pods of namespace both too"), "{output}");
}

/// With one namespace to look at, its pods were refused for want of the release namespace's profile.
#[test]
fn pods_of_one_namespace_are_judged_by_the_profile_of_the_release() {
    let api = installed();
    api.put("/api/v1/namespaces/shop/pods/missed", pod("missed"));
    let output = outrigger(&api, &["check", "--namespace=shop"]);
    assert!(output.contains("without the sidecar that the label asks for"), "{output}");
}

/// Who has all rights in one namespace, and none in the webhook's: the check was good, whatever its pods were.
#[test]
fn pods_are_judged_where_the_webhooks_namespace_is_closed() {
    let api = installed();
    for request in [
        "GET /apis/apps/v1/namespaces/outrigger-system/",
        "GET /api/v1/namespaces/outrigger-system/",
        "GET /apis/outrigger.dev/v1alpha1/namespaces/outrigger-system/",
        "GET /apis/outrigger.dev/v1alpha1/sidecarprofiles ",
        "GET /api/v1/namespaces ",
        "GET /api/v1/nodes ",
        "POST /apis/authorization.k8s.io/",
    ] {
        api.forbid(request);
    }
    let check = ["check", "--namespace=shop"];
    api.put(
        "/api/v1/namespaces/shop/pods/web-1",
        injected_pod("web-1", &json!({"proxy": {"logLevel": "debug"}})),
    );
    let output = outrigger(&api, &check);
    let skipped = "(-o json says which): OtherWebhooks, Profiles, Replicas, WebhookRights, OutdatedPods, Version, Certificate, \
                   MissedPods\n";
    assert!(output.starts_with("exit code 0") && output.contains(skipped), "{output}");
    api.put("/api/v1/namespaces/shop/pods/missed", pod("missed"));
    let output = outrigger(&api, &check);
    assert!(
        output.starts_with("exit code 1") && output.contains("without the sidecar that the label asks for"),
        "{output}"
    );
}

/// Only the webhook's Deployment can't be read: profiles are compared, images not.
#[test]
fn sidecars_are_compared_with_profiles_where_the_deployment_is_not_to_be_seen() {
    let api = installed();
    api.forbid("GET /apis/apps/v1/namespaces/outrigger-system/deployments/");
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    let output = outrigger(&api, &["check"]);
    let skipped = "(-o json says which): Replicas, Version, Certificate, OutdatedPods\n";
    assert!(
        output.starts_with("exit code 0") && output.contains("concerns: 1,") && output.contains(skipped),
        "{output}"
    );
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    let output = outrigger(&api, &["check"]);
    assert!(
        output.starts_with("exit code 1") && output.contains("config: logLevel is info, would be debug"),
        "{output}"
    );
}

/// The rights of the chart's own check: pods of one namespace, and nothing else.
#[test]
fn the_proof_alone_is_enough_for_who_may_do_no_more() {
    let api = installed();
    for request in ["GET /apis", "GET /api/", "POST /apis"] {
        api.forbid(request);
    }
    assert_snapshot!(outrigger(&api, &["check", "--namespace=outrigger-check", "--timeout=30"]));
}

#[test]
fn who_may_nothing_learns_nothing() {
    let api = installed();
    for request in ["GET /", "POST /"] {
        api.forbid(request);
    }
    let output = outrigger(&api, &["check", "--timeout", "0s"]);
    assert!(
        output.starts_with("exit code 2") && output.contains("skipped, for want of the rights"),
        "{output}"
    );
}

#[test]
fn a_cluster_that_is_not_there_is_told_once() {
    // A port that nobody listens on: bound, and free again.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&format!("http://{address}"), &["check", "--timeout", "1s"]);
    assert_snapshot!(output.replace(&address.to_string(), "ADDRESS"));
}

#[test]
fn a_context_that_is_not_there_is_told_once() {
    assert_snapshot!(outrigger(&installed(), &["check", "--context", "elsewhere"]));
}

#[test]
fn before_an_installation() {
    assert_snapshot!(outrigger(&empty(), &["check", "--pre"]));
}

#[test]
fn what_stands_in_the_way_of_an_installation() {
    let api = empty();
    api.deny("create clusterroles");
    api.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/outrigger-webhook", json!({}));
    api.put(CONFIGURATION, configuration(&Value::Null, "elsewhere", "outrigger"));
    api.put(CRD, json!({"spec": {"versions": []}, "status": {"conditions": [{"type": "Established", "status": "True"}]}}));
    assert_snapshot!(outrigger(&api, &["check", "--pre"]));
}

/// linkerd2#13702: with `failurePolicy: Ignore`, who is missed is silent about it.
#[test]
fn pods_that_were_missed_are_told_by_their_owner() {
    let api = installed();
    for name in ["web-1", "web-2"] {
        api.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod(name));
    }
    let mut alone = pod("alone");
    alone["metadata"]["ownerReferences"] = Value::Null;
    api.put("/api/v1/namespaces/shop/pods/alone", alone);
    let mut refused = pod("refused");
    refused["metadata"]["annotations"] = json!({"outrigger.dev/profile": "none"});
    refused["metadata"]["ownerReferences"] = json!([{"kind": "Rollout", "name": "r", "controller": true}]);
    api.put("/api/v1/namespaces/shop/pods/refused", refused);
    let mut over = pod("over");
    over["status"]["phase"] = "Succeeded".into();
    api.put("/api/v1/namespaces/shop/pods/over", over);
    // Nobody asked for these.
    api.put("/api/v1/namespaces/quiet/pods/web-1", pod("web-1"));
    let mut labelled = pod("web-1");
    labelled["metadata"]["labels"]["outrigger.dev/inject"] = "enabled".into();
    api.put("/api/v1/namespaces/kube-system/pods/web-1", labelled);
    let output = outrigger(&api, &["check"]);
    assert_snapshot!(output.split_once("gets outrigger-proxy").unwrap().1);
}

#[test]
fn pods_with_an_older_sidecar_or_profile_are_told() {
    let api = installed();
    api.put("/api/v1/namespaces/shop/pods/web-1", injected_pod("web-1", &json!({})));
    let output = outrigger(&api, &["check"]);
    assert!(
        output.starts_with("exit code 0") && output.contains("pods that a label concerns: 1,"),
        "{output}"
    );
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"logLevel": "debug"}}));
    let output = outrigger(&api, &["check"]);
    let reconfigurable = output.split_once("gets outrigger-proxy").unwrap().1.to_owned();
    put_profile(&api, RELEASE, "default", &json!({"proxy": {"resources": {"requests": {"cpu": "20m"}}}}));
    let output = outrigger(&api, &["check"]);
    let outdated = output.split_once("gets outrigger-proxy").unwrap().1;
    assert_snapshot!(format!("{reconfigurable}---{outdated}"));
}
