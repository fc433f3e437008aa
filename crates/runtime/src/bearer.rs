//! Bearer tokens (RFC 6750), for what only those may see who may read the pod.

use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};

/// The token of a pod, which a changed config may replace.
#[derive(Clone, Debug, Default)]
pub struct Token(Arc<Mutex<String>>);

impl Token {
    /// One to begin with. An empty one opens to nobody.
    pub fn new(token: String) -> Self {
        Self(Arc::new(Mutex::new(token)))
    }

    /// From now on it is another one.
    pub fn replace(&self, token: String) {
        *self.lock() = token;
    }

    /// Whether a request with these headers bears it.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        authorize(headers, &self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to who bears no token, or a wrong one: 401, and what would be right.
pub type Unauthorized = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

/// Whether a request with these headers bears the token.
pub fn authorize(headers: &HeaderMap, token: &str) -> Result<(), Unauthorized> {
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    if bears(given, token) {
        return Ok(());
    }
    let hint = "needs the token of the pod's outrigger.dev/config annotation\n";
    Err((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], hint))
}

/// Whether an `Authorization` header bears the token. An empty token opens to nobody.
fn bears(authorization: &[u8], token: &str) -> bool {
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
