//! Bearer tokens (RFC 6750), for what only those may see who may read the pod.

use std::hint::black_box;

/// Whether an `Authorization` header bears the token. An empty token opens to nobody.
pub fn bears(authorization: &[u8], token: &str) -> bool {
    let given = match authorization.split_at_checked(7) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => given,
        _ => return false,
    };
    !token.is_empty() && equal(given, token.as_bytes())
}

/// Compares in a time that depends on the length alone, so that nobody finds the token byte by byte.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0, |bits, (left, right)| black_box(bits | (left ^ right)));
    left.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        assert!(bears(b"Bearer secret", "secret"));
        assert!(bears(b"bearer secret", "secret"));
        for wrong in [&b"Bearer secre"[..], b"Bearer secret1", b"Bearer ", b"Basic secret", b"secret", b""] {
            assert!(!bears(wrong, "secret"), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(!bears(b"Bearer ", ""));
    }
}
