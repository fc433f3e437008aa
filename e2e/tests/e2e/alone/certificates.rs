//! What becomes of admissions when a certificate is lost, or is somebody else's. Renewal is in `release.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use outrigger_e2e::injected::assert_injected;
use outrigger_e2e::manifest::server_pod;
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::release::{self, NAMESPACE, WEBHOOK};
use outrigger_e2e::{Release, eventually, served, with_namespace};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::ENABLED;

/// The Secret of `tls.mode: secret`.
const CORPORATE: &str = "outrigger-corporate";

/// An authority that nobody has heard of, and the Secret with the certificate that it gave the webhook.
fn certified_by(authority: &str) -> (String, Value) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, authority);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);

    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new([format!("{WEBHOOK}.{NAMESPACE}.svc")]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap().pem();
    let data = json!({"ca.crt": authority, "tls.crt": certificate, "tls.key": key.serialize_pem()});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CORPORATE}, "stringData": data});
    (authority, secret)
}

async fn apply_secret(release: &Release, secret: Value) {
    let secrets = release.namespace().api::<Secret>();
    secrets.patch(CORPORATE, &PatchParams::apply("e2e").force(), &Patch::Apply(secret)).await.unwrap();
}

/// As certs/README.md has it. With `Fail`, so that an answer that is missing is an error and not a pod without sidecar.
#[tokio::test]
async fn a_certificate_of_somebody_elses_may_change_its_authority_under_load() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    apply_secret(&release, certified_by("the first").1).await;
    let secret = format!("tls.secretName={CORPORATE}");
    let release = Release::with(&["failurePolicy=Fail", "tls.mode=secret", &secret]).await;
    let pods = release.webhook_pods().await;
    let before = served::by_all(&release, &pods).await.unwrap();

    with_namespace(&[ENABLED], |ns| async move {
        apply_secret(&release, certified_by("the second").1).await;
        let changed = AtomicBool::new(false);
        let create = async {
            while !changed.load(Ordering::Relaxed) {
                assert_injected(&ns.dry_run(server_pod("web")).await.expect("the answer is there"));
            }
        };
        let change = eventually("every replica to serve the second", DEADLINE, || async {
            // At no time what the API server would refuse.
            let now = served::by_all(&release, &pods).await.unwrap();
            ensure!(now.iter().all(|certificate| !before.contains(certificate)), "the first");
            changed.store(true, Ordering::Relaxed);
            Ok(())
        });
        tokio::join!(create, change);
        release.namespace().api::<Secret>().delete(CORPORATE, &DeleteParams::default()).await.unwrap();
    })
    .await;
    release::uninstall();
}

/// It waited for a `helm upgrade`.
#[tokio::test]
async fn a_lost_secret_and_an_authority_of_somebody_elses_are_mended() {
    let _alone = release::alone().await;
    let release = Release::with(&[]).await;
    let pods = release.webhook_pods().await;
    let before = served::by_all(&release, &pods).await.unwrap();

    let secret = format!("{WEBHOOK}-certificate");
    release.namespace().api::<Secret>().delete(&secret, &DeleteParams::default()).await.unwrap();
    let foreign = ByteString(certified_by("somebody else").0.into_bytes());
    let webhooks = release.configuration().await.webhooks.unwrap_or_default();
    let replaced = webhooks.into_iter().map(|mut webhook| {
        webhook.client_config.ca_bundle = Some(foreign.clone());
        webhook
    });
    let change = Patch::Merge(json!({"webhooks": replaced.collect::<Vec<_>>()}));
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(release.client.clone());
    configurations.patch(WEBHOOK, &PatchParams::default(), &change).await.unwrap();
    served::by_all(&release, &pods).await.expect_err("the API server would refuse what they serve");

    eventually("every replica to serve what would be accepted", DEADLINE, || async {
        let now = served::by_all(&release, &pods).await?;
        ensure!(now.iter().all(|certificate| !before.contains(certificate)), "the lost certificate");
        Ok(())
    })
    .await;
    with_namespace(&[ENABLED], |ns| async move {
        eventually("pods to be injected", DEADLINE, || async {
            let pod = ns.dry_run(server_pod("web")).await?;
            ensure!(
                outrigger_e2e::injected::proxy(&pod).is_some(),
                "the API server goes by the old caBundle"
            );
            Ok(())
        })
        .await;
    })
    .await;
    assert_eq!(
        pods.iter().map(kube::ResourceExt::uid).collect::<Vec<_>>(),
        release.webhook_pods().await.iter().map(kube::ResourceExt::uid).collect::<Vec<_>>()
    );
}
