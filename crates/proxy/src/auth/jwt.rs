//! JSON Web Tokens: RFC 7515 and 7519, in the compact form, signed. What is said of one that is no good never has a part of it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outrigger_api::auth::JwtSpec;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::{Claims, Keys};

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is.
    crit: Option<Value>,
}

/// The claims of a token that one of the keys has signed.
pub(super) fn verify(token: &[u8], keys: &Keys) -> Result<Claims, &'static str> {
    const MALFORMED: &str = "no token";
    if token.len() > LONGEST {
        return Err("too long");
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MALFORMED);
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
    if header.crit.is_some() {
        return Err("an extension that is not known");
    }
    keys.issuer.verify(&header.alg, header.kid.as_deref(), signed, &decode(signature)?)?;
    serde_json::from_slice(&decode(payload)?).map_err(|_| MALFORMED)
}

/// Whether these claims are for us, and for now.
pub(super) fn check(claims: &Claims, spec: &JwtSpec, now: i64) -> Result<(), &'static str> {
    let leeway = i64::try_from(spec.leeway.length().as_secs()).unwrap_or(i64::MAX);
    // Times may have fractions (RFC 7519 2); what is none is no time.
    #[allow(clippy::cast_possible_truncation)] // whole seconds far below 2^52
    let time = |name: &str| claims.get(name).map(|time| time.as_f64().map(|time| time as i64));
    match time("exp") {
        Some(Some(end)) if now.saturating_sub(leeway) < end => {}
        Some(Some(_)) => return Err("expired"),
        Some(None) | None => return Err("no time of expiry"),
    }
    match time("nbf") {
        None => {}
        Some(Some(start)) if start <= now.saturating_add(leeway) => {}
        Some(_) => return Err("not valid yet"),
    }
    if let Some(issuer) = &spec.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err("another issuer");
    }
    let is_ours = |audience: &Value| {
        audience.as_str().is_some_and(|name| spec.audiences.iter().any(|ours| ours == name))
    };
    let for_us = match claims.get("aud") {
        _ if spec.audiences.is_empty() => true,
        Some(Value::Array(audiences)) => audiences.iter().any(is_ours),
        Some(audience) => is_ours(audience),
        None => false,
    };
    if for_us { Ok(()) } else { Err("another audience") }
}
