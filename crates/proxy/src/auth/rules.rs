//! What a credential allows.

use outrigger_api::auth::{ClaimSpec, RuleSpec};
use serde_json::Value;

use crate::auth::Claims;
use crate::method::Method;

/// Whether one of the rules is for such a request; without rules everything is allowed.
pub(super) fn allow(rules: &[RuleSpec], method: Method, path: &[u8], claims: &Claims) -> bool {
    rules.is_empty() || rules.iter().any(|rule| is_for(rule, method, path, claims))
}

fn is_for(rule: &RuleSpec, method: Method, path: &[u8], claims: &Claims) -> bool {
    let RuleSpec { methods, path_prefixes, claims: wanted } = rule;
    (methods.is_empty() || methods.iter().any(|name| name == method.label()))
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
            {"pathPrefixes": ["/admin/"], "claims": [{"claim": "role", "values": ["admin", "ops"]}]},
        ]))
        .unwrap();
        let claims = |role: Value| Claims::from_iter([("role".to_owned(), role)]);
        for (method, path, role, wanted) in [
            (Method::Get, "/public", json!("user"), true),
            (Method::Get, "/public/", json!("user"), true),
            (Method::Get, "/public/a.b/..c", json!("user"), true),
            (Method::Post, "/public", json!("user"), false),
            (Method::Get, "/publicity", json!("user"), false),
            (Method::Get, "/", json!("user"), false),
            (Method::Post, "/admin/a", json!("ops"), true),
            (Method::Post, "/admin", json!(["x", "admin"]), true),
            (Method::Post, "/admin", json!("user"), false),
            (Method::Post, "/admin", json!(["user"]), false),
            (Method::Post, "/admin", json!({"admin": 1}), false),
            // Some servers make another path of these.
            (Method::Get, "/public/../admin", json!("user"), false),
            (Method::Get, "/public/./a", json!("user"), false),
            (Method::Get, "/public//a", json!("user"), false),
            (Method::Get, "/public/%2e%2E/admin", json!("user"), false),
            (Method::Get, "/public/%2Fadmin", json!("user"), false),
            (Method::Get, "/public/..\\admin", json!("user"), false),
            (Method::Get, "/public;/../admin", json!("user"), false),
            // A server that decodes it asks one that cuts at the semicolon.
            (Method::Get, "/public/..%3B/admin", json!("user"), false),
            (Method::Get, "/public/%252e%252e/admin", json!("user"), false),
            (Method::Get, "public", json!("user"), false),
        ] {
            assert_eq!(allow(&rules, method, path.as_bytes(), &claims(role)), wanted, "{path}");
        }
        assert!(allow(&[], Method::Post, b"*", &Claims::new()));
    }
}
