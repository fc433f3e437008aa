//! An issuer's keys (RFC 7517), and what they have signed.

use aws_lc_rs::signature::{
    ParsedPublicKey, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The most of a key's id that is told.
const MOST_TOLD: usize = 64;

/// The keys of an issuer by which tokens are judged.
#[derive(Default)]
pub(super) struct Issuer {
    keys: Vec<Key>,
    /// Which of its keys are not among them, and why.
    pub(super) left_out: Vec<String>,
}

struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    alg: Option<String>,
    material: Material,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, as X9.62 writes it.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

/// As a set has it; fields that are for other kinds of keys are not there.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

const ALGORITHMS: [&str; 12] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384",
    "HS512",
];

impl Issuer {
    /// Reads a set. Keys that can't be used are left out, as RFC 7517 section 5 has it: one of another kind, or a broken one, says nothing of
    /// the others. An error where there is none that can.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let set: Set = serde_json::from_slice(bytes).map_err(|_| "it is no JWK set".to_owned())?;
        let mut issuer = Self::default();
        for (number, jwk) in set.keys.iter().enumerate().filter(|(_, jwk)| is_to_sign(jwk)) {
            match Key::of(jwk) {
                Ok(key) => issuer.keys.push(key),
                Err(why) => issuer.left_out.push(format!("key {}{} {why}", number + 1, id(jwk))),
            }
        }
        if issuer.keys.is_empty() {
            let why = issuer.left_out.first().map(|why| format!(": {why}")).unwrap_or_default();
            return Err(format!("it has no key that can be used{why}"));
        }
        Ok(issuer)
    }

    /// Whether one of the keys has signed this. The algorithm is the token's word, so it counts only for keys of its kind: a public key is no
    /// secret for HMAC.
    pub(super) fn verify(
        &self,
        alg: &str,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), &'static str> {
        if !ALGORITHMS.contains(&alg) {
            return Err("an algorithm that is not taken");
        }
        let named = |key: &&Key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid;
        let for_it = |key: &&Key| key.alg.as_deref().is_none_or(|own| own == alg);
        let mut candidates = self.keys.iter().filter(named).filter(for_it);
        let good = candidates.any(|key| key.material.has_signed(alg, signed, signature));
        if good { Ok(()) } else { Err("not signed by the issuer") }
    }
}

/// Whether it may be a key for signatures; those to encrypt with are for others.
fn is_to_sign(jwk: &Value) -> bool {
    jwk.get("use").and_then(Value::as_str).is_none_or(|purpose| purpose == "sig")
}

/// What a key calls itself, beside its place in the set. It is public, also that of a secret.
fn id(jwk: &Value) -> String {
    let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
    let told: String = kid.chars().take(MOST_TOLD).collect();
    if told.is_empty() { told } else { format!(" ({told:?})") }
}

impl Key {
    fn of(jwk: &Value) -> Result<Self, &'static str> {
        let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
        let jwk = Jwk::deserialize(jwk).map_err(|_| "has a field of another kind, or no kty")?;
        let material = Material::of(&jwk)?;
        if jwk.alg.as_deref().is_some_and(|alg| !material.algorithms().contains(&alg)) {
            return Err("has an alg that keys of its kind are not taken for");
        }
        Ok(Self { kid, alg: jwk.alg, material })
    }
}

