//! The webhook's certificate: what it serves stands in a Secret, what API servers trust in the webhook configuration.

use std::time::SystemTime;

use outrigger_webhook::x509::{certificates, validity, verify};

use super::line::Lines;
use crate::cluster::Cluster;
use crate::installation::{Installation, bytes_at, flag};
use crate::output::str_at;

const CHECK: &str = "Certificate";

/// Verifies the certificate as an API server does. By the Secret: a replica serves what stands there at most 30 s later, and
/// the proof by dry run covers what it serves now.
pub(crate) async fn check(cluster: &Cluster, installation: &Installation, lines: &mut Lines) {
    lines.progress("the webhook's certificate");
    let Installation { name, namespace, service, entries } = installation;
    let deployment = installation.deployment(cluster).await.ok().flatten().unwrap_or_default();
    let secret_name =
        flag(&deployment, "secret").map_or_else(|| format!("{name}-certificate"), str::to_owned);
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret_name}");
    let Some(secret) = lines.answer(CHECK, cluster.find(&path, &format!("read secret {secret_name}")).await)
    else {
        return;
    };
    let Some(secret) = secret else {
        let message = format!("there is no secret {secret_name} in namespace {namespace}");
        return lines.failed(CHECK, message, super::webhook::upgrade(installation));
    };
    let served = certificates(&bytes_at(&secret, "/data/tls.crt")).unwrap_or_default();
    let Some(certificate) = served.first() else {
        let message =
            format!("secret {secret_name} holds no certificate yet: no replica of the webhook has made one");
        return lines.failed(
            CHECK,
            message,
            format!("kubectl --namespace {namespace} logs deployment/{name}"),
        );
    };
    let (now, dns) = (SystemTime::now(), format!("{service}.{namespace}.svc"));
    for entry in entries {
        if let Err(error) = verify(certificate, &bytes_at(entry, "/clientConfig/caBundle"), &dns, now) {
            let entry = str_at(entry, "/name");
            let message = format!(
                "API servers refuse the webhook by its entry {entry} of configuration {name}: {error}"
            );
            let renew = if flag(&deployment, "tls-mode") == Some("secret") {
                format!(
                    "kubectl --namespace {namespace} describe secret {secret_name}; whoever keeps it must renew it"
                )
            } else {
                let remove = r#"[{"op": "remove", "path": "/data"}]"#;
                format!(
                    "kubectl --namespace {namespace} patch secret {secret_name} --type=json -p '{remove}'"
                )
            };
            return lines.failed(CHECK, message, renew);
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
