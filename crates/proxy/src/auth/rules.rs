//! What a credential allows.

use outrigger_api::auth::{ClaimSpec, RuleSpec};
use serde_json::Value;

use crate::auth::Claims;

/// Whether one of the rules is for such a request; without rules everything is allowed.
pub(super) fn allow(rules: &[RuleSpec], method: &[u8], path: &[u8], claims: &Claims) -> bool {
    rules.is_empty() || rules.iter().any(|rule| is_for(rule, method, path, claims))
}

fn is_for(rule: &RuleSpec, method: &[u8], path: &[u8], claims: &Claims) -> bool {
    let RuleSpec { methods, path_prefixes, claims: wanted } = rule;
    (methods.is_empty() || methods.iter().any(|name| name.as_bytes() == method))
        && (path_prefixes.is_empty()
            || (is_plain(path) && path_prefixes.iter().any(|prefix| begins(path, prefix))))
        && wanted.iter().all(|wanted| has(claims, wanted))
}

/// By whole segments.
fn begins(path: &[u8], prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Whether every server reads this path alike. Of `/public/%2e%2e/admin` some make `/admin`, which the rule for `/public` is not for.
fn is_plain(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    let mut plain = path.first() == Some(&b'/') && !path.contains(&b'\\') && !path.contains(&b';');
    while let Some(segment) = segments.next() {
        // The last may be empty: `/api/`.
        plain &= !matches!(segment, b"." | b"..") && (!segment.is_empty() || segments.peek().is_none());
    }
    let escapes_of = |escape: &[u8]| {
        [&b"%2e"[..], b"%2f", b"%5c", b"%3b", b"%00", b"%25"]
            .iter()
            .any(|bad| escape.eq_ignore_ascii_case(bad))
    };
    plain && !path.windows(3).any(escapes_of)
}

fn has(claims: &Claims, wanted: &ClaimSpec) -> bool {
    let is_wanted =
        |value: &Value| value.as_str().is_some_and(|text| wanted.values.iter().any(|wanted| wanted == text));
    match claims.get(&wanted.claim) {
        Some(Value::Array(list)) => list.iter().any(is_wanted),
        Some(value) => is_wanted(value),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_for_method_path_and_claims_together() {
        let rules: Vec<RuleSpec> = serde_json::from_value(json!([
            {"methods": ["GET"], "pathPrefixes": ["/public"]},
            {"methods": ["PROPFIND", "VERSION-CONTROL"], "pathPrefixes": ["/dav"]},
            {"pathPrefixes": ["/admin/"], "claims": [{"claim": "role", "values": ["admin", "ops"]}]},
        ]))
        .unwrap();
        let claims = |role: Value| Claims::from_iter([("role".to_owned(), role)]);
        for (method, path, role, wanted) in [
            ("GET", "/public", json!("user"), true),
            ("GET", "/public/", json!("user"), true),
            ("GET", "/public/a.b/..c", json!("user"), true),
            ("POST", "/public", json!("user"), false),
            ("get", "/public", json!("user"), false),
            ("PROPFIND", "/public", json!("user"), false),
            // Only the methods that have a label were known, so rules for others were for none.
            ("PROPFIND", "/dav/a", json!("user"), true),
            ("VERSION-CONTROL", "/dav/a", json!("user"), true),
            ("MKCOL", "/dav/a", json!("user"), false),
            ("GET", "/publicity", json!("user"), false),
            ("GET", "/", json!("user"), false),
            ("POST", "/admin/a", json!("ops"), true),
            ("POST", "/admin", json!(["x", "admin"]), true),
            ("POST", "/admin", json!("user"), false),
            ("POST", "/admin", json!(["user"]), false),
            ("POST", "/admin", json!({"admin": 1}), false),
            // Some servers make another path of these.
            ("GET", "/public/../admin", json!("user"), false),
            ("GET", "/public/./a", json!("user"), false),
            ("GET", "/public//a", json!("user"), false),
            ("GET", "/public/%2e%2E/admin", json!("user"), false),
            ("GET", "/public/%2Fadmin", json!("user"), false),
            ("GET", "/public/..\\admin", json!("user"), false),
            ("GET", "/public;/../admin", json!("user"), false),
            // A server that decodes it asks one that cuts at the semicolon.
            ("GET", "/public/..%3B/admin", json!("user"), false),
            ("GET", "/public/%252e%252e/admin", json!("user"), false),
            ("GET", "public", json!("user"), false),
        ] {
            assert_eq!(allow(&rules, method.as_bytes(), path.as_bytes(), &claims(role)), wanted, "{path}");
        }
        assert!(allow(&[], b"POST", b"*", &Claims::new()));
    }
}
