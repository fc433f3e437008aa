//! Somebody else who says whether a request may go on.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::names::{header_name_fault, is_header_name};
use crate::overrides::{MAX_HEADERS, is_path};
#[cfg(feature = "crd")]
use crate::schema::{header_names, rule, without_default};
use crate::span::Span;
use crate::traffic::span;
use crate::upstream::is_host;

/// The longest URL, in bytes.
const MAX_URL: usize = 512;

/// A server that is asked about each request: GET, with the request's headers and, in `X-Forwarded-Method`, `-Uri`, `-Host` and
/// `-Proto`, the rest of its head. An answer of 2xx lets the request go on; another one below 500 is what the client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["url"])))]
pub struct ExternalSpec {
    /// Where it is asked: `http://`, a Service or an address, and a path without a query.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_URL),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^http://([a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?([.][a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?)*|\\\\[[0-9a-fA-F:.]+\\\\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[!->@-~]*)?$') && !self.contains('#')",
                "it takes a URL as http://login.shop.svc:8080/check",
            )])
        )
    )]
    pub url: String,
    /// How long is waited for its answer. Default: 1s.
    pub timeout: Span,
    /// Whether requests go on where it does not answer, or with a 5xx. Default: false, they get a 503.
    pub fail_open: bool,
    /// Headers of its answer that the app is told. What clients send in headers of these names never reaches the app.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "header_names"))]
    pub headers_to_app: Vec<String>,
    /// Headers of an answer of 2xx that the client is told beside those of its own: `Set-Cookie`, by which such servers renew sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "header_names"))]
    pub headers_to_client: Vec<String>,
}

/// A URL's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// As a `Host` header has it.
    pub authority: &'a str,
    /// A name, or an address without brackets.
    pub host: &'a str,
    /// Default: 80.
    pub port: u16,
    /// Default: `/`.
    pub path: &'a str,
}

impl Default for ExternalSpec {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout: span("1s"),
            fail_open: false,
            headers_to_app: Vec::new(),
            headers_to_client: Vec::new(),
        }
    }
}

impl ExternalSpec {
    /// Where it is asked; `None` where the URL is none.
    pub fn place(&self) -> Option<Place<'_>> {
        let rest = self.url.strip_prefix("http://")?;
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let bracket = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[bracket..].find(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(bracket + colon);
                (host, port[1..].parse().ok().filter(|port| *port > 0)?)
            }
            None => (authority, 80),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let path = if path.is_empty() { "/" } else { path };
        (is_host(host) && is_path(path)).then_some(Place { authority, host, port, path })
    }

    /// The faults of one that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.url.len() > MAX_URL || self.place().is_none() {
            let message = format!("{:?} is no URL as http://login.shop.svc:8080/check", self.url);
            faults.push(Fault::new(format!("{at}.url"), message));
        }
        let lists = [("headersToApp", &self.headers_to_app), ("headersToClient", &self.headers_to_client)];
        for (field, names) in lists {
            if names.len() > MAX_HEADERS {
                let message = format!("{} entries: at most {MAX_HEADERS}", names.len());
                faults.push(Fault::new(format!("{at}.{field}"), message));
            }
            for (i, name) in names.iter().enumerate().filter(|(_, name)| !is_header_name(name)) {
                faults.push(Fault::new(format!("{at}.{field}[{i}]"), header_name_fault(name)));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let spec = |url: &str| ExternalSpec { url: url.to_owned(), ..ExternalSpec::default() };
        for (url, authority, host, port, path) in [
            ("http://login", "login", "login", 80, "/"),
            ("http://login.shop.svc:8080/a/b", "login.shop.svc:8080", "login.shop.svc", 8080, "/a/b"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000", "127.0.0.1", 9000, "/"),
            ("http://[::1]:9000/", "[::1]:9000", "::1", 9000, "/"),
            ("http://[fd00::1]", "[fd00::1]", "fd00::1", 80, "/"),
        ] {
            assert_eq!(spec(url).place(), Some(Place { authority, host, port, path }), "{url}");
        }
        for url in [
            "",
            "login",
            "https://login",
            "http://",
            "http:///a",
            "http://login:",
            "http://login:0/",
            "http://login:70000",
            "http://a b/",
            "http://a/b?c",
            "http://a/b#c",
            "http://user@login/",
            "http://[::1",
            "http://a/\u{e4}",
        ] {
            assert_eq!(spec(url).place(), None, "{url}");
        }
    }
}
