//! A line of the access log. The names of its fields are a contract.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::grpc::Code;
use crate::labels::Labels;
use crate::request::Request;
use crate::request_target;
use crate::routes::Ended;

/// The most that is kept of what a client sent, in bytes: container runtimes cut lines at 16 KiB.
const LONGEST: usize = 2048;

/// What a line needs of a request's head, which is gone when the answer has ended. Only made where the log is on.
#[derive(Debug)]
pub(crate) struct Noted {
    path: String,
    host: Option<String>,
    user_agent: Option<String>,
    trace_id: Option<String>,
}

impl Noted {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        // What follows the question mark is often a secret: a token, a signature, a name that is searched for. So is what stands
        // before the host of a whole URI: `http://user:password@host/`.
        let path = request_target::path(request.target);
        let host = request.host().and_then(|host| host.rsplit(|byte| *byte == b'@').next());
        let header = |name: &str| request.headers.first(name).map(text);
        let trace =
            request.headers.first("traceparent").and_then(|value| value.split(|byte| *byte == b'-').nth(1));
        let is_id = |id: &&[u8]| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
        Self {
            path: text(path),
            host: host.map(text),
            user_agent: header("user-agent"),
            trace_id: trace.filter(is_id).map(text),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned()
}

/// What is known at the end of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line<'a> {
    /// When the request began.
    time: Timestamp,
    pub(crate) direction: &'static str,
    port: &'a str,
    /// Of outbound traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    protocol: &'static str,
    pub(crate) method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    reason: &'static str,
    /// How a call by gRPC ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<&'static str>,
    request_body_bytes: u64,
    response_body_bytes: u64,
    #[serde(serialize_with = "seconds")]
    pub(crate) duration_seconds: Duration,
    /// What of that was the proxy's own work.
    #[serde(serialize_with = "seconds")]
    proxy_seconds: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

/// What a line has beside what was noted and how it ended.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) client: Option<IpAddr>,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'static str,
    pub(crate) grpc: Option<Code>,
    pub(crate) own_time: Duration,
}

impl<'a> Line<'a> {
    /// Of a request that has just ended; without a note where its head was not understood.
    pub(crate) fn of(context: &Context<'a>, noted: Option<&'a Noted>, ended: &Ended) -> Self {
        let duration = SignedDuration::try_from(ended.duration).unwrap_or_default();
        Self {
            time: Timestamp::now() - duration,
            direction: context.labels.direction.as_str(),
            port: &context.labels.port,
            upstream: context.labels.upstream.as_deref(),
            client: context.client,
            protocol: context.protocol,
            method: context.method,
            host: noted.and_then(|noted| noted.host.as_deref()),
            path: noted.map_or("", |noted| &noted.path),
            status: ended.code,
            reason: ended.reason.as_str(),
            grpc_status: context.grpc.map(Code::name),
            request_body_bytes: ended.request_body_bytes,
            response_body_bytes: ended.response_body_bytes,
            duration_seconds: ended.duration,
            proxy_seconds: context.own_time,
            user_agent: noted.and_then(|noted| noted.user_agent.as_deref()),
            trace_id: noted.and_then(|noted| noted.trace_id.as_deref()),
        }
    }
}

/// To the microsecond.
fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let microseconds = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(microseconds) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Direction;
    use crate::method::Method;
    use crate::reason::Reason;
    use crate::request::{Headers, Version};

    #[test]
    fn a_line_is_one_line_whatever_the_client_sends() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \"quoted\"\x80\r\n\
                     traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
        let long = [b"/\xff\"".as_slice(), &[b'x'; 5000], b"?token=secret"].concat();
        let request = Request {
            version: Version::Http11,
            method: Method::Get,
            method_name: b"GET",
            target: &long,
            authority: None,
            headers: Headers::Lines(head),
        };
        let noted = Noted::of(&request);
        let context = Context {
            labels: &Labels { direction: Direction::Inbound, port: "web".to_owned(), upstream: None },
            client: Some([10, 0, 0, 7].into()),
            protocol: request.version.as_str(),
            method: request.method.label(),
            grpc: None,
            own_time: Duration::from_nanos(12_345),
        };
        let ended = Ended {
            code: 200,
            reason: Reason::None,
            duration: Duration::from_millis(1500),
            request_body_bytes: 0,
            response_body_bytes: 7,
        };
        let line = serde_json::to_string(&Line::of(&context, Some(&noted), &ended)).unwrap();
        assert!(!line.contains('\n') && line.len() < 3000, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["durationSeconds"], 1.5);
        assert_eq!(line["proxySeconds"], 0.000_012);
        assert_eq!(line["userAgent"], "\"quoted\"\u{fffd}");
        assert_eq!(line["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(line["client"], "10.0.0.7");
        assert!(line["path"].as_str().unwrap().starts_with("/\u{fffd}\"xxx"));
        assert!(!line.to_string().contains("secret"));
        // Of a request that was not understood.
        let line =
            serde_json::to_value(Line::of(&Context { client: None, ..context }, None, &ended)).unwrap();
        assert_eq!((line["path"].as_str(), line.get("host"), line.get("client")), (Some(""), None, None));
    }
}
