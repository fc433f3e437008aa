//! What a profile says of an upstream, and all of it at once: what runs is what is written, also after a change.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{Patch, PatchParams};
use outrigger_api::names::PROFILE_ANNOTATION;
use outrigger_e2e::manifest::{server_pod, service, with};
use outrigger_e2e::metrics::sum_over;
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, eventually, injected};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::in_namespace;
use crate::ENABLED;
use crate::command::outrigger;

/// Where the first upstream of a profile is called, in a pod without other ports that are taken over.
async fn upstream_listener(ns: &Namespace, pod: &Pod) -> u16 {
    let config = injected::config(&ns.pod_ready(pod.metadata.name.as_deref().unwrap()).await);
    config.upstreams[0].listen.expect("in ports mode it has a listener")
}

/// Status and body of an answer on a port of the pod's loopback.
async fn get(ns: &Namespace, pod: &str, port: u16) -> anyhow::Result<(u16, String)> {
    let mut forward = ns.api::<Pod>().portforward(pod, &[port]).await?;
    let mut stream = forward.take_stream(port).context("the port is forwarded")?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no body in {answer:?}"))?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// A pod that serves, by this profile of its own and interception by ports.
async fn pod_by(ns: &Namespace, name: &str, mut profile: Value) -> Pod {
    profile["interception"] = json!("ports");
    ns.create_profile(name, profile).await.expect("the profile is right");
    let annotated = json!({"metadata": {"annotations": {PROFILE_ANNOTATION: name}, "labels": {"app": name}}});
    // The watch of the webhook may not know the profile yet.
    eventually("the pod is admitted", DEADLINE, || async {
        Ok(ns.create::<Pod>(with(server_pod(name), annotated.clone())).await?)
    })
    .await;
    ns.pod_ready(name).await
}

#[tokio::test]
async fn a_changed_page_of_a_fallback_reaches_a_pod_that_runs() {
    in_namespace(&[ENABLED], |ns| async move {
        let page = |text: &str| json!({"metadata": {"name": "pages"}, "data": {"down.html": text}});
        ns.create::<ConfigMap>(page("the first page")).await.unwrap();
        let breaker = json!({
            "consecutiveFailures": 1, "openFor": "10m", "maxOpenFor": "10m",
            "fallback": {"status": 503, "bodyFrom": {"configMapName": "pages", "key": "down.html"}},
        });
        // Nobody has that name, so the first request opens it.
        let upstream =
            json!({"name": "api", "host": "nobody", "port": 80, "env": "API_URL", "circuitBreaker": breaker});
        let pod = pod_by(&ns, "web", json!({"upstreams": [upstream]})).await;
        let port = upstream_listener(&ns, &pod).await;
        eventually("the first page", DEADLINE, || async {
            let answer = get(&ns, "web", port).await?;
            ensure!(answer == (503, "the first page".to_owned()), "{answer:?}");
            Ok(())
        })
        .await;

        let change = Patch::Merge(page("the second page"));
        ns.api::<ConfigMap>().patch("pages", &PatchParams::default(), &change).await.unwrap();
        // The kubelet looks at a pod's volumes when the pod changes, and once a minute or so.
        let touched = Patch::Merge(json!({"metadata": {"annotations": {"touched": "1"}}}));
        ns.api::<Pod>().patch("web", &PatchParams::default(), &touched).await.unwrap();
        eventually("the second page", DEADLINE, || async {
            let answer = get(&ns, "web", port).await?;
            ensure!(answer == (503, "the second page".to_owned()), "{answer:?}");
            Ok(())
        })
        .await;
        assert_eq!(injected::restarts(&ns.pod_ready("web").await), 0);
    })
    .await;
}

/// Who signs certificates.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Shop");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// What a Secret holds of a certificate made out to this name.
    fn sign(&self, name: &str) -> Value {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()})
    }
}

async fn secret(ns: &Namespace, name: &str, files: Value) {
    ns.create::<Secret>(json!({"metadata": {"name": name}, "stringData": files})).await.unwrap();
}

