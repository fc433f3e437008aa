//! Whom a request is for, said once.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};

/// Copies it out of the buffer in which it came: `h2` has it as a part of that, and while the request waited for the app, all of the buffer
/// would stay, of 16 KiB where bodies are on their way.
pub(crate) fn copied(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority =
        parts.authority.map(|authority| Authority::try_from(authority.as_str())).transpose().ok()?;
    parts.path_and_query =
        parts.path_and_query.map(|path| PathAndQuery::try_from(path.as_str())).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

/// Takes it from `Host` where that alone tells it, as requests that were HTTP/1.1 before have it, and leaves `Host` out: RFC 9113 8.3.1. What
/// the two tell differently could be judged by one and served by the other. False where it is not told, or not clearly.
pub(crate) fn settle(head: &mut Request<()>, is_tls: bool) -> bool {
    let mut hosts = head.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => return head.uri().authority().is_some_and(is_host),
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok().filter(is_host),
        (Some(_), Some(_)) => return false,
    };
    let Some(host) = host else { return false };
    match head.uri().authority() {
        // Without regard to case.
        Some(authority) if *authority != host => return false,
        Some(_) => {}
        None if head.method() == Method::CONNECT => return false,
        None => {
            let mut parts = head.uri().clone().into_parts();
            parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(host);
            let Ok(uri) = Uri::from_parts(parts) else { return false };
            *head.uri_mut() = uri;
        }
    }
    head.headers_mut().remove(HOST);
    true
}

/// Without a name or password of a user, which it must not have.
fn is_host(authority: &Authority) -> bool {
    !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(uri: &str, hosts: &[&str]) -> Option<String> {
        let mut head = Request::builder().uri(uri);
        for host in hosts {
            head = head.header(HOST, *host);
        }
        let mut head = head.body(()).expect("a request");
        let is_clear = settle(&mut head, false);
        is_clear.then(|| {
            assert!(!head.headers().contains_key(HOST));
            head.uri().to_string()
        })
    }

    #[test]
    fn a_copy_is_the_same_and_stands_elsewhere() {
        for uri in ["http://shop:80/a?b=c", "/a", "*", "shop:443", "https://shop"] {
            let uri: Uri = uri.parse().expect("a URI");
            let copy = copied(&uri).expect("a copy");
            assert_eq!(copy, uri);
            let path = |uri: &Uri| uri.path_and_query().map(|path| path.as_str().as_ptr());
            assert!(path(&copy).is_none() || uri.path() == "*" || path(&copy) != path(&uri), "{uri}");
            assert!(copy.authority().is_none_or(
                |copy| Some(copy.as_str().as_ptr()) != uri.authority().map(|uri| uri.as_str().as_ptr())
            ));
        }
    }

    #[test]
    fn authority_and_host_tell_the_same_or_one_of_them_does() {
        for (uri, hosts, wanted) in [
            ("http://shop/a?b", &[][..], Some("http://shop/a?b")),
            ("http://shop/a", &["SHOP"], Some("http://shop/a")),
            ("/a?b", &["shop:80"], Some("http://shop:80/a?b")),
            ("http://shop/", &["other"], None),
            ("http://shop/", &["shop", "shop"], None),
            ("/", &[], None),
            ("/", &[""], None),
            ("/", &["a b"], None),
            ("http://root@shop/", &[], None),
            ("/", &["root@shop"], None),
        ] {
            assert_eq!(settled(uri, hosts).as_deref(), wanted, "{uri} {hosts:?}");
        }
    }
}
