//! Asks the webhook as an API server does: an `AdmissionReview` over HTTPS, by the name and the authority that its configuration has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::{NAME, RELEASE};
use crate::http;

/// The chart's `timeoutSeconds`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The pod as it is after its admission.
pub(crate) async fn admit(webhook: SocketAddr, ca_bundle: &str, mut pod: Value) -> anyhow::Result<Value> {
    let review = review(&pod);
    let answer = tokio::time::timeout(TIMEOUT, ask(webhook, ca_bundle, &review));
    let answer =
        answer.await.context("the webhook did not answer in time")?.context("failed to ask the webhook")?;
    let response = &answer["response"];
    if response["uid"] != review["request"]["uid"] || response["allowed"] != true {
        bail!("the webhook refused the pod: {response}");
    }
    let Some(patch) = response["patch"].as_str() else {
        bail!("the webhook injected nothing: {response}");
    };
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    json_patch::patch(&mut pod, &patch).context("failed to apply the webhook's patch")?;
    Ok(pod)
}

fn review(pod: &Value) -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "3c5f2a9e-0d1b-4b8e-9a52-6f0e6d6b7a10", "kind": kind, "resource": resource,
            "requestKind": kind, "requestResource": resource,
            "namespace": pod["metadata"]["namespace"], "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

async fn ask(webhook: SocketAddr, ca_bundle: &str, review: &Value) -> anyhow::Result<Value> {
    let bundle = STANDARD.decode(ca_bundle).context("the caBundle is no base64")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(certificate.context("the caBundle is no PEM")?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(format!("{NAME}.{RELEASE}.svc"))?;
    let stream = TcpStream::connect(webhook).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (status, body) = http::ask(stream, "POST /mutate?timeout=5s", Some(&review.to_string())).await?;
    if status != 200 {
        bail!("it answered {status}: {body}");
    }
    serde_json::from_str(&body).context("its answer is no JSON")
}