/// Both ends are proxies of ours, before apps that know of no TLS.
#[tokio::test]
async fn an_upstream_is_called_by_tls_with_an_authority_and_a_certificate_of_ones_own() {
    in_namespace(&[ENABLED], |ns| async move {
        let (authority, other) = (Authority::new(), Authority::new());
        secret(&ns, "api-tls", authority.sign("api")).await;
        secret(&ns, "cart-tls", authority.sign("cart")).await;
        secret(&ns, "clients", json!({"ca.crt": authority.1})).await;
        for (name, pem) in [("shop-ca", &authority.1), ("other-ca", &other.1)] {
            ns.create::<ConfigMap>(json!({"metadata": {"name": name}, "data": {"ca.crt": pem}}))
                .await
                .unwrap();
        }
        let clients =
            json!({"secretName": "clients", "mode": "required", "subjectHeader": "X-Client-Subject"});
        let tls = json!({"secretName": "api-tls", "clientCertificates": clients});
        let api = pod_by(&ns, "api", json!({"inbound": [{"port": "http", "tls": tls}]})).await;
        ns.create::<Service>(service("api")).await.unwrap();
        let calling = |ca: &str, certificate: Option<&str>| {
            let mut tls = json!({"ca": {"configMapName": ca}});
            if let Some(name) = certificate {
                tls["clientCertificate"] = json!({"secretName": name});
            }
            json!({"upstreams": [{"name": "api", "host": "api", "port": 80, "env": "API_URL", "tls": tls}]})
        };
        for (name, ca, certificate, wanted) in [
            ("cart", "shop-ca", Some("cart-tls"), 200),
            ("anybody", "shop-ca", None, 502),
            ("misled", "other-ca", Some("cart-tls"), 502),
        ] {
            let pod = pod_by(&ns, name, calling(ca, certificate)).await;
            let port = upstream_listener(&ns, &pod).await;
            eventually("an answer", DEADLINE, || async {
                let (status, body) = get(&ns, name, port).await?;
                ensure!(status == wanted, "{name}: {status} {body}");
                Ok(())
            })
            .await;
        }
        let handshakes = async |result: &str| {
            let series =
                format!(r#"outrigger_tls_handshakes_total{{direction="inbound",result="{result}"}}"#);
            sum_over(&ns.client, std::slice::from_ref(&api), &series).await.unwrap()
        };
        assert!(handshakes("full").await > 0 && handshakes("client_certificate").await > 0);
    })
    .await;
}

#[tokio::test]
async fn all_policies_of_a_pod_that_runs_are_explained() {
    in_namespace(&[ENABLED], |ns| async move {
        let authority = Authority::new();
        secret(&ns, "web-tls", authority.sign("web")).await;
        secret(&ns, "users", json!({"htpasswd": "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"})).await;
        ns.create::<ConfigMap>(json!({"metadata": {"name": "shop-ca"}, "data": {"ca.crt": authority.1}})).await.unwrap();
        let external = json!({"url": "http://login:8080/check", "headersToClient": ["Set-Cookie"]});
        let inbound = json!({
            "port": "http",
            "timeouts": {"request": "15s"},
            "limits": {"maxRequests": 100, "rate": {"requests": 50}},
            "tls": {"secretName": "web-tls"},
            "auth": {"basic": {"secretName": "users"}, "external": external, "rules": [{"pathPrefixes": ["/shop"]}]},
            "requestHeaders": {"remove": ["X-Debug"]},
            "responseHeaders": {"set": [{"name": "X-Mesh", "value": "outrigger"}]},
            "overrides": [{"status": [404], "body": "lost?"}],
        });
        let upstream = json!({
            "name": "api", "host": "api", "port": 80, "env": "API_URL",
            "timeouts": {"connect": "1s"},
            "limits": {"maxRequests": 10},
            "circuitBreaker": {"mode": "observe"},
            "retries": {"max": 2},
            "tls": {"ca": {"configMapName": "shop-ca"}},
        });
        pod_by(&ns, "web", json!({"inbound": [inbound], "upstreams": [upstream]})).await;
        let output = outrigger(&["explain", "pod/web", "--namespace", &ns.name]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        for row in [
            "port http: timeouts {request: 15s}",
            "port http: limits {maxRequests: 100, rate: {requests: 50, per: 1s}}",
            "port http: tls {secretName: web-tls, ",
            "realm: outrigger",
            "headersToClient: [Set-Cookie]",
            "rules: [{pathPrefixes: [/shop]}]",
            "port http: requestHeaders {remove: [X-Debug]}",
            "port http: responseHeaders {set: [{name: X-Mesh, value: outrigger}]}",
            "port http: overrides [{status: [404], body: lost?}]",
            "upstream api (api:80): timeouts {connect: 1s}",
            "upstream api (api:80): limits {maxRequests: 10}",
            "upstream api (api:80): circuitBreaker {mode: observe, consecutiveFailures: 5, ",
            "upstream api (api:80): retries {max: 2, ",
            "upstream api (api:80): tls {ca: {configMapName: shop-ca}, ",
        ] {
            assert!(text.contains(row), "no {row:?} in\n{text}");
        }
        assert!(!text.contains("$2y$"), "no credential: {text}");
    })
    .await;
}
