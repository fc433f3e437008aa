//! Requests without a good credential never reach the app, and the app is told who asks.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a failed unwrap in a test is the test's report; literals are passed"
)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outrigger_api::auth::{ApiKeySpec, AuthSpec, ClaimHeader, JwtSpec};
use serde_json::{Value, json};
use support::app::Count;
use support::client::Answer;
use support::guarded::{ask, decisions, guarded};
use support::http2::{call, connect, run};
use support::tls::Secrets;
use support::{Running, wait_until};

/// Who signs tokens, by each of three algorithms.
struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    secret: [u8; 32],
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref()).unwrap(),
            secret: *b"0123456789abcdef0123456789abcdef",
        }
    }

    fn jwks(&self) -> String {
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(self.ed25519.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "use": "sig", "x": encode(x), "y": encode(y)},
            {"kty": "oct", "kid": "hs", "k": encode(self.secret)},
            {"kty": "EC", "crv": "secp256k1", "kid": "other", "x": "", "y": ""},
        ]})
        .to_string()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = match header["alg"].as_str().unwrap_or_default() {
            "ES256" => encode(self.p256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap()),
            "HS256" => {
                encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), signed.as_bytes()))
            }
            "none" => String::new(),
            _ => encode(self.ed25519.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}")
    }

    /// A good one.
    fn good(&self) -> String {
        self.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(json!({})))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims, with these instead.
fn claims(other: Value) -> Value {
    let mut claims = json!({"iss": "https://login", "aud": ["shop", "x"], "sub": "ada", "role": ["admin"], "exp": now() + 60});
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn jwt() -> JwtSpec {
    JwtSpec {
        secret_name: "keys".to_owned(),
        issuer: Some("https://login".to_owned()),
        audiences: vec!["shop".to_owned()],
        leeway: "5s".parse().unwrap(),
        claims_to_headers: vec![
            ClaimHeader { claim: "sub".to_owned(), header: "X-User".to_owned() },
            ClaimHeader { claim: "role".to_owned(), header: "X-Role".to_owned() },
        ],
    }
}

fn spec() -> AuthSpec {
    let keys = ApiKeySpec {
        secret_name: "clients".to_owned(),
        name_header: Some("X-Client".to_owned()),
        ..ApiKeySpec::default()
    };
    AuthSpec {
        jwt: Some(jwt()),
        api_key: Some(keys),
        exempt_paths: vec!["/healthz".to_owned()],
        rules: serde_json::from_value(json!([
            {"pathPrefixes": ["/admin"], "claims": [{"claim": "role", "values": ["admin"]}]},
            {"methods": ["GET"], "pathPrefixes": ["/shop"]},
        ]))
        .unwrap(),
        ..AuthSpec::default()
    }
}

/// A proxy that asks for credentials, and how often its app was asked.
fn proxy(name: &str, issuer: &Issuer, auth: AuthSpec) -> (Running, Count, Secrets) {
    let secrets = Secrets::new(&format!("auth-{name}"));
    let hash = digest::digest(&digest::SHA256, b"the-key-of-cart");
    let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    secrets.write("keys", &[("jwks.json", &issuer.jwks())]);
    secrets.write("clients", &[("cart", &format!("{hex}\n"))]);
    let (proxy, hits) = guarded(&secrets, auth);
    (proxy, hits, secrets)
}

fn with_token(proxy: &Running, line: &str, token: &str) -> Answer {
    ask(proxy, line, &format!("Authorization: Bearer {token}\r\n"))
}

#[test]
fn good_tokens_of_each_algorithm_pass_and_the_app_is_told_whose() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("good", &issuer, spec());
    for (alg, kid) in [("EdDSA", "ed"), ("ES256", "ec"), ("HS256", "hs")] {
        for header in [json!({"alg": alg, "kid": kid, "typ": "JWT"}), json!({"alg": alg})] {
            let token = issuer.token(&header, &claims(json!({"nbf": now()})));
            for _ in 0..2 {
                let headers = format!(
                    "authorization: bearer {token}\r\nX-User: root\r\nx_role: god\r\nX-Client: me\r\n"
                );
                let answer = ask(&proxy, "GET /shop/carts", &headers);
                let told = answer.text();
                assert_eq!(answer.status, 200, "{header}");
                assert!(told.contains("X-User: ada\r\n") && told.contains("X-Role: admin\r\n"), "{told}");
                assert!(
                    !told.contains("root") && !told.contains("god") && !told.contains("X-Client"),
                    "{told}"
                );
            }
        }
    }
    assert_eq!((hits.get(), decisions(&proxy, "allowed")), (12, 12));
}

