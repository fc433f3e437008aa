//! Strange credentials and overrides by the thousand: none is taken for a good one, and none ends the proxy.
//!
//! A short run with each test run, a long one by `make fuzz-guard`. Where one fails, its seed is printed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use outrigger_api::auth::AuthSpec;
use outrigger_api::profile::SidecarProfileSpec;
use serde_json::json;

use crate::auth::users::Users;
use crate::auth::{Keys, basic, jwt};

/// How many are tried with each test run.
const SHORT: u64 = 3_000;

/// Numbers as if by chance, the same for the same seed (xorshift64*).
struct Dice(Cell<u64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    fn below(&self, most: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        usize::try_from(x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % most
    }

    /// The same with a few bytes changed, taken out, doubled, or put in.
    fn changed(&self, text: &[u8], pieces: &[&str]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(text.len() + 1);
            let to = at + self.below(text.len() - at + 1).min(8);
            match self.below(4) {
                0 => drop(text.drain(at..to)),
                1 => text.extend_from_within(at..to),
                2 => drop(text.splice(at..to, pieces[self.below(pieces.len())].bytes())),
                _ => drop(text.splice(at..to, [u8::try_from(self.below(256)).unwrap_or(0)])),
            }
        }
        text
    }
}

/// One for each try, or for one in so many of those that are slow.
fn seeds(one_in: u64) -> impl Iterator<Item = u64> {
    let tries = std::env::var("OUTRIGGER_FUZZ").ok().and_then(|tries| tries.parse().ok());
    1..=tries.unwrap_or(SHORT) / one_in
}

const PIECES: [&str; 16] = [
    ".",
    "..",
    "=",
    "==",
    "e30",
    "\"alg\":\"none\"",
    "null",
    "{",
    "}",
    "[",
    ":",
    ",",
    "\\u0000",
    "-",
    " ",
    "\u{e4}",
];

/// Keys that were read from a Secret with this file.
fn keys(name: &str, spec: &AuthSpec, file: &str, content: &str) -> (Arc<Keys>, PathBuf) {
    let secrets = std::env::temp_dir().join(format!("outrigger-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(secrets.join("s")).unwrap();
    std::fs::write(secrets.join("s").join(file), content).unwrap();
    let keys = Keys::read(spec, &secrets).unwrap();
    (Arc::new(keys), secrets)
}

#[test]
fn no_strange_token_is_a_good_one() {
    let secret = [7; 32];
    let spec: AuthSpec = serde_json::from_value(json!({"jwt": {"secretName": "s"}})).unwrap();
    let jwks = json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)}]}).to_string();
    let (keys, secrets) = keys("jwt", &spec, "jwks.json", &jwks);
    let signed = |header: &[u8], claims: &[u8]| {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let (header, claims) = (br#"{"alg":"HS256"}"#, br#"{"sub":"ada","exp":4102444800,"aud":["shop"]}"#);
    let good = signed(header, claims);
    assert!(jwt::verify(good.as_bytes(), &keys).is_ok());
    let asked = spec.jwt.as_ref().unwrap();
    let mut ended = 0;
    for seed in seeds(1) {
        let dice = Dice::new(seed);
        let strange = dice.changed(good.as_bytes(), &PIECES);
        let taken = jwt::verify(&strange, &keys).is_ok();
        assert!(!taken || strange == good.as_bytes(), "seed {seed}: {}", String::from_utf8_lossy(&strange));
        // Signed as it should be, with strange content: whatever it is, it is judged and not fallen over.
        let claims = dice.changed(claims, &PIECES);
        let header = if dice.below(2) == 0 { header.to_vec() } else { dice.changed(header, &PIECES) };
        if let Ok(claims) = jwt::verify(signed(&header, &claims).as_bytes(), &keys) {
            let is_in_time = jwt::check(&claims, asked, 1_800_000_000).is_ok();
            let end = claims.get("exp").and_then(serde_json::Value::as_f64);
            assert!(!is_in_time || end.is_some_and(|end| end > 1.7e9), "seed {seed}: {claims:?}");
            ended += usize::from(!is_in_time);
        }
    }
    assert!(ended > 0, "some lost their end");
    std::fs::remove_dir_all(secrets).unwrap();
}

#[tokio::test(flavor = "local")]
async fn no_strange_password_is_a_good_one() {
    let file = "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
    let spec: AuthSpec = serde_json::from_value(json!({"basic": {"secretName": "s"}})).unwrap();
    let (keys, secrets) = keys("basic", &spec, "htpasswd", file);
    let verifier = basic::Verifier::new();
    let good = STANDARD.encode("ada:secret");
    assert_eq!(verifier.verify(&keys, good.as_bytes(), None).await.unwrap(), "ada");
    // A hash is slow by design.
    for seed in seeds(100) {
        let dice = Dice::new(seed);
        let strange = match dice.below(2) {
            0 => dice.changed(good.as_bytes(), &PIECES),
            _ => STANDARD.encode(dice.changed(b"ada:secret", &PIECES)).into_bytes(),
        };
        if verifier.verify(&keys, &strange, None).await.is_ok() {
            assert_eq!(strange, good.as_bytes(), "seed {seed}: {}", String::from_utf8_lossy(&strange));
        }
    }
    std::fs::remove_dir_all(secrets).unwrap();
}

#[test]
fn strange_files_of_users_are_refused_or_understood() {
    let file = "# x\nada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n\
                bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";
    let pieces = ["$", ":", "\n", "$argon2id$", "m=99999999", "$2y$99$", ",", "=", "p=0", "t=0", "#"];
    let mut said = BTreeSet::new();
    for seed in seeds(1) {
        let strange =
            String::from_utf8_lossy(&Dice::new(seed).changed(file.as_bytes(), &pieces)).into_owned();
        if let Err(bad) = Users::parse(&strange) {
            said.insert(bad.to_string().split_once(' ').map(|(_, why)| why.to_owned()));
        }
    }
    assert!(said.len() > 2, "only {said:?}");
}

#[test]
fn strange_overrides_are_refused_or_work() {
    let profile = r#"{"inbound":[{"port":"http","overrides":[{"status":[404,"5xx"],"pathPrefixes":["/a"],"body":"<p>gone</p>","contentType":"text/html","replaceStatus":200}],
        "auth":{"external":{"url":"http://login:80/check"},"basic":{"secretName":"users","realm":"shop"},"rules":[{"methods":["GET"],"pathPrefixes":["/a"]}]}}]}"#;
    let pieces = [
        "\"", "{", "}", "[", "]", "null", "-1", "1e9", "600", "99", "\"5xx\"", "/", "\\r\\n", ",", ":",
        "\u{e4}",
    ];
    let (mut refused, mut taken) = (0, 0);
    for seed in seeds(1) {
        let strange = Dice::new(seed).changed(profile.as_bytes(), &pieces);
        let Ok(spec) = serde_json::from_slice(&strange) else { continue };
        let Ok(profile) = SidecarProfileSpec::parse(&spec) else {
            refused += 1;
            continue;
        };
        taken += 1;
        for inbound in &profile.inbound {
            let inbound = outrigger_api::config::Inbound {
                overrides: inbound.overrides.clone(),
                auth: inbound.auth.clone(),
                ..Default::default()
            };
            let _ = crate::overrides::Answers::of(&inbound);
            // What admission has taken can be asked.
            let auth = inbound.auth.as_ref();
            assert!(
                auth.and_then(|auth| auth.external.as_ref())
                    .is_none_or(|external| external.place().is_some())
            );
        }
    }
    assert!(refused > 0 && taken > 0, "{refused} were refused, {taken} taken");
}
