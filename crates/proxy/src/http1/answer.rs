//! Our own answers, in the app's place.

use crate::labels::Direction;
use crate::reason::Reason;

/// The whole answer. Without a body it is one to HEAD.
pub(crate) fn of(reason: Reason, direction: Direction, with_body: bool, close: bool) -> Vec<u8> {
    let (status, body) = (reason.status(), reason.body(direction));
    let (connection, sent) =
        (if close { "Connection: close\r\n" } else { "" }, if with_body { &*body } else { "" });
    format!(
        "HTTP/1.1 {status}\r\n{}: {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{connection}\r\n{sent}",
        Reason::HEADER,
        reason.as_str(),
        body.len()
    )
    .into_bytes()
}
