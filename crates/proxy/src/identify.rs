//! What a client speaks, from the first bytes that it sends.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// How every HTTP/2 connection begins. No HTTP/1 request can: `PRI` was reserved for it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// How long to wait between two looks at a preface that comes in pieces. The kernel calls a socket readable as long as
/// there is anything to peek at, so it can't tell us of the next piece.
const NEXT_PIECE: Duration = Duration::from_millis(5);

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1, or something that its parser will refuse with a 400.
    Http1,
    /// HTTP/2 with prior knowledge, so gRPC too.
    Http2,
    /// Closed without a word: a probe, a port scan.
    Nothing,
}

/// Waits for a client's first bytes and leaves them where they are. Cancel safe.
pub(crate) async fn identify(stream: &TcpStream) -> io::Result<Spoken> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        match spoken(&first[..length]) {
            Some(spoken) => return Ok(spoken),
            None => tokio::time::sleep(NEXT_PIECE).await,
        }
    }
}

/// `None` where these bytes are the beginning of a preface.
fn spoken(first: &[u8]) -> Option<Spoken> {
    if first.is_empty() {
        Some(Spoken::Nothing)
    } else if first.starts_with(HTTP2_PREFACE) {
        Some(Spoken::Http2)
    } else if HTTP2_PREFACE.starts_with(first) {
        None
    } else {
        Some(Spoken::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_preface_is_http2() {
        let cases: [(&[u8], Option<Spoken>); 6] = [
            (b"", Some(Spoken::Nothing)),
            (b"GET / HTTP/1.1", Some(Spoken::Http1)),
            (b"P", None),
            (b"POST / HTTP/1.", Some(Spoken::Http1)),
            (b"PRI * HTTP/2", None),
            (b"PRI * HTTP/2.0", Some(Spoken::Http2)),
        ];
        for (first, wanted) in cases {
            assert_eq!(spoken(first), wanted, "{}", String::from_utf8_lossy(first));
        }
    }
}
