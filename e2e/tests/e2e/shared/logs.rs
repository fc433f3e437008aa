//! Log files that become JSON lines, on a real cluster: the mounts, the user, the order in which containers end.

use anyhow::ensure;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams};
use outrigger_api::names;
use outrigger_e2e::manifest::writer_pod;
use outrigger_e2e::namespace::{DEADLINE, summary};
use outrigger_e2e::{Namespace, eventually};
use serde_json::Value;

use super::in_namespace;
use crate::ENABLED;

const LABELS: [(&str, &str); 2] = [ENABLED, ("pod-security.kubernetes.io/enforce", "restricted")];

/// The pod ends by itself, and its sidecars after it; rotation goes on all the while.
#[tokio::test]
async fn every_line_of_a_file_is_a_line_of_json() {
    in_namespace(&LABELS, |ns| async move {
        ns.create::<Pod>(writer_pod("writer", Some(10_000))).await.unwrap();
        eventually("the pod to complete", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("writer").await?;
            let phase = pod.status.clone().and_then(|status| status.phase).unwrap_or_default();
            ensure!(phase == "Succeeded", "{}", summary(&pod));
            Ok(())
        })
        .await;
        let logs =
            |container: &str| LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        let text = ns.api::<Pod>().logs("writer", &logs(names::LOGS_CONTAINER)).await.unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_all_there(&ns, &lines, 10_000);
    })
    .await;
}

/// The adapter is stopped after the app, and ends when everything is out.
#[tokio::test]
async fn what_is_written_before_a_pod_is_deleted_is_out() {
    in_namespace(&LABELS, |ns| async move {
        ns.create::<Pod>(writer_pod("writer", None)).await.unwrap();
        eventually("the pod to run", DEADLINE, || async {
            let pod = ns.api::<Pod>().get("writer").await?;
            let phase = pod.status.clone().and_then(|status| status.phase).unwrap_or_default();
            ensure!(phase == "Running", "{}", summary(&pod));
            Ok(())
        })
        .await;
        let (app, adapter) = tokio::join!(follow(&ns, "app"), async {
            let following = follow(&ns, names::LOGS_CONTAINER);
            let deleting = async {
                eventually("some lines", DEADLINE, || async {
                    let params = LogParams {
                        container: Some(names::LOGS_CONTAINER.to_owned()),
                        tail_lines: Some(1500),
                        ..LogParams::default()
                    };
                    let seen = ns.api::<Pod>().logs("writer", &params).await?.lines().count();
                    ensure!(seen == 1500, "{seen} lines");
                    Ok(())
                })
                .await;
                ns.api::<Pod>().delete("writer", &DeleteParams::default()).await.unwrap();
            };
            tokio::join!(following, deleting).0
        });
        let told = app.last().unwrap();
        let count = told.split(' ').nth(1).and_then(|count| count.parse().ok());
        assert_all_there(&ns, &adapter, count.unwrap_or_else(|| panic!("no count in {told:?}")));
    })
    .await;
}

/// What a container writes, to its end.
async fn follow(ns: &Namespace, container: &str) -> Vec<String> {
    let params = LogParams { container: Some(container.to_owned()), follow: true, ..LogParams::default() };
    let stream = ns.api::<Pod>().log_stream("writer", &params).await.unwrap();
    stream.lines().try_collect().await.unwrap()
}

#[track_caller]
fn assert_all_there(ns: &Namespace, lines: &[String], count: usize) {
    let mut seen = vec![0_u32; count];
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // What the adapter says of itself goes to its stderr, and the kubelet keeps both in one file.
        if line["target"].as_str().is_some_and(|target| target.starts_with("outrigger_")) {
            continue;
        }
        let number = line["number"].as_str().and_then(|number| number.parse::<usize>().ok());
        seen[number.unwrap_or_else(|| panic!("no number in {line}"))] += 1;
        assert_eq!(
            (&line["level"], &line["pod"], &line["container"]),
            (&"info".into(), &"writer".into(), &"app".into())
        );
        assert_eq!(
            (&line["namespace"], &line["log.file.path"]),
            (&ns.name.as_str().into(), &"/var/log/app/app.log".into())
        );
    }
    let other: Vec<_> = seen.iter().enumerate().filter(|(_, times)| **times != 1).take(10).collect();
    assert!(other.is_empty(), "(number, times) that are not there once, the first of them: {other:?}");
}
