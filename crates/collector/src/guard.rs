//! Who may ask: only pages that came from here, by an address that only this machine has.
//!
//! There is no login: behind `kubectl port-forward` whoever reaches the port may see the page. What could reach it beside the
//! user is a web page of somebody else in the user's browser, and both its ways are closed here: by a name of its own
//! that it lets point to loopback (DNS rebinding), which the `Host` gives away, and by asking across sites, which browsers tell in
//! `Sec-Fetch-Site` and `Origin`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Lets a request pass or not, and says to browsers what they may do with the answer.
pub(crate) async fn guard(State(listen): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match refusal(listen.ip(), request.method(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(listen: IpAddr, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let header = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = header(&HOST).unwrap_or_default();
    if !is_here(host, listen) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "ask for it as localhost, or by the address that it listens on\n",
        ));
    }
    // A link from elsewhere to the page is no harm: it is a navigation, whose answer its origin can't read.
    let site = headers.get("sec-fetch-site").map_or("none", |value| value.to_str().unwrap_or("?"));
    let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    let foreign = !["none", "same-origin"].contains(&site) && !navigates;
    let origin = header(&ORIGIN).and_then(|origin| origin.strip_prefix("http://").or(Some(origin)));
    if foreign || origin.is_some_and(|origin| origin != host) {
        return Some((StatusCode::FORBIDDEN, "other sites may not ask\n"));
    }
    (method != Method::GET && method != Method::HEAD)
        .then_some((StatusCode::METHOD_NOT_ALLOWED, "there is nothing to change here\n"))
}

/// `localhost`, a loopback address, or the address that it listens on; with any port, for a port-forward has its own.
fn is_here(host: &str, listen: IpAddr) -> bool {
    let Ok(uri) = format!("http://{host}/").parse::<Uri>() else { return false };
    let name = uri.host().unwrap_or_default();
    if uri.authority().is_none_or(|authority| authority.as_str() != host || host.contains('@')) {
        return false;
    }
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback() || address == listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&'static str, &'static str)]) -> Option<StatusCode> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let listen = "127.0.0.1".parse().unwrap();
        refusal(listen, &Method::GET, &headers.collect()).map(|(status, _)| status)
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:15195", "[::1]:9", "LOCALHOST:1", "127.0.3.4"]
        {
            assert_eq!(answer(&[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.7", "a@localhost", ""]
        {
            assert_eq!(answer(&[("host", host)]), Some(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
    }

    #[test]
    fn other_sites_may_link_here_and_no_more() {
        let here = ("host", "localhost:1");
        assert_eq!(
            answer(&[here, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:1")]),
            None
        );
        assert_eq!(answer(&[here, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), None);
        for headers in [
            [here, ("sec-fetch-site", "cross-site")],
            [here, ("sec-fetch-site", "same-site")],
            [here, ("origin", "http://localhost:2")],
            [here, ("origin", "null")],
        ] {
            assert_eq!(answer(&headers), Some(StatusCode::FORBIDDEN), "{headers:?}");
        }
    }
}
