//! What becomes of the app's answers: headers set and taken out, and others in their place by their status.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use outrigger_api::config::Inbound;
use outrigger_api::overrides::{OverrideSpec, StatusRef};

use crate::headers::Edits;
use crate::request::Request;
use crate::request_target;

/// What a body is that a profile says nothing of.
const HTML: &str = "text/html; charset=utf-8";

/// Headers that say something of the body, or frame it: with another body they would be wrong.
const OF_THE_BODY: [&str; 16] = [
    "accept-ranges",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
    "trailer",
    "transfer-encoding",
];

/// What a port does to answers.
#[derive(Debug)]
pub(crate) struct Answers {
    /// To those that no override is for.
    others: Option<Rc<Change>>,
    overrides: Vec<Override>,
}

#[derive(Debug)]
struct Override {
    prefixes: Vec<String>,
    status: Rc<[StatusRef]>,
    change: Rc<Change>,
}

/// What is done to an answer.
#[derive(Debug)]
pub(crate) struct Change {
    /// The status in the place of the app's.
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: Edits,
    /// What takes the place of the body; the headers are then those of this one.
    pub(crate) body: Option<Bytes>,
    /// Because of its status.
    pub(crate) is_override: bool,
}

/// What is done to the answer of one request, by its status.
#[derive(Debug)]
pub(crate) struct Rules {
    others: Option<Rc<Change>>,
    overrides: Vec<(Rc<[StatusRef]>, Rc<Change>)>,
}

impl Answers {
    /// `None` where nothing is done.
    pub(crate) fn of(inbound: &Inbound) -> Option<Self> {
        let headers = Edits::of(&inbound.response_headers);
        let for_all = headers.clone().unwrap_or_default();
        let overrides: Vec<_> = inbound.overrides.iter().map(|spec| Override::of(spec, &for_all)).collect();
        let plain = |headers| Rc::new(Change { status: None, headers, body: None, is_override: false });
        let others = headers.map(plain);
        (others.is_some() || !overrides.is_empty()).then_some(Self { others, overrides })
    }

    /// What is done to the answer to this request. A call by gRPC has its status in the trailers, so overrides are not for it.
    pub(crate) fn to(&self, request: &Request<'_>, is_grpc: bool) -> Option<Rules> {
        let path = request_target::path(request.target);
        let for_path = self.overrides.iter().filter(|entry| !is_grpc && entry.is_for(path));
        let overrides: Vec<_> =
            for_path.map(|entry| (Rc::clone(&entry.status), Rc::clone(&entry.change))).collect();
        let others = self.others.clone();
        (others.is_some() || !overrides.is_empty()).then_some(Rules { others, overrides })
    }
}

impl Override {
    fn of(spec: &OverrideSpec, for_all: &Edits) -> Self {
        let mut headers = Edits::default();
        if let Some(body) = &spec.body {
            for name in OF_THE_BODY {
                headers.remove(name);
            }
            let kind = spec.content_type.as_deref().unwrap_or(HTML);
            headers
                .set("Content-Type", HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static(HTML)));
            headers.set("Content-Length", HeaderValue::from(body.len()));
        }
        let headers = for_all.then(&headers).then(&Edits::of(&spec.headers).unwrap_or_default());
        let status = spec.replace_status.and_then(|status| StatusCode::from_u16(status).ok());
        let body = spec.body.clone().map(Bytes::from);
        Self {
            prefixes: spec
                .path_prefixes
                .iter()
                .map(|prefix| prefix.trim_end_matches('/').to_owned())
                .collect(),
            status: spec.status.as_slice().into(),
            change: Rc::new(Change { status, headers, body, is_override: true }),
        }
    }

    /// By whole segments.
    fn is_for(&self, path: &[u8]) -> bool {
        let begins = |prefix: &String| {
            path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        self.prefixes.is_empty() || self.prefixes.iter().any(begins)
    }
}

impl Change {
    /// The same with further headers; those alone where there is none.
    pub(crate) fn with(change: Option<&Self>, headers: &Edits) -> Self {
        match change {
            None => Self { status: None, headers: headers.clone(), body: None, is_override: false },
            Some(change) => Self {
                status: change.status,
                headers: change.headers.then(headers),
                body: change.body.clone(),
                is_override: change.is_override,
            },
        }
    }
}

impl Rules {
    /// What is done to an answer of this status: by the first override that is for it.
    pub(crate) fn change(&self, status: u16) -> Option<&Change> {
        let is_for =
            |(statuses, _): &&(Rc<[StatusRef]>, _)| statuses.iter().any(|found| found.matches(status));
        let found = self.overrides.iter().find(is_for).map(|(_, change)| change);
        found.or(self.others.as_ref()).map(Rc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use outrigger_api::overrides::{HeaderSpec, HeadersSpec};

    use super::*;
    use crate::method::Method;
    use crate::request::{Headers, Version};

    fn answers(overrides: Vec<OverrideSpec>) -> Option<Answers> {
        let header = HeaderSpec { name: "Server".to_owned(), value: "shop".to_owned() };
        let response_headers = HeadersSpec { set: vec![header], remove: Vec::new() };
        Answers::of(&Inbound { response_headers, overrides, ..Inbound::default() })
    }

    fn entry(status: &[StatusRef], prefixes: &[&str], body: &str) -> OverrideSpec {
        OverrideSpec {
            status: status.to_vec(),
            path_prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            body: Some(body.to_owned()),
            ..OverrideSpec::default()
        }
    }

    #[test]
    fn the_first_override_for_path_and_status_decides() {
        let answers = answers(vec![
            entry(&[StatusRef::Code(404)], &["/api/"], "api"),
            entry(&[StatusRef::Class(4)], &["/"], "other"),
        ]);
        let answers = answers.unwrap();
        for (target, status, wanted) in [
            ("/api/a?b=/x", 404, Some("api")),
            ("/api", 404, Some("api")),
            ("http://shop/api/a", 404, Some("api")),
            ("/apis", 404, Some("other")),
            ("/api/a", 403, Some("other")),
            ("/api/a", 200, None),
            ("/api/a", 500, None),
            ("*", 404, None),
        ] {
            let request = Request {
                version: Version::Http11,
                method: Method::Get,
                method_name: b"GET",
                target: target.as_bytes(),
                authority: None,
                headers: Headers::Lines(b""),
            };
            let rules = answers.to(&request, false).unwrap();
            let change = rules.change(status).unwrap();
            assert_eq!(change.body.as_deref(), wanted.map(str::as_bytes), "{target} {status}");
            assert_eq!(change.is_override, wanted.is_some());
            let lines = String::from_utf8(change.headers.lines_to_add().to_vec()).unwrap();
            assert!(lines.contains("Server: shop\r\n"), "{lines}");
            let of_grpc = answers.to(&request, true).unwrap();
            assert_eq!(of_grpc.change(status).unwrap().body, None);
        }
    }
}
