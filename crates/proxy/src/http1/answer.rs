//! Our own answers, in the app's place.

use crate::answer::OwnAnswer;
use crate::reason::Reason;

/// The whole answer. Without a body it is one to HEAD.
pub(crate) fn of(answer: &OwnAnswer, with_body: bool, close: bool) -> Vec<u8> {
    let OwnAnswer { reason, status, headers, body, .. } = answer;
    let mut bytes = format!("HTTP/1.1 {status}\r\n{}: {}\r\n", Reason::HEADER, reason.as_str()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    if close {
        bytes.extend_from_slice(b"Connection: close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if with_body {
        bytes.extend_from_slice(body);
    }
    bytes
}