impl Material {
    /// RFC 7518 section 6 and RFC 8037 section 2. Each is checked here for what would have every signature refused.
    fn of(jwk: &Jwk) -> Result<Self, &'static str> {
        let part = |value: &Option<String>| {
            let value = value.as_ref().ok_or("lacks a part")?;
            URL_SAFE_NO_PAD.decode(value).map_err(|_| "has a part that is no base64url")
        };
        let point = |length: usize, algorithm: &'static dyn VerificationAlgorithm| {
            let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
            if x.len() != length || y.len() != length {
                return Err("has a point of another length");
            }
            let point = [&[4], &x[..], &y].concat();
            let parsed = ParsedPublicKey::new(algorithm, &point);
            parsed.map(|_| point).map_err(|_| "has a point that is not on its curve")
        };
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => rsa(&part(&jwk.n)?, &part(&jwk.e)?),
            ("EC", Some("P-256")) => point(32, &signature::ECDSA_P256_SHA256_FIXED).map(Self::P256),
            ("EC", Some("P-384")) => point(48, &signature::ECDSA_P384_SHA384_FIXED).map(Self::P384),
            ("OKP", Some("Ed25519")) => match part(&jwk.x)? {
                x if x.len() == 32 => Ok(Self::Ed25519(x)),
                _ => Err("has a point of another length"),
            },
            ("oct", _) => match part(&jwk.k)? {
                // RFC 7518 3.2: what is shorter can be guessed.
                secret if secret.len() < 32 => Err("is a secret for HMAC of less than 32 bytes"),
                secret => Ok(Self::Secret(secret)),
            },
            _ => Err("is of a kind that is not known"),
        }
    }

    fn algorithms(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa { .. } => &ALGORITHMS[..6],
            Self::P256(_) => &["ES256"],
            Self::P384(_) => &["ES384"],
            Self::Ed25519(_) => &["EdDSA"],
            Self::Secret(_) => &ALGORITHMS[9..],
        }
    }

    fn has_signed(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let parameters = match alg {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Self::P256(point) if alg == "ES256" => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Self::P384(point) if alg == "ES384" => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Self::Ed25519(point) if alg == "EdDSA" => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(signed, signature).is_ok()
            }
            Self::Secret(secret) => {
                let algorithm = match alg {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return false,
                };
                // In constant time.
                hmac::verify(&hmac::Key::new(algorithm, secret), signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Of a modulus of 2048 to 8192 bits and an exponent of at most 33, as the library takes them. Leading zeros, which some issuers write, say
/// nothing.
fn rsa(n: &[u8], e: &[u8]) -> Result<Material, &'static str> {
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let bits =
        |number: &[u8]| number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let (n, e) = (number(n), number(e));
    if !(2048..=8192).contains(&bits(&n)) || !is_odd(&n) {
        return Err("has a modulus that is not of 2048 to 8192 bits");
    }
    if !(2..=33).contains(&bits(&e)) || !is_odd(&e) {
        return Err("has an exponent that is even, 1, or too large");
    }
    Ok(Material::Rsa { n, e })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Of RFC 7515 A.3.
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    /// They were taken as good, and then every token was `not signed by the issuer`; or one of them had a whole set refused.
    #[test]
    fn keys_that_can_verify_nothing_are_left_out_and_named() {
        let modulus = |bytes: usize| encode([&[0x80][..], &vec![0; bytes - 2], &[1]].concat());
        let good = json!({"kty": "EC", "crv": "P-256", "kid": "good", "x": X, "y": Y});
        for (bad, why) in [
            (json!({"kty": "RSA", "kid": "bad", "n": modulus(128), "e": "AQAB"}), "2048"),
            (json!({"kty": "RSA", "n": modulus(1025), "e": "AQAB"}), "2048"),
            (json!({"kty": "RSA", "n": encode([0xff; 255]), "e": "AQAB"}), "2048"),
            (json!({"kty": "RSA", "n": modulus(256), "e": "AQ"}), "exponent"),
            (json!({"kty": "RSA", "n": modulus(256), "e": encode([1, 0, 0, 0, 1])}), ""),
            (json!({"kty": "RSA", "n": modulus(256), "e": encode([2, 0, 0, 0, 1])}), "exponent"),
            (json!({"kty": "RSA", "e": "AQAB"}), "lacks"),
            (json!({"kty": "RSA", "n": "!", "e": "AQAB"}), "base64url"),
            (json!({"kty": "RSA", "n": encode([&[0][..], &[0xff; 256]].concat()), "e": "AAEAAQ"}), ""),
            (json!({"kty": "EC", "crv": "P-256", "x": X, "y": X}), "curve"),
            (json!({"kty": "EC", "crv": "P-256", "x": X, "y": "AAAA"}), "length"),
            (json!({"kty": "EC", "crv": "P-384", "x": encode([1; 48]), "y": encode([1; 48])}), "curve"),
            (json!({"kty": "EC", "crv": "P-521", "x": X, "y": Y}), "kind"),
            (json!({"kty": "EC", "crv": "P-256", "alg": "RS256", "x": X, "y": Y}), "alg"),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 31])}), "length"),
            (json!({"kty": "oct", "k": encode([7; 31])}), "32 bytes"),
            (json!({"kty": 1}), "kty"),
            (json!("key"), "kty"),
        ] {
            let set = |keys| json!({"keys": keys}).to_string();
            let issuer = Issuer::parse(set(json!([good, bad])).as_bytes()).unwrap();
            assert_eq!(issuer.left_out.len(), usize::from(!why.is_empty()), "{bad}: {:?}", issuer.left_out);
            assert_eq!(issuer.keys.len() + issuer.left_out.len(), 2);
            for told in &issuer.left_out {
                assert!(told.starts_with("key 2") && told.contains(why), "{bad}: {told}");
                assert_eq!(told.contains(r#"("bad")"#), bad.get("kid").is_some(), "{told}");
                let refused = Issuer::parse(set(json!([bad])).as_bytes()).err().unwrap();
                assert!(
                    refused.contains("no key that can be used: key 1") && refused.contains(why),
                    "{refused}"
                );
            }
        }
        let others = json!({"keys": [good, {"kty": "RSA", "use": "enc"}]}).to_string();
        assert!(Issuer::parse(others.as_bytes()).unwrap().left_out.is_empty(), "it is for others");
    }
}
