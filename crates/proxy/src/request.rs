//! A request as policies and telemetry see it, the same whichever version of HTTP it came by.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::method::Method;

/// What a request says. Borrowed from where it was read: nothing is copied for those that do not ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// As it was sent: what is [`Method::Other`] has a name too.
    pub(crate) method_name: &'a [u8],
    /// Path and query as they came; of HTTP/1 it may be a whole URI, or `*`. Of one of [the forms](crate::request_target) that are known.
    pub(crate) target: &'a [u8],
    /// Whom it is for, where that does not stand in `Host`.
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

/// The versions of HTTP that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    /// As requests name it; the `protocol` label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request's headers, where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Headers<'a> {
    /// Of HTTP/1: the head's bytes, whose grammar has been checked.
    Lines(&'a [u8]),
    /// Of HTTP/2.
    Map(&'a HeaderMap),
}

/// Where the lines of a head of HTTP/1 stand, each with its end, but for the first, which is no header.
pub(crate) fn lines(head: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let lines = memchr::memchr_iter(b'\n', head).map(move |newline| {
        let line = start..newline + 1;
        start = line.end;
        line
    });
    lines.skip(1)
}

/// What the header of that name says, if this line is one. The colon is looked for where it would be: lines are asked for by each request,
/// and most are others.
pub(crate) fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
}

impl<'a> Headers<'a> {
    /// The first value of that name, which is given in lower case.
    pub(crate) fn first(self, name: &str) -> Option<&'a [u8]> {
        match self {
            Self::Lines(head) => lines(head).find_map(|line| value(&head[line], name)),
            Self::Map(headers) => headers.get(name).map(http::HeaderValue::as_bytes),
        }
    }
}

impl<'a> Headers<'a> {
    /// All values of that name, which is given in lower case.
    pub(crate) fn all(self, name: &str) -> Vec<&'a [u8]> {
        match self {
            Self::Lines(head) => lines(head).filter_map(|line| value(&head[line], name)).collect(),
            Self::Map(headers) => headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect(),
        }
    }
}

impl Headers<'_> {
    /// A copy of all of them.
    pub(crate) fn to_map(self) -> HeaderMap {
        let head = match self {
            Self::Lines(head) => head,
            Self::Map(headers) => return headers.clone(),
        };
        let headers = lines(head).filter_map(|line| {
            let line = &head[line];
            let colon = memchr::memchr(b':', line)?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        map
    }
}

impl<'a> Request<'a> {
    /// The host that the client named, with its port.
    pub(crate) fn host(&self) -> Option<&'a [u8]> {
        self.authority.or_else(|| self.headers.first("host"))
    }

    /// Whether it is a call by gRPC, which tells its outcome in `grpc-status` and not in the HTTP status. Not by gRPC-Web,
    /// whose trailers stand in the body.
    pub(crate) fn is_grpc(&self) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        let is_type = |value: &[u8]| {
            value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
                && matches!(value.get(GRPC.len()), None | Some(b'+' | b';'))
        };
        self.headers.first("content-type").is_some_and(is_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same() {
        let lines =
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-TYPE:  application/grpc+proto \r\nA:\r\na: 2\r\n\r\n";
        let map: HeaderMap = [("content-type", "application/grpc+proto"), ("a", "")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        for headers in [Headers::Lines(lines), Headers::Map(&map)] {
            assert_eq!(headers.first("content-type"), Some(&b"application/grpc+proto"[..]));
            assert_eq!(headers.first("a"), Some(&b""[..]));
            assert_eq!(headers.first("post /a http/1.1"), None);
            let (version, method, method_name) = (Version::Http2, Method::Post, &b"POST"[..]);
            assert!(
                Request { version, method, method_name, target: b"/a", authority: None, headers }.is_grpc()
            );
        }
    }

    #[test]
    fn only_grpc_itself_is_grpc() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("Application/gRPC;charset=x", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let lines = format!("POST / HTTP/1.1\r\ncontent-type: {value}\r\n\r\n");
            let headers = Headers::Lines(lines.as_bytes());
            let (version, method, method_name) = (Version::Http11, Method::Post, &b"POST"[..]);
            let request = Request { version, method, method_name, target: b"/", authority: None, headers };
            assert_eq!(request.is_grpc(), wanted, "{value}");
        }
    }
}
