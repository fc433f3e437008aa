//! The `Host` of requests that the app sends to a listener of ours on loopback.
//!
//! The app was given that listener's address in the place of the upstream's, and names it in `Host`. An upstream with several
//! names, as anything behind an ingress, would not know what is wanted.

use std::ops::Range;

use http::Uri;
use http::uri::Authority;

use crate::port::Spec;
use crate::request;

/// What requests to one listener of ours may call it, and what they mean.
#[derive(Debug)]
pub(crate) struct LocalHost {
    /// `:15201`.
    port: String,
    upstream: Authority,
    /// As a line of HTTP/1.
    line: String,
}

impl LocalHost {
    pub(crate) fn of(spec: &Spec) -> Option<Self> {
        let Spec::Upstream(upstream) = spec else { return None };
        let port = format!(":{}", upstream.listen?);
        let host = upstream.host.trim_end_matches('.');
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let of_scheme = if upstream.tls.is_some() { 443 } else { 80 };
        let authority = if upstream.port == of_scheme { host } else { format!("{host}:{}", upstream.port) };
        let line = format!("Host: {authority}\r\n");
        Some(Self { port, upstream: authority.parse().ok()?, line })
    }

    fn is_named(&self, host: &[u8]) -> bool {
        let name = host.strip_suffix(self.port.as_bytes());
        name.is_some_and(|name| matches!(name, b"127.0.0.1" | b"localhost"))
    }

    /// The line of `Host` in a head of HTTP/1 that names the listener, and the one for its place.
    fn line(&self, head: &[u8]) -> Option<(Range<usize>, &[u8])> {
        let named = |line: Range<usize>| Some((request::value(&head[line.clone()], "host")?, line));
        let (host, line) = request::lines(head).find_map(named)?;
        self.is_named(host).then_some((line, self.line.as_bytes()))
    }

    /// The URI of a request of HTTP/2, with the upstream's name where it has the listener's.
    pub(crate) fn uri(&self, uri: &Uri) -> Option<Uri> {
        let authority = uri.authority()?;
        if !self.is_named(authority.as_str().as_bytes()) {
            return None;
        }
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(self.upstream.clone());
        Uri::from_parts(parts).ok()
    }

    /// The lines to take out of a head, in their order, and those to add, with the `Host` among them.
    pub(crate) fn edits<'a>(
        &'a self,
        head: &[u8],
        remove: &[Range<usize>],
        added: &[&'a [u8]],
    ) -> (Vec<Range<usize>>, Vec<&'a [u8]>) {
        let (mut remove, mut add) = (remove.to_vec(), added.to_vec());
        if let Some((place, line)) = self.line(head) {
            remove.push(place);
            remove.sort_by_key(|line| line.start);
            add.push(line);
        }
        (remove, add)
    }
}

#[cfg(test)]
mod tests {
    use outrigger_api::config::{Protocol, Upstream};

    use super::*;

    fn local(host: &str, port: u16) -> LocalHost {
        let upstream = Upstream {
            name: "api".to_owned(),
            host: host.to_owned(),
            port,
            protocol: Protocol::Auto,
            listen: Some(15201),
            ..Upstream::default()
        };
        LocalHost::of(&Spec::Upstream(Box::new(upstream))).unwrap()
    }

    #[test]
    fn the_listeners_name_becomes_the_upstreams() {
        for (host, port, wanted) in [
            ("api.shop.svc", 80, "Host: api.shop.svc\r\n"),
            ("api.shop.svc.", 8080, "Host: api.shop.svc:8080\r\n"),
            ("fd00::7", 80, "Host: [fd00::7]\r\n"),
        ] {
            let local = local(host, port);
            let head = b"GET / HTTP/1.1\r\nA: host: b\r\nhOST:localhost:15201 \r\n\r\n";
            let (place, line) = local.line(head).unwrap();
            assert_eq!((&head[place], line), (&b"hOST:localhost:15201 \r\n"[..], wanted.as_bytes()));
        }
    }

    #[test]
    fn another_name_stays() {
        for host in ["shop.example", "127.0.0.1:15202", "127.0.0.1", "localhost:152012", "a127.0.0.1:15201"] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(local("api", 80).line(head.as_bytes()), None, "{host}");
        }
        let uri = |text: &str| local("api", 80).uri(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(uri("http://127.0.0.1:15201/a?b"), Some("http://api/a?b".to_owned()));
        assert_eq!(uri("http://shop.example/a"), None);
    }
}
