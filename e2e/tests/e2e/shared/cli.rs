//! The command against a real cluster: what it explains, finds and mends. The program is the one that is in the image.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use outrigger_api::names;
use outrigger_e2e::injected::{assert_injected, assert_untouched, restarts, running_config};
use outrigger_e2e::manifest::{server_deployment, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Release, eventually};
use serde_json::{Value, json};

use super::in_namespace;
use crate::ENABLED;
use crate::command::{findings, in_shell, outrigger, outrigger_json};

/// A Deployment with a profile of the namespace.
fn deployment_with(profile: &str) -> Value {
    let annotations = json!({names::PROFILE_ANNOTATION: profile});
    let template = json!({"metadata": {"annotations": annotations}});
    with(server_deployment("web", 1), json!({"spec": {"template": template}}))
}

/// What the API server has filled in since is no difference.
#[tokio::test]
async fn a_running_deployment_is_explained() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 1)).await.unwrap();
        let pods = ns.rolled_out("web").await;
        let (explained, code) = outrigger_json(&["explain", "deploy/web", "--namespace", &ns.name]);
        assert_eq!(code, Some(0), "{explained}");
        let web = &explained["workloads"][0];
        assert_eq!(
            (&web["outcome"], &web["optIn"]["place"]),
            (&json!("injected"), &json!("namespace")),
            "{web}"
        );
        assert_eq!(web["profile"]["id"], "outrigger-system/default");
        assert_eq!(web["pods"][0]["pod"], json!(pods[0].name_any()));
        assert_eq!(web["pods"][0]["stands"], "current", "{web}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_from_before_the_label_is_found_and_mended_by_the_command_named() {
    in_namespace(&[], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 1)).await.unwrap();
        assert_untouched(&ns.rolled_out("web").await[0]);
        assert!(findings(&ns, "MissedPods").is_empty());

        ns.label(ENABLED).await;
        let found = findings(&ns, "MissedPods");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["object"], json!(format!("{}/deployment/web", ns.name)));

        let command = found[0]["command"].as_str().unwrap();
        let mended = in_shell(command);
        assert!(mended.status.success(), "{command}: {}", String::from_utf8_lossy(&mended.stderr));
        assert_injected(&ns.rolled_out("web").await[0]);
        let found = findings(&ns, "MissedPods");
        assert!(found.is_empty(), "{found:?}");
    })
    .await;
}

#[tokio::test]
async fn a_changed_log_level_reaches_the_running_proxy() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("own", json!({"proxy": {"logLevel": "info"}})).await.unwrap();
        // The watch of the webhook may not know the profile yet; the Deployment tries again.
        ns.create::<Deployment>(deployment_with("own")).await.unwrap();
        let before = ns.rolled_out("web").await.remove(0);
        assert_eq!(running_config(&ns, &before).await.unwrap()["logLevel"], "info");

        ns.change_profile("own", json!({"proxy": {"logLevel": "debug"}})).await;
        let reconfigure = ["reconfigure", "deploy/web", "--namespace", &ns.name];
        let (dry, code) = outrigger_json(&[&reconfigure[..], &["--dry-run"]].concat());
        assert_eq!((&dry["pods"][0]["result"], code), (&json!("reconfigured"), Some(0)), "{dry}");
        assert_eq!(running_config(&ns, &before).await.unwrap()["logLevel"], "info");

        // By itself it waits until the sidecar says that it runs by what was written.
        let (done, code) = outrigger_json(&[&reconfigure[..], &["--wait", "5m"]].concat());
        assert_eq!((&done["pods"][0]["result"], code), (&json!("reconfigured"), Some(0)), "{done}");
        assert!(done["notes"].is_null(), "{done}");
        assert_eq!(running_config(&ns, &before).await.unwrap()["logLevel"], "debug");

        let after = ns.rolled_out("web").await.remove(0);
        assert_eq!(after.uid(), before.uid(), "it is the same pod");
        assert_eq!(restarts(&after), 0);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_named_and_done_by_one() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("own", json!({})).await.unwrap();
        ns.create::<Deployment>(deployment_with("own")).await.unwrap();
        ns.rolled_out("web").await;
        ns.change_profile("own", json!({"proxy": {"resources": {"requests": {"cpu": "15m"}}}})).await;

        let (done, code) = outrigger_json(&["reconfigure", "deploy/web", "--namespace", &ns.name]);
        assert_eq!((&done["pods"][0]["result"], code), (&json!("restartNeeded"), Some(1)), "{done}");
        let found = findings(&ns, "OutdatedPods");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0]["message"].as_str().unwrap().contains("resources.requests.cpu"), "{found:?}");

        // Each restart asks the webhook, whose watch may not know the change yet.
        let command = found[0]["command"].as_str().unwrap().to_owned();
        eventually("the pods to be current", DEADLINE, || async {
            assert!(in_shell(&command).status.success(), "{command}");
            ns.rolled_out("web").await;
            let found = findings(&ns, "OutdatedPods");
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })
        .await;
    })
    .await;
}

/// With the rights of whoever runs the tests, which are all.
#[tokio::test]
async fn a_good_installation_passes_every_check() {
    in_namespace(&[ENABLED], |ns| async move {
        eventually("all to be good", DEADLINE, || async {
            let (found, _) = outrigger_json(&["check", "--namespace", &ns.name]);
            let lines = found["checks"].as_array().unwrap();
            let bad: Vec<_> = lines.iter().filter(|line| line["result"] != "good").collect();
            ensure!(bad.is_empty(), "{bad:?}");
            ensure!(lines.len() == 12, "{} checks", lines.len());
            Ok(())
        })
        .await;
    })
    .await;
}

/// Before the release's own names were there they were free; now they are its own, and nothing is in its way.
#[tokio::test]
async fn the_check_before_knows_an_installation() {
    let _release = Release::shared().await;
    let output = outrigger(&["check", "--pre"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("is installed already"), "{said}");
}
