//! The webhook's certificate: what it serves stands in a Secret, what API servers trust in the webhook configuration.

use std::time::SystemTime;

use outrigger_webhook::x509::{certificates, validity, verify_chain};
use serde_json::Value;

use super::line::Lines;
use crate::cluster::Cluster;
use crate::installation::{Installation, TlsMode, bytes_at};
use crate::output::str_at;

const CHECK: &str = "Certificate";

/// Verifies the certificate as an API server does. By the Secret: a replica serves what stands there at most 30 s later, and
/// the proof by dry run covers what it serves now.
pub(crate) async fn check(
    cluster: &Cluster,
    installation: &Installation,
    deployment: &Value,
    lines: &mut Lines,
) {
    lines.progress("the webhook's certificate");
    let Installation { name, namespace, service, entries, .. } = installation;
    let (mode, secret_name) = (installation.tls_mode(deployment), installation.secret(deployment));
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret_name}");
    let Some(secret) = lines.answer(CHECK, cluster.find(&path, &format!("read secret {secret_name}")).await)
    else {
        return;
    };
    let Some(secret) = secret else {
        let message = format!("there is no secret {secret_name} in namespace {namespace}");
        let mend = match mode {
            TlsMode::Own => super::webhook::upgrade(installation),
            _ => keeper(mode, namespace, &secret_name),
        };
        return lines.failed(CHECK, message, mend);
    };
    let served = certificates(&bytes_at(&secret, "/data/tls.crt")).unwrap_or_default();
    let Some(certificate) = served.first() else {
        let (why, look) = match mode {
            TlsMode::Own => (
                "no replica of the webhook has made one",
                format!("kubectl --namespace {namespace} logs deployment/{name}"),
            ),
            _ => ("its tls.crt is empty or broken", keeper(mode, namespace, &secret_name)),
        };
        return lines.failed(CHECK, format!("secret {secret_name} holds no certificate yet: {why}"), look);
    };
    let (now, dns) = (SystemTime::now(), format!("{service}.{namespace}.svc"));
    for entry in entries {
        // The whole chain, as it is served: API servers need not know its intermediates.
        if let Err(error) = verify_chain(&served, &bytes_at(entry, "/clientConfig/caBundle"), &dns, now) {
            let entry = str_at(entry, "/name");
            let message = format!(
                "API servers refuse the webhook by its entry {entry} of configuration {name}: {error}"
            );
            return lines.failed(CHECK, message, keeper(mode, namespace, &secret_name));
        }
    }
    let left = validity(certificate).and_then(|(_, end)| end.duration_since(now).ok()).unwrap_or_default();
    let hours = left.as_secs() / 3600;
    let left = if hours >= 48 { format!("{} days", hours / 24) } else { format!("{hours} hours") };
    lines.good(
        CHECK,
        format!("the certificate verifies by the configuration's authority, and has {left} left"),
    );
}

/// What whoever keeps the certificate can do about it.
fn keeper(mode: TlsMode, namespace: &str, secret: &str) -> String {
    match mode {
        // It makes another one where there is none.
        TlsMode::Own => {
            let remove = r#"[{"op": "remove", "path": "/data"}]"#;
            format!("kubectl --namespace {namespace} patch secret {secret} --type=json -p '{remove}'")
        }
        TlsMode::CertManager => format!(
            "kubectl --namespace {namespace} describe certificates; cert-manager keeps secret {secret} and the caBundle"
        ),
        TlsMode::Secret => format!(
            "kubectl --namespace {namespace} describe secret {secret}; whoever keeps it must see to its tls.crt, with any \
             intermediates, and to its ca.crt or tls.caBundle of the chart"
        ),
    }
}
