//! Every algorithm of tokens: what it signs is taken, by its own keys alone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use outrigger_api::auth::{AuthSpec, JwtSpec};
use serde_json::{Value, json};
use support::app::Count;
use support::guarded::{ask, guarded};
use support::tls::Secrets;
use support::{Running, client, wait_until};

const SECRET: [u8; 64] = [7; 64];

/// A key of each kind.
struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| {
            let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref()).unwrap()
        };
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let rsa = self.rsa.public_key();
        // RFC 8017 A.1.1: two numbers, of which the first, of 2048 bits, begins with a zero for its sign.
        let (n, e) = (&rsa.as_ref()[9..265], &rsa.as_ref()[267..]);
        let point = |key: &EcdsaKeyPair| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            (encode(x), encode(y))
        };
        let ((x256, y256), (x384, y384)) = (point(&self.p256), point(&self.p384));
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": encode(n), "e": encode(e)},
            {"kty": "EC", "crv": "P-256", "kid": "p256", "x": x256, "y": y256},
            {"kty": "EC", "crv": "P-384", "kid": "p384", "x": x384, "y": y384},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(self.ed25519.public_key())},
            {"kty": "oct", "kid": "secret", "k": encode(SECRET)},
        ]})
    }

    /// A signature by this algorithm, whatever the token says of itself.
    fn sign(&self, by: &str, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, signed, &mut signature).unwrap();
            signature
        };
        let secret = |algorithm| hmac::sign(&hmac::Key::new(algorithm, &SECRET), signed).as_ref().to_vec();
        match by {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, signed).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, signed).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(signed).as_ref().to_vec(),
            "HS256" => secret(hmac::HMAC_SHA256),
            "HS384" => secret(hmac::HMAC_SHA384),
            "HS512" => secret(hmac::HMAC_SHA512),
            _ => Vec::new(),
        }
    }

    /// A token that says this of itself and is signed by that.
    fn token(&self, header: &Value, by: &str) -> String {
        let signed = signed(header);
        format!("{signed}.{}", encode(self.sign(by, signed.as_bytes())))
    }
}

/// Header and good claims of a token.
fn signed(header: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!("{}.{}", encode(header.to_string()), encode(json!({"sub": "ada", "exp": now + 60}).to_string()))
}

const ALGORITHMS: [(&str, &str); 12] = [
    ("RS256", "rsa"),
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("PS384", "rsa"),
    ("PS512", "rsa"),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("EdDSA", "ed"),
    ("HS256", "secret"),
    ("HS384", "secret"),
    ("HS512", "secret"),
];

fn proxy(name: &str, jwks: &Value) -> (Running, Count, Secrets) {
    let secrets = Secrets::new(&format!("jwt-{name}"));
    secrets.write("keys", &[("jwks.json", &jwks.to_string())]);
    let jwt = JwtSpec { secret_name: "keys".to_owned(), ..JwtSpec::default() };
    let (proxy, hits) = guarded(&secrets, AuthSpec { jwt: Some(jwt), ..AuthSpec::default() });
    (proxy, hits, secrets)
}

fn status(proxy: &Running, token: &str) -> u16 {
    ask(proxy, "GET /", &format!("Authorization: Bearer {token}\r\n")).status
}

#[test]
fn each_algorithm_is_taken_by_its_own_signature_alone() {
    let keys = Keys::new();
    let (proxy, hits, _secrets) = proxy("table", &keys.jwks());
    for (alg, kid) in ALGORITHMS {
        for header in [json!({"alg": alg}), json!({"alg": alg, "kid": kid})] {
            assert_eq!(status(&proxy, &keys.token(&header, alg)), 200, "{header}");
        }
        let other = if kid == "rsa" { "p256" } else { "rsa" };
        assert_eq!(
            status(&proxy, &keys.token(&json!({"alg": alg, "kid": other}), alg)),
            401,
            "{alg} by {other}"
        );
        for (by, _) in ALGORITHMS.iter().filter(|(by, _)| *by != alg) {
            let header = json!({"alg": alg, "kid": kid});
            assert_eq!(status(&proxy, &keys.token(&header, by)), 401, "{alg}, signed by {by}");
        }
    }
    assert_eq!(hits.get(), 24);
}

