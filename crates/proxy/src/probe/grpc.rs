//! `grpc.health.v1.Health/Check` in clear text: one message each way.
//!
//! By hand: the two messages have one field each, and a gRPC library would be the largest dependency of the proxy.
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use std::net::SocketAddr;

use ::http::header::{CONTENT_TYPE, TE, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{MOST_BODY, ProbeError, connect, connection};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// Names of the statuses, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u8 = 1;

/// Asks for the health of a service; empty for the server as a whole.
pub(super) async fn ask(address: SocketAddr, service: &str, headers: &HeaderMap) -> Result<(), ProbeError> {
    let url = format!("http://{address}{PATH}");
    let body = Full::from(message(service));
    let mut request = Request::post(&url).body(body).map_err(|error| ProbeError::Request(url, error))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    if let Some(agent) = headers.get(USER_AGENT) {
        request.headers_mut().insert(USER_AGENT, agent.clone());
    }
    let stream = connect(address).await?;
    let health = connection::http2(stream, request, read);
    match health.await.map_err(|error| ProbeError::Exchange(address, error))? {
        Ok(SERVING) => Ok(()),
        Ok(other) => {
            let status = STATUSES.get(usize::from(other)).map_or("of an unknown kind", |name| name);
            Err(ProbeError::NotServing { service: service.to_owned(), status: status.to_owned() })
        }
        Err(status) => Err(ProbeError::NotServing { service: service.to_owned(), status }),
    }
}

/// `HealthCheckRequest { string service = 1 }` behind gRPC's five bytes: not compressed, length.
fn message(service: &str) -> Vec<u8> {
    let mut field = Vec::new();
    if !service.is_empty() {
        // Field 1, by length.
        field.push(0x0a);
        field.extend(varint(service.len()));
        field.extend(service.as_bytes());
    }
    let length =
        u32::try_from(field.len()).expect("a pod, and so the name of a service in it, is below 1.5 MiB");
    [&[0], &length.to_be_bytes()[..], &field].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// The health, or what the server says instead.
async fn read(answer: Response<Incoming>) -> Result<Result<u8, String>, hyper::Error> {
    let (head, mut body) = answer.into_parts();
    if !head.status.is_success() {
        return Ok(Err(format!("not told: HTTP status {}", head.status.as_u16())));
    }
    let (mut message, mut trailers) = (Vec::new(), head.headers);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if message.len() + data.len() <= MOST_BODY => message.extend_from_slice(&data),
            Ok(_) => return Ok(Err("not told: the message is too long".to_owned())),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("missing");
    if status != "0" {
        let text = trailers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        return Ok(Err(format!("not told: gRPC status {status} {text}").trim_end().to_owned()));
    }
    Ok(health(&message).ok_or_else(|| "not told: no HealthCheckResponse".to_owned()))
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; a field that is not there is zero.
fn health(message: &[u8]) -> Option<u8> {
    let (prefix, field) = message.split_at_checked(5)?;
    match (prefix[0], field) {
        (0, []) => Some(0),
        // Field 1, a number of one byte.
        (0, [0x08, status]) if *status < 0x80 => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(message(&"x".repeat(200))[4..8], [203, 0x0a, 200, 1]);
    }

    #[test]
    fn health_is_read_from_one_field() {
        assert_eq!(health(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(health(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in
            [&[][..], &[0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 2, 16, 1], &[0, 0, 0, 0, 3, 8, 0x81, 1]]
        {
            assert_eq!(health(wrong), None, "{wrong:?}");
        }
    }
}
