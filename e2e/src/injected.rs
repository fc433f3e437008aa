//! What injection has made of a pod.

use anyhow::Context;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use outrigger_api::config::SidecarConfig;
use outrigger_api::names;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Namespace;

/// The proxy's container; none where the pod was not injected.
pub fn proxy(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.find(|container| container.name == names::PROXY_CONTAINER)
}

/// Fails unless the pod has the proxy as a native sidecar, the label and both annotations.
#[track_caller]
pub fn assert_injected(pod: &Pod) {
    let proxy =
        proxy(pod).unwrap_or_else(|| panic!("no proxy in {}", serde_json::to_string(&pod.spec).unwrap()));
    assert_eq!(proxy.restart_policy.as_deref(), Some("Always"), "not a native sidecar");
    let mut mounts = proxy.volume_mounts.iter().flatten();
    assert!(
        mounts.all(|mount| mount.name == names::CONFIG_VOLUME),
        "the API server mounted the app's token too"
    );
    assert_eq!(pod.labels().get(names::INJECTED_LABEL).map(String::as_str), Some("true"));
    assert!(pod.annotations().contains_key(names::STATUS_ANNOTATION), "no status annotation");
    config(pod);
}

/// Fails if injection has left anything on the pod.
#[track_caller]
pub fn assert_untouched(pod: &Pod) {
    assert!(proxy(pod).is_none(), "the pod has a proxy");
    let ours = |key: &&String| key.starts_with(names::PREFIX) && *key != names::INJECT_LABEL;
    let left: Vec<_> = pod.labels().keys().chain(pod.annotations().keys()).filter(ours).collect();
    assert!(left.is_empty(), "the pod has {left:?}");
}

/// The sidecar config on the pod.
#[track_caller]
pub fn config(pod: &Pod) -> SidecarConfig {
    let annotation =
        pod.annotations().get(names::CONFIG_ANNOTATION).expect("the pod has a config annotation");
    SidecarConfig::parse(annotation).expect("the config on the pod is valid")
}

/// The config that the sidecar runs by: over a forwarded port, because it tells loopback alone.
pub async fn running_config(ns: &Namespace, pod: &Pod) -> anyhow::Result<Value> {
    let mut forward = ns.api::<Pod>().portforward(&pod.name_any(), &[names::ADMIN_PORT]).await?;
    let mut stream = forward.take_stream(names::ADMIN_PORT).context("the port is forwarded")?;
    stream.write_all(b"GET /config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no body in {answer:?}"))?;
    Ok(serde_json::from_str::<Value>(body)?["config"].clone())
}

/// How often a container of it was started again, all of them together.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.iter();
    let containers =
        status.flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses));
    containers.flatten().map(|container| container.restart_count).sum()
}