/// The attacks on libraries that let the token choose: `none`, and a public key taken for a secret (CVE-2015-9235).
#[test]
fn a_token_does_not_choose_how_it_is_judged() {
    let keys = Keys::new();
    let jwks = keys.jwks();
    let (proxy, hits, _secrets) = proxy("confusion", &jwks);
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1", "RS1", "ES512", "ES256K", "dir", "A256KW"] {
        let signed = signed(&json!({"alg": alg}));
        for signature in [String::new(), encode("x"), encode(keys.sign("RS256", signed.as_bytes()))] {
            assert_eq!(status(&proxy, &format!("{signed}.{signature}")), 401, "{alg}");
        }
    }
    let n = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["n"].as_str().unwrap()).unwrap();
    let der = keys.rsa.public_key().as_ref().to_vec();
    let pem =
        format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", STANDARD.encode(&der));
    let publics = [
        n,
        der,
        pem.into_bytes(),
        jwks.to_string().into_bytes(),
        keys.p256.public_key().as_ref().to_vec(),
        keys.ed25519.public_key().as_ref().to_vec(),
        Vec::new(),
    ];
    for (alg, hash) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for kid in ["rsa", "p256", "ed", "secret"] {
            for public in &publics {
                let signed = signed(&json!({"alg": alg, "kid": kid}));
                let tag = hmac::sign(&hmac::Key::new(hash, public), signed.as_bytes());
                assert_eq!(status(&proxy, &format!("{signed}.{}", encode(tag))), 401, "{alg} by {kid}");
            }
        }
    }
    // A key that the token brings along, or says where to find.
    for more in [
        json!({"jwk": jwks["keys"][4]}),
        json!({"jku": "http://127.0.0.1/"}),
        json!({"x5u": "http://127.0.0.1/"}),
    ] {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let signed = signed(&header);
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, b"mine, of more than thirty-two bytes"),
            signed.as_bytes(),
        );
        assert_eq!(status(&proxy, &format!("{signed}.{}", encode(tag))), 401, "{header}");
    }
    assert_eq!(hits.get(), 0);
}

#[test]
fn a_key_that_names_an_algorithm_is_for_no_other_and_keys_overlap_while_they_rotate() {
    let (old, new) = (Keys::new(), Keys::new());
    let mut jwks = old.jwks();
    jwks["keys"][0]["alg"] = json!("RS256");
    let (proxy, _, secrets) = proxy("rotation", &jwks);
    for (alg, wanted) in [("RS256", 200), ("RS512", 401), ("PS256", 401)] {
        assert_eq!(status(&proxy, &old.token(&json!({"alg": alg}), alg)), wanted, "{alg}");
    }
    let by = |keys: &Keys| status(&proxy, &keys.token(&json!({"alg": "ES256", "kid": "p256"}), "ES256"));
    assert_eq!((by(&old), by(&new)), (200, 401));
    // Both, as an issuer shows them before it signs by the new one; of the same `kid`, as careless ones do.
    let mut both = old.jwks();
    both["keys"].as_array_mut().unwrap().extend(new.jwks()["keys"].as_array().unwrap().clone());
    secrets.write("keys", &[("jwks.json", &both.to_string())]);
    wait_until("the new one is known", || by(&new) == 200);
    assert_eq!(by(&old), 200);
    secrets.write("keys", &[("jwks.json", &new.jwks().to_string())]);
    wait_until("the old one is forgotten", || by(&old) == 401);
    assert_eq!(by(&new), 200);
}

/// One bad key had the whole set refused, and one that could never verify was taken for good.
#[test]
fn a_bad_key_is_left_out_and_told_and_the_others_count() {
    let issuer = Keys::new();
    let mut jwks = issuer.jwks();
    let keys = jwks["keys"].as_array_mut().unwrap();
    // A zero in front, as some issuers write it, changes no number.
    let rsa = keys.iter_mut().find(|key| key["kid"] == "rsa").unwrap();
    let n = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    rsa["n"] = encode([&[0][..], &n].concat()).into();
    let point =
        json!({"kty": "EC", "crv": "P-256", "kid": "nowhere", "x": encode([1; 32]), "y": encode([1; 32])});
    keys.insert(0, point);
    keys.insert(0, json!({"kty": "oct", "kid": "short", "k": encode("secret")}));
    let (proxy, _, _secrets) = proxy("left-out", &jwks);
    for alg in ["RS256", "ES256", "HS256"] {
        assert_eq!(status(&proxy, &issuer.token(&json!({"alg": alg}), alg)), 200, "{alg}");
    }
    let config: Value = serde_json::from_str(&client::get(proxy.admin, "/config").text()).unwrap();
    let told = config.pointer("/secrets/credentials/0/leftOut").or(config.pointer("/credentials/0/leftOut"));
    assert_eq!(
        *told.unwrap_or(&config),
        json!([
            r#"key 1 ("short") is a secret for HMAC of less than 32 bytes"#,
            r#"key 2 ("nowhere") has a point that is not on its curve"#,
        ])
    );
}
