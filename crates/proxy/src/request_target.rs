//! The forms of a request's target, RFC 9112 3.2, and the path in it.
//!
//! The target goes on to the app as it came, so what is judged by its path must have the path that any app finds there. A target of
//! another form is refused and not guessed at: `/healthz#/../admin` is `/healthz` to one and `/admin` to another.

use crate::method::Method;

/// Whether a request of HTTP/1 may have this target. Not which bytes a path is made of: some clients send what RFC 3986 forbids.
pub(crate) fn is_valid(method: Method, target: &[u8]) -> bool {
    if memchr::memchr(b'#', target).is_some() {
        return false;
    }
    match (method, target) {
        (Method::Connect, authority) => is_authority(authority),
        (_, [b'/', ..]) => true,
        (Method::Options, b"*") => true,
        (_, uri) => split(uri).is_some_and(|(authority, _)| is_authority(authority)),
    }
}

/// The path, which is never empty in a whole URI (RFC 9110 4.2.3), and the query with its question mark.
pub(crate) fn parts(target: &[u8]) -> (&[u8], &[u8]) {
    let uri = split(target);
    let origin_form = uri.map_or(target, |(_, rest)| rest);
    let query = memchr::memchr(b'?', origin_form).unwrap_or(origin_form.len());
    match origin_form.split_at(query) {
        ([], query) if uri.is_some() => (b"/", query),
        parts => parts,
    }
}

/// The path, without the query.
pub(crate) fn path(target: &[u8]) -> &[u8] {
    parts(target).0
}

/// Authority and the rest of a whole URI; `None` of another target.
fn split(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = |scheme: &[u8]| {
        let (found, rest) = target.split_at_checked(scheme.len())?;
        found.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after(b"http://").or_else(|| after(b"https://"))?;
    Some(rest.split_at(memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len())))
}

/// Of names, addresses and what stands before them in old URIs, and no more of what RFC 3986 has in an authority: where one parser ends
/// it before a `;` or a backslash, what follows is a path. A host must be there (RFC 9110 4.2.1), or else `http:///x` has one at `x`.
fn is_authority(bytes: &[u8]) -> bool {
    let host = bytes.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]@".contains(byte);
    !matches!(host, [] | [b':', ..]) && bytes.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_every_form_have_a_path() {
        for (target, wanted, query) in [
            ("/", "/", ""),
            ("/a?id=7", "/a", "?id=7"),
            ("/a?next=http://b/c?", "/a", "?next=http://b/c?"),
            ("/http://b/c", "/http://b/c", ""),
            ("//7//", "//7//", ""),
            ("http://shop.example:80/a/7?q", "/a/7", "?q"),
            ("HTTPS://me@[::1]:80/a", "/a", ""),
            ("http://shop.example", "/", ""),
            // The external server was told `/healthz` of it.
            ("http://shop.example?q=/healthz", "/", "?q=/healthz"),
        ] {
            assert!(is_valid(Method::Get, target.as_bytes()), "{target}");
            assert_eq!(parts(target.as_bytes()), (wanted.as_bytes(), query.as_bytes()), "{target}");
        }
        assert!(is_valid(Method::Options, b"*") && is_valid(Method::Connect, b"db:5432"));
    }

    /// They passed, and were judged by a path that an app does not find in them.
    #[test]
    fn targets_of_no_form_are_refused() {
        for target in [
            "/healthz#/../admin",
            "/a?b#c",
            "#",
            "admin/x://y/healthz",
            "://x/healthz",
            "x://y/healthz",
            "ftp://y/healthz",
            "http:/y/healthz",
            "http:///admin/healthz",
            "http://?/healthz",
            "http://:80/healthz",
            "http://me@/healthz",
            "http://y\\admin/healthz",
            "http://y;admin/healthz",
            "http://y#/healthz",
            "healthz",
            "?healthz",
            "\\healthz",
            "*",
            "y:80",
            "",
        ] {
            assert!(!is_valid(Method::Get, target.as_bytes()), "{target}");
        }
        assert!(!is_valid(Method::Connect, b"/healthz") && !is_valid(Method::Options, b"*/healthz"));
    }
}
