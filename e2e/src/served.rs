//! The certificate that the webhook serves.

use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::release::{NAMESPACE, WEBHOOK};
use crate::{Namespace, Release};

/// The certificates of all of these webhook pods, in their order; an error if any serves what the API server would refuse.
pub async fn by_all(release: &Release, pods: &[Pod]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let registration = release.configuration().await;
    let mut certificates = Vec::new();
    for pod in pods {
        let served = certificate(&release.namespace(), pod, &registration).await;
        certificates.push(served.with_context(|| pod.name_any())?);
    }
    Ok(certificates)
}

/// Shakes hands with one webhook pod as the API server does: by the Service's name, trusting nothing but the `caBundle`
/// of the registration. Returns the certificate that was served; an error is what the API server would have seen.
///
/// An admission would prove less: the API server keeps connections open, over which no certificate is looked at again.
pub async fn certificate(
    namespace: &Namespace,
    pod: &Pod,
    registration: &MutatingWebhookConfiguration,
) -> anyhow::Result<CertificateDer<'static>> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted(registration)?)
        .with_no_client_auth();
    let mut forward = namespace.api::<Pod>().portforward(&pod.name_any(), &[10250]).await?;
    let stream = forward.take_stream(10250).context("the port is forwarded")?;
    let name = ServerName::try_from(format!("{WEBHOOK}.{NAMESPACE}.svc"))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let chain = tls.get_ref().1.peer_certificates().context("a server has a certificate")?;
    Ok(chain[0].clone().into_owned())
}

/// The CAs of the registration; both entries must have the same.
fn trusted(registration: &MutatingWebhookConfiguration) -> anyhow::Result<RootCertStore> {
    let mut bundles: Vec<_> =
        registration.webhooks.iter().flatten().map(|w| &w.client_config.ca_bundle).collect();
    bundles.dedup();
    ensure!(bundles.len() == 1, "the entries have different CA bundles");
    let bundle = bundles[0].as_ref().context("the webhook has not written its CA yet")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle.0) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}
