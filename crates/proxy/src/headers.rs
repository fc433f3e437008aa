//! Headers that are put into a message on its way, or taken out of it.

use std::ops::Range;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use outrigger_api::overrides::{HeaderSpec, HeadersSpec};

use crate::request;

/// What is done to the headers of a message: first some are taken out, then some put in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edits {
    /// In lower case.
    remove: Vec<String>,
    /// As they are written by HTTP/1, which keeps case.
    add: Vec<(String, HeaderValue)>,
    /// The same as lines of HTTP/1.
    lines: Vec<u8>,
}

impl Edits {
    /// What a profile says; `None` where that is nothing.
    pub(crate) fn of(spec: &HeadersSpec) -> Option<Self> {
        let mut edits = Self::default();
        spec.remove.iter().for_each(|name| edits.remove(name));
        for HeaderSpec { name, value } in &spec.set {
            // Checked when the profile was taken; without it, better none than a broken one.
            if let Ok(value) = HeaderValue::from_str(value) {
                edits.set(name, value);
            }
        }
        (!spec.is_empty()).then_some(edits)
    }

    /// What comes of these and then others.
    pub(crate) fn then(&self, others: &Self) -> Self {
        let mut all = Self { remove: [&self.remove[..], &others.remove].concat(), ..Self::default() };
        let kept = self.add.iter().filter(|(name, _)| !others.removes(name));
        kept.chain(&others.add).for_each(|(name, value)| all.add(name, value.clone()));
        all
    }

    /// Takes out all headers of that name, and those that an app may take for it: many servers give `X_User` and `X-User` one
    /// name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.remove.push(name.to_ascii_lowercase());
    }

    /// Puts one in, in the place of any of that name.
    pub(crate) fn set(&mut self, name: &str, value: HeaderValue) {
        self.remove(name);
        self.add(name, value);
    }

    /// Puts one in, beside any of that name.
    pub(crate) fn add(&mut self, name: &str, value: HeaderValue) {
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        self.add.push((name.to_owned(), value));
    }

    /// What is put in.
    pub(crate) fn added(&self) -> &[(String, HeaderValue)] {
        &self.add
    }

    /// The lines of a head of HTTP/1 that go, in their order.
    pub(crate) fn lines_to_remove(&self, head: &[u8]) -> Vec<Range<usize>> {
        let goes = |line: &Range<usize>| self.remove.iter().any(|name| is_header(&head[line.clone()], name));
        request::lines(head).filter(goes).collect()
    }

    /// The lines that come into a head of HTTP/1.
    pub(crate) fn lines_to_add(&self) -> &[u8] {
        &self.lines
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let gone: Vec<_> = headers.keys().filter(|name| self.removes(name.as_str())).cloned().collect();
        for name in gone {
            headers.remove(name);
        }
        for (name, value) in &self.add {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.append(name, value.clone());
            }
        }
    }

    fn removes(&self, name: &str) -> bool {
        self.remove.iter().any(|ours| is_name(name.as_bytes(), ours))
    }
}

/// Whether a line of a head of HTTP/1 is a header that goes by that name.
fn is_header(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':') && is_name(&line[..name.len()], name)
}

/// Whether apps may take it for that name, which is in lower case.
fn is_name(theirs: &[u8], ours: &str) -> bool {
    let same = |ours: u8, theirs: u8| ours == theirs.to_ascii_lowercase() || (ours == b'-' && theirs == b'_');
    theirs.len() == ours.len() && ours.bytes().zip(theirs).all(|(ours, theirs)| same(ours, *theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_in_every_spelling_and_come_once() {
        let mut edits = Edits::default();
        edits.set("X-User", HeaderValue::from_static("ada"));
        edits.remove("Cookie");
        let head = b"GET /x-user: HTTP/1.1\r\nx-uSER: root\r\nHost: a\r\nX_User:root\r\nX-Users: 2\r\ncookie: c\r\n\r\n";
        let gone: Vec<_> = edits.lines_to_remove(head).into_iter().map(|line| &head[line]).collect();
        assert_eq!(gone, [&b"x-uSER: root\r\n"[..], b"X_User:root\r\n", b"cookie: c\r\n"]);
        assert_eq!(edits.lines_to_add(), b"X-User: ada\r\n");
        let lines = [("x-user", "root"), ("x_user", "root"), ("x-users", "2"), ("cookie", "c")];
        let mut map: HeaderMap =
            lines.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect();
        edits.apply(&mut map);
        let left: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(left, [("x-users", &b"2"[..]), ("x-user", b"ada")]);
    }

    #[test]
    fn what_comes_later_counts() {
        let (mut first, mut second) = (Edits::default(), Edits::default());
        first.set("A", HeaderValue::from_static("1"));
        first.set("B", HeaderValue::from_static("1"));
        second.set("b", HeaderValue::from_static("2"));
        assert_eq!(first.then(&second).lines_to_add(), b"A: 1\r\nb: 2\r\n");
    }
}