#[test]
fn a_thousand_bad_requests_and_the_app_sees_none() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("bad", &issuer, spec());
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let good = issuer.good();
    let mut bad: Vec<(String, &str)> = vec![
        ("a.b.c".to_owned(), "no token"),
        (good.replace('.', ""), "no token"),
        (format!("{good}.x"), "no token"),
        (format!("{good}="), "no token"),
        ("x".repeat(20_000), "too long"),
        (Issuer::new().good(), "not signed"),
        (issuer.token(&json!({"alg": "none"}), &claims(json!({}))), "algorithm"),
        (issuer.token(&json!({"alg": "None", "kid": "ed"}), &claims(json!({}))), "algorithm"),
        (issuer.token(&json!({"alg": "EdDSA", "kid": "hs"}), &claims(json!({}))), "not signed"),
        (issuer.token(&json!({"alg": "EdDSA", "crit": ["exp"]}), &claims(json!({}))), "extension"),
        (issuer.token(&header, &claims(json!({"exp": now() - 10}))), "expired"),
        (issuer.token(&header, &claims(json!({"exp": null}))), "expiry"),
        (issuer.token(&header, &claims(json!({"exp": "never"}))), "expiry"),
        (issuer.token(&header, &claims(json!({"nbf": now() + 100}))), "not valid yet"),
        (issuer.token(&header, &claims(json!({"nbf": "x"}))), "not valid yet"),
        (issuer.token(&header, &claims(json!({"iss": "https://other"}))), "issuer"),
        (issuer.token(&header, &claims(json!({"aud": "other"}))), "audience"),
        (issuer.token(&header, &claims(json!({"aud": {"shop": 1}}))), "audience"),
        (issuer.token(&header, &json!([])), "no token"),
    ];
    // A public key that is taken for a secret of HMAC: the classic confusion of algorithms.
    let forged = format!(
        "{}.{}",
        encode(json!({"alg": "HS256", "kid": "ed"}).to_string()),
        encode(claims(json!({})).to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, issuer.ed25519.public_key().as_ref());
    bad.push((format!("{forged}.{}", encode(hmac::sign(&key, forged.as_bytes()))), "not signed"));
    // Each byte of a good one changed.
    for at in (0..good.len()).step_by(3) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        bad.push((String::from_utf8(bytes).unwrap(), ""));
    }
    let mut refused = 0;
    let mut client = proxy.connect();
    for (token, why) in bad.iter().cycle().take(1000) {
        client.send(format!("GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
        let answer = client.answer();
        assert!(
            answer.status == 401 && answer.has("outrigger-reason: unauthenticated"),
            "{token}: {}",
            answer.head
        );
        let told = answer.head.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")).unwrap();
        assert!(told.starts_with(r#"Bearer realm="outrigger", error="invalid_token""#), "{told}");
        assert!(told.contains(why), "{token}: {told}");
        refused += 1;
    }
    assert_eq!((hits.get(), refused), (0, 1000));
    wait_until("all are counted", || decisions(&proxy, "invalid") == 1000);
    assert!(!proxy.stats(support::TOKEN).1.to_string().contains(&good[..20]), "no credential in /stats");
}

#[test]
fn without_a_credential_there_is_a_challenge_and_two_are_one_too_many() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("none", &issuer, spec());
    for headers in ["", "Authorization: Basic YTpi\r\n", "Authorization:\r\n"] {
        let answer = ask(&proxy, "GET /shop", headers);
        assert_eq!(answer.status, 401);
        assert!(
            answer.has(r#"WWW-Authenticate: Bearer realm="outrigger", ApiKey realm="outrigger""#),
            "{}",
            answer.head
        );
    }
    let good = issuer.good();
    let twice = format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n");
    assert_eq!(ask(&proxy, "GET /shop", &twice).status, 401);
    assert_eq!(hits.get(), 0);
}

#[test]
fn api_keys_are_known_by_their_hash_and_kept_from_the_app() {
    let (proxy, hits, secrets) = proxy("keys", &Issuer::new(), spec());
    let answer = ask(&proxy, "GET /shop", "x-api-key: the-key-of-cart\r\nX-Client: root\r\n");
    let told = answer.text();
    assert_eq!(answer.status, 200);
    assert!(
        told.contains("X-Client: cart\r\n") && !told.contains("the-key") && !told.contains("root"),
        "{told}"
    );
    for key in ["", "the-key-of-cars", "THE-KEY-OF-CART"] {
        assert_eq!(ask(&proxy, "GET /shop", &format!("X-API-Key: {key}\r\n")).status, 401, "{key}");
    }
    assert_eq!(hits.get(), 1);
    // Another key for the same client, without a restart.
    let hash = digest::digest(&digest::SHA256, b"new");
    let hash = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
    secrets.write("clients", &[("cart", &hash)]);
    wait_until("it is taken", || ask(&proxy, "GET /shop", "X-API-Key: new\r\n").status == 200);
    assert_eq!(ask(&proxy, "GET /shop", "X-API-Key: the-key-of-cart\r\n").status, 401);
}

#[test]
fn rules_say_what_a_credential_allows_and_exempt_paths_need_none() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("rules", &issuer, spec());
    let user = issuer.token(&json!({"alg": "EdDSA"}), &claims(json!({"role": "user"})));
    for (line, token, status) in [
        ("GET /shop/a", &user, 200),
        ("POST /shop/a", &user, 403),
        ("GET /admin", &user, 403),
        ("GET /", &user, 403),
        ("GET /shop/../admin", &user, 403),
        ("GET /shop/%2e%2e/admin", &user, 403),
        ("DELETE /admin/a", &issuer.good(), 200),
    ] {
        let answer = with_token(&proxy, line, token);
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.has("outrigger-reason: forbidden"), status == 403);
    }
    assert_eq!(ask(&proxy, "GET /healthz?full", "").status, 200);
    for line in ["GET /healthz/", "GET //healthz", "GET /Healthz", "GET /healthz/../admin", "GET /healthz%2f"]
    {
        assert_eq!(ask(&proxy, line, "").status, 401, "{line}");
    }
    let told = ask(&proxy, "GET /healthz", "X-User: root\r\n").text();
    assert!(!told.contains("root"), "{told}");
    assert_eq!(hits.get(), 4);
}

/// They were left out without a word, so the app took who had them for somebody without; lists came as if they had other entries.
#[test]
fn a_token_whose_claims_no_header_can_tell_is_not_taken() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("untold", &issuer, spec());
    let ask = |name: &str, claim: Value| {
        let token = issuer.token(&json!({"alg": "EdDSA"}), &claims(json!({name: claim})));
        with_token(&proxy, "GET /shop", &token)
    };
    for claim in [
        json!({"name": "ada"}),
        json!("ada\r\nX-Role: admin"),
        json!(" ada"),
        json!(["user,admin"]),
        json!(["user", "admin "]),
        json!([["admin"]]),
        json!([1]),
    ] {
        let answer = ask("role", claim.clone());
        assert_eq!(answer.status, 401, "{claim}");
        assert!(answer.head.contains("a claim that no header can tell"), "{}", answer.head);
    }
    assert_eq!(hits.get(), 0);
    for (claim, told) in [
        (json!("Zo\u{eb}, the first"), "X-Role: Zo\u{eb}, the first\r\n"),
        (json!(["user", "ops"]), "X-Role: user,ops\r\n"),
        (json!(7), "X-Role: 7\r\n"),
        (json!(true), "X-Role: true\r\n"),
    ] {
        let answer = ask("role", claim);
        assert!(answer.status == 200 && answer.text().contains(told), "{told}: {}", answer.text());
    }
    assert!(!ask("role", Value::Null).text().contains("X-Role"));
}

