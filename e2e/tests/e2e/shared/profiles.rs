//! What becomes of a profile when it is written. That the schema and the types judge alike is shown without a cluster, case by
//! case, by `crates/api/tests/profiles.rs`; here, that the API server goes by that schema.

use http::Request;
use http::header::ACCEPT;
use outrigger_api::names;
use outrigger_api::profile::SidecarProfileSpec;
use outrigger_e2e::Namespace;
use outrigger_e2e::manifest::{server_pod, with};
use serde_json::{Value, json};

use super::in_namespace;

#[tokio::test]
async fn a_wrong_profile_is_refused_when_it_is_written() {
    in_namespace(&[], |ns| async move {
        let wrong = json!({
            "interception": "magic",
            "proxy": {"logLevel": "loud"},
            "sharedVolume": {"mounts": [{"container": "app"}]},
        });
        let words = [
            "spec.interception",
            "\"auto\", \"redirect\", \"ports\"",
            "spec.proxy.logLevel",
            "mounts[0].path",
        ];
        assert_refused(&ns, wrong, &words).await;
        // Rules, which come after types.
        let wrong = json!({
            "proxy": {"resources": {"requests": {"memory": "1Gi", "cpu": "1 core"}}},
            "inbound": [{"port": "http"}, {"port": 70000}, {"port": "http"}],
            "sharedVolume": {"mounts": [{"container": "app", "path": "data"}]},
        });
        let words = [
            "spec.proxy.resources.requests.memory",
            "the request exceeds limits.memory",
            "spec.proxy.resources.requests.cpu",
            "a number with a unit, as 10m",
            "a port appears twice",
            "spec.inbound[1].port",
            "a number from 1 to 65535",
            "spec.sharedVolume.mounts[0].path",
            "an absolute path",
        ];
        assert_refused(&ns, wrong, &words).await;
    })
    .await;
}

async fn assert_refused(ns: &Namespace, spec: Value, words: &[&str]) {
    let refused = ns.create_profile("wrong", spec).await;
    let message = refused.expect_err("the profile is wrong").to_string();
    for wanted in words {
        assert!(message.contains(wanted), "no {wanted:?} in {message:?}");
    }
}

/// Of what no rule of the schema can say; a profile stored before a rule was there goes the same way.
#[tokio::test]
async fn a_pod_with_a_wrong_profile_is_refused_with_every_fault() {
    in_namespace(&[(names::INJECT_LABEL, names::ENABLED)], |ns| async move {
        let mounts = json!([
            {"container": "app", "path": "/a"},
            {"container": "app", "path": "/a//"},
            {"container": "app", "path": "/b"},
            {"container": "app", "path": "/b//"},
        ]);
        ns.create_profile("wrong", json!({"sharedVolume": {"mounts": mounts}})).await.unwrap();
        let using_it = json!({"metadata": {"annotations": {names::PROFILE_ANNOTATION: "wrong"}}});
        let refused = ns.dry_run(with(server_pod("web"), using_it)).await;
        let message = refused.expect_err("the profile is wrong").to_string();
        for wanted in
            ["InvalidProfile", "spec.sharedVolume.mounts[1].path", "spec.sharedVolume.mounts[3].path"]
        {
            assert!(message.contains(wanted), "no {wanted:?} in {message:?}");
        }
    })
    .await;
}

/// What a reader of the object sees is what its pods get.
#[tokio::test]
async fn defaults_are_filled_in_when_a_profile_is_written() {
    in_namespace(&[], |ns| async move {
        let stored = ns.create_profile("empty", json!({})).await.unwrap();
        assert_eq!(stored.data["spec"], json!(SidecarProfileSpec::default()));
    })
    .await;
}

/// As `kubectl get sidecarprofiles` asks.
#[tokio::test]
async fn a_list_of_profiles_tells_what_they_are() {
    in_namespace(&[], |ns| async move {
        ns.create_profile("empty", json!({})).await.unwrap();
        let path = format!("/apis/outrigger.dev/v1alpha1/namespaces/{}/sidecarprofiles", ns.name);
        let request = Request::get(path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
        let table: Value = ns.client.request(request.body(Vec::new()).unwrap()).await.unwrap();
        let columns: Vec<_> =
            table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(columns, ["Name", "Interception", "Pods", "Valid", "Age"]);
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..2], ["empty", "auto"]);
    })
    .await;
}
