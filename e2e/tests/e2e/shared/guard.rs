//! What stands between clients and an app: TLS, and who may ask. Secrets change while requests go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use outrigger_api::names::{ENABLED, FIRST_LISTEN_PORT, INJECT_LABEL, PROFILE_ANNOTATION};
use outrigger_e2e::manifest::{server_pod, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, eventually, metrics};
use rcgen::{CertificateParams, KeyPair};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::in_namespace;

async fn write(ns: &Namespace, name: &str, files: Value) {
    let manifest =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": files});
    let secrets = ns.api::<Secret>();
    let apply = kube::api::PatchParams::apply("e2e").force();
    secrets.patch(name, &apply, &kube::api::Patch::Apply(manifest)).await.unwrap();
}

/// A pod `web` whose port the profile guards, and a port of this machine that leads to the proxy's.
async fn guarded(ns: &Namespace, inbound: Value) -> (Pod, SocketAddr) {
    ns.create_profile("guarded", json!({"interception": "ports", "inbound": [inbound]})).await.unwrap();
    let annotated = json!({"metadata": {"annotations": {PROFILE_ANNOTATION: "guarded"}}});
    ns.create::<Pod>(with(server_pod("web"), annotated)).await.unwrap();
    let pod = ns.pod_ready("web").await;
    (pod, forward(ns.clone(), "web", FIRST_LISTEN_PORT).await)
}

/// As `kubectl port-forward`: programs of this machine reach the pod there.
async fn forward(ns: Namespace, pod: &'static str, port: u16) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let ns = ns.clone();
            tokio::spawn(async move {
                let mut forward = ns.api::<Pod>().portforward(pod, &[port]).await?;
                let mut stream = forward.take_stream(port).context("the port is forwarded")?;
                tokio::io::copy_bidirectional(&mut client, &mut stream).await?;
                anyhow::Ok(())
            });
        }
    });
    address
}

/// What a program of this machine says, and whether it was content.
async fn says(program: &'static str, arguments: Vec<String>) -> (bool, String) {
    let run = move || Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn curl(arguments: &[&str]) -> (bool, String) {
    let quiet = ["-sS", "-k", "--max-time", "60"];
    says("curl", quiet.iter().chain(arguments).map(|text| (*text).to_owned()).collect()).await
}

fn certificate(name: &str) -> Value {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["web".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()})
}

#[tokio::test]
async fn a_certificate_is_rotated_under_load_without_a_failed_request() {
    in_namespace(&[(INJECT_LABEL, ENABLED)], |ns| async move {
        write(&ns, "web-tls", certificate("first")).await;
        let (pod, address) = guarded(&ns, json!({"port": "http", "tls": {"secretName": "web-tls"}})).await;
        let shown = || async {
            let asked =
                ["s_client", "-connect", &address.to_string(), "-servername", "web"].map(str::to_owned);
            says("openssl", asked.to_vec()).await.1
        };
        let first = shown().await;
        assert!(first.contains("CN = first") || first.contains("CN=first"), "{first}");
        assert!(first.contains("TLSv1.3"), "{first}");

        // Each with a handshake of its own, from now until the new one was seen for a while.
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let load = tokio::spawn({
            let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
            async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let (good, said) = curl(&["-f", &format!("https://{address}/")]).await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !good {
                        failed.push(said);
                    }
                }
                failed
            }
        });
        write(&ns, "web-tls", certificate("second")).await;
        eventually("the second certificate", DEADLINE, || async {
            let said = shown().await;
            ensure!(said.contains("CN = second") || said.contains("CN=second"), "{said}");
            Ok(())
        })
        .await;
        let by_then = asked.load(Ordering::Relaxed);
        eventually("more requests", DEADLINE, || async {
            ensure!(asked.load(Ordering::Relaxed) > by_then + 20);
            Ok(())
        })
        .await;
        over.store(true, Ordering::Relaxed);
        let failed = load.await.unwrap();
        assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), asked.load(Ordering::Relaxed));
        let restarts = outrigger_e2e::injected::restarts(&ns.pod_ready("web").await);
        assert_eq!(restarts, outrigger_e2e::injected::restarts(&pod));
    })
    .await;
}

fn jwks(secret: [u8; 32]) -> Value {
    json!({"jwks.json": json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)}]}).to_string()})
}

fn token(secret: [u8; 32]) -> String {
    let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!(
        "{}.{}",
        encode(&json!({"alg": "HS256"})),
        encode(&json!({"sub": "ada", "exp": 4_102_444_800_u64}))
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[tokio::test]
async fn a_thousand_bad_requests_stay_outside_and_keys_are_rotated() {
    in_namespace(&[(INJECT_LABEL, ENABLED)], |ns| async move {
        let (old, new) = ([1; 32], [2; 32]);
        write(&ns, "keys", jwks(old)).await;
        // Of `secret`, by the C library's `crypt`, at the lowest cost.
        let users = "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        write(&ns, "users", json!({"htpasswd": users})).await;
        let auth = json!({"jwt": {"secretName": "keys"}, "basic": {"secretName": "users"}});
        let (pod, address) = guarded(&ns, json!({"port": "http", "auth": auth})).await;
        let url = format!("http://{address}/");
        let bearer = |secret| format!("Authorization: Bearer {}", token(secret));
        assert!(curl(&["-f", "-H", &bearer(old), &url]).await.0);
        assert!(curl(&["-f", "-u", "ada:secret", &url]).await.0);

        // By one call of curl for each kind, which takes a list of URLs.
        let many = format!("http://{address}/[1-250]");
        let codes = ["-o", "/dev/null", "-w", "%{http_code}\n"];
        for credential in
            [&["-u", "ada:wrong"][..], &["-H", &bearer(new)], &["-H", "Authorization: Bearer a.b.c"], &[]]
        {
            let (_, said) = curl(&[&codes[..], credential, &["--max-time", "300", &many]].concat()).await;
            assert_eq!(said.lines().filter(|line| *line == "401").count(), 250, "{credential:?}: {said}");
        }
        let counted = async |of: &str| {
            let series = format!(r#"outrigger_http_requests_total{{direction="inbound",{of}}}"#);
            metrics::sum_over(&ns.client, std::slice::from_ref(&pod), &series).await
        };
        // The app has seen the two good ones. The last is counted a moment after its answer.
        eventually("a thousand to be refused, and two not", DEADLINE, || async {
            let (refused, all) =
                (counted(r#"reason="unauthenticated""#).await?, counted(r#"direction="inbound""#).await?);
            ensure!((refused, all) == (1000, 1002), "{refused} of {all}");
            Ok(())
        })
        .await;

        write(&ns, "keys", jwks(new)).await;
        eventually("the new key", DEADLINE, || async {
            ensure!(curl(&["-f", "-H", &bearer(new), &url]).await.0);
            Ok(())
        })
        .await;
        assert!(!curl(&["-f", "-H", &bearer(old), &url]).await.0);
    })
    .await;
}
