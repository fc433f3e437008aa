//! Headers that concern one connection only, and so are not passed on.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::header::{TE, TRANSFER_ENCODING, UPGRADE};

/// Not in RFC 9110, but sent, and for one connection by their meaning.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes the headers of the connection that a message came by, RFC 9110 7.6.1: `Connection`, what it names, and those
/// known to be meant. `Transfer-Encoding` stays: hyper frames the message by it, anew.
pub(crate) fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, UPGRADE] {
        headers.remove(name);
    }
    // Trailers do pass through us, so the client's wish for them may.
    if headers.contains_key(TE) {
        let trailers = lists(headers, &TE, "trailers");
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        }
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    let names = items.filter_map(|name| name.trim().parse::<HeaderName>().ok());
    // TE has its own rule; without the other three the message would mean something else.
    names.filter(|name| ![TE, HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)).collect()
}

/// The protocol that a message asks or agrees to switch to: its `Upgrade`, where `Connection` names it.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(UPGRADE)?;
    lists(headers, &CONNECTION, "upgrade").then(|| upgrade.clone())
}

/// Puts back what [`remove_connection_headers`] removed of a switch.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn names_left(lines: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = headers(lines);
        remove_connection_headers(&mut headers);
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_connection_names_is_removed_but_never_what_frames_the_message() {
        let lines = [
            ("connection", "close, X-Hop, host, content-length"),
            ("x-hop", "1"),
            ("x-end", "1"),
            ("host", "a"),
            ("content-length", "0"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
        ];
        assert_eq!(names_left(&lines), ["content-length", "host", "x-end"]);
    }

    #[test]
    fn only_the_wish_for_trailers_passes() {
        assert_eq!(names_left(&[("te", "gzip")]), [""; 0]);
        assert_eq!(names_left(&[("te", "gzip, trailers"), ("connection", "te")]), ["connection", "te"]);
    }

    #[test]
    fn upgrade_counts_only_when_connection_names_it() {
        assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
        let asked = headers(&[("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")]);
        assert_eq!(upgrade(&asked).unwrap(), "websocket");
    }
}