/// They were judged as `/healthz` and `/shop`, and reached the app, which makes other paths of them.
#[test]
fn a_target_that_is_judged_by_another_path_than_the_apps_never_passes() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("targets", &issuer, spec());
    let user = issuer.token(&json!({"alg": "EdDSA"}), &claims(json!({"role": "user"})));
    for target in [
        "/healthz#/../admin",
        "/shop#/../admin",
        "admin/x://y/healthz",
        "admin/x://y/shop",
        "://x/healthz",
        "http:///admin/healthz",
        "http://y\\admin/healthz",
        "healthz",
    ] {
        let answer = with_token(&proxy, &format!("GET {target}"), &user);
        assert!(answer.status == 400 && answer.has("outrigger-reason: bad_request"), "{target}");
        assert_eq!(ask(&proxy, &format!("GET {target}"), "").status, 400, "{target}");
    }
    assert_eq!(ask(&proxy, "GET http://shop?/healthz", "").status, 401);
    assert_eq!(hits.get(), 0);
    assert_eq!(ask(&proxy, "GET http://shop/healthz?full", "").status, 200);
}

#[test]
fn keys_are_rotated_without_a_restart_and_bad_ones_change_nothing() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (proxy, _, secrets) = proxy("rotation", &old, spec());
    assert_eq!(with_token(&proxy, "GET /shop", &old.good()).status, 200);
    let reloaded = r#"auth_keys_last_reload_success{direction="inbound",port="web"}"#;
    for bad in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519"}]}"#,
    ] {
        secrets.write("keys", &[("jwks.json", bad)]);
        wait_until("it is refused", || proxy.metric(reloaded) == 0);
        assert_eq!(with_token(&proxy, "GET /shop", &old.good()).status, 200, "{bad}");
        secrets.write("keys", &[("jwks.json", &old.jwks())]);
        wait_until("it is good again", || proxy.metric(reloaded) == 1);
    }
    secrets.write("keys", &[("jwks.json", &new.jwks())]);
    wait_until("the new one is known", || with_token(&proxy, "GET /shop", &new.good()).status == 200);
    // Also one that was verified before.
    assert_eq!(with_token(&proxy, "GET /shop", &old.good()).status, 401);
}

#[test]
fn by_http2_and_grpc_it_is_the_same() {
    let issuer = Issuer::new();
    let (proxy, hits, _secrets) = proxy("http2", &issuer, spec());
    run(async {
        let client = connect(proxy.port).await;
        let (head, _) = client.get("/shop").await;
        assert_eq!((head.status.as_u16(), head.headers.contains_key("www-authenticate")), (401, true));
        for path in ["?/healthz", "*"] {
            let path = http::uri::PathAndQuery::from_static(path);
            let uri = http::Uri::builder().scheme("http").authority("shop").path_and_query(path).build();
            let request = http::Request::get(uri.unwrap()).body(()).unwrap();
            let (answer, _) = client.send(request, true).await;
            assert_eq!(answer.await.unwrap().status(), 400);
        }
        let (answer, _) = client.send(call(), true).await;
        assert_eq!(&answer.await.unwrap().headers()["grpc-status"], "16");
        let mut forbidden = call();
        forbidden.headers_mut().insert("authorization", format!("Bearer {}", issuer.good()).parse().unwrap());
        let (answer, _) = client.send(forbidden, true).await;
        assert_eq!(&answer.await.unwrap().headers()["grpc-status"], "7");
    });
    assert_eq!(hits.get(), 0);
}
