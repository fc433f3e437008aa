//! Redirects that the kubelet would follow.

use std::fmt::Write;
use std::net::IpAddr;

use ::http::header::LOCATION;
use ::http::{HeaderMap, StatusCode, Uri};
use outrigger_api::probe::Scheme;

/// How many are followed: Go's client gives up after ten requests.
pub(super) const MOST: usize = 9;

/// Where a GET goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) port: u16,
    /// Path and query, fit for a request line.
    pub(super) path: String,
    /// The `Host` header, where it is not the address.
    pub(super) host: Option<String>,
}

/// Where an answer leads, if to the pod again: another port or scheme is still the same host to the kubelet.
pub(super) fn next(from: &Target, app: IpAddr, status: StatusCode, headers: &HeaderMap) -> Option<Target> {
    let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = headers.get(LOCATION)?.to_str().ok()?;
    if !redirects || location.is_empty() {
        return None;
    }
    let absolute = match location.strip_prefix("//") {
        Some(rest) if from.scheme == Scheme::Https => Some(format!("https://{rest}")),
        Some(rest) => Some(format!("http://{rest}")),
        None => location.contains("://").then(|| location.to_owned()),
    };
    let Some(absolute) = absolute else {
        // The `Host` that the probe gave stays, as with Go's client.
        return Some(Target { path: escaped(&joined(&from.path, location)), ..from.clone() });
    };
    let uri: Uri = escaped(&absolute).trim_start_matches('/').parse().ok()?;
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let host: IpAddr = uri.host()?.trim_matches(['[', ']']).parse().ok()?;
    let port = uri.port_u16().unwrap_or(if scheme == Scheme::Https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    (host == app).then_some(Target { scheme, port, path, host: None })
}

/// A relative reference in the place of a path (RFC 3986 section 5.2, without dot segments, which servers resolve too).
fn joined(path: &str, reference: &str) -> String {
    let without_query = path.split('?').next().unwrap_or_default();
    match reference.as_bytes().first() {
        Some(b'/') => reference.to_owned(),
        Some(b'?') => format!("{without_query}{reference}"),
        _ => {
            let directory = without_query.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{reference}")
        }
    }
}

/// As it can stand in a request line: what is not allowed there is escaped, a fragment is left out, a slash is first.
pub(super) fn escaped(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut escaped = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 127.. => {
                // Writing to a String can't fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
            other => escaped.push(char::from(other)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_stand_in_a_request_line_is_escaped() {
        for (path, wanted) in [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a b?c={d}#e", "/a%20b?c=%7Bd%7D"),
            ("/é", "/%C3%A9"),
            ("/%20", "/%20"),
        ] {
            assert_eq!(escaped(path), wanted);
        }
    }

    #[test]
    fn redirects_stay_at_the_pod_or_are_not_followed() {
        let app = IpAddr::from([10, 0, 0, 7]);
        let from = Target {
            scheme: Scheme::Http,
            port: 8080,
            path: "/a/b?c=1".to_owned(),
            host: Some("shop".to_owned()),
        };
        let led = |status: u16, location: &'static str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            next(&from, app, StatusCode::from_u16(status).unwrap(), &headers)
        };
        for (location, path) in [("/ok", "/ok"), ("ok", "/a/ok"), ("?d", "/a/b?d"), ("/o k", "/o%20k")] {
            let wanted = Target { path: path.to_owned(), ..from.clone() };
            assert_eq!(led(302, location), Some(wanted), "{location}");
        }
        for (location, scheme, port, path) in [
            ("https://10.0.0.7:8443/x?y", Scheme::Https, 8443, "/x?y"),
            ("http://10.0.0.7", Scheme::Http, 80, "/"),
            ("//10.0.0.7:9/x", Scheme::Http, 9, "/x"),
        ] {
            let wanted = Target { scheme, port, path: path.to_owned(), host: None };
            assert_eq!(led(308, location), Some(wanted), "{location}");
        }
        for location in ["http://example.org/", "http://10.0.0.8/", "ftp://10.0.0.7/", "http://", ""] {
            assert_eq!(led(301, location), None, "{location}");
        }
        assert_eq!(led(304, "/ok"), None);
        assert_eq!(led(200, "/ok"), None);
    }
}
