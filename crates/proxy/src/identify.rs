//! What a client speaks, from the first bytes that it sends.

use std::io::{self, ErrorKind};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// How every HTTP/2 connection begins. No HTTP/1 request can: `PRI` was reserved for it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// `UPDATEREDIRECTREF`, and some more.
const LONGEST_METHOD: usize = 24;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1, or something that its parser will refuse with a 400.
    Http1,
    /// HTTP/2 with prior knowledge, so gRPC too.
    Http2,
    /// Closed without a word: a probe, a port scan.
    Nothing,
    /// Something else.
    Other,
}

/// What was found of a client, for the metric of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    Http1,
    Http2,
    /// It said nothing, and left.
    Nothing,
    /// It said nothing, or not enough, until the time for it was over.
    Timeout,
    /// Something else, or its server spoke first.
    Tcp,
}

impl Detected {
    /// Each at its own number, with its label.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::Http1, "http1"),
        (Self::Http2, "http2"),
        (Self::Nothing, "nothing"),
        (Self::Timeout, "timeout"),
        (Self::Tcp, "tcp"),
    ];
}

/// The most that is looked at to tell HTTP/1 from what looks like it.
const LOOKED_AT: usize = 2048;

/// Waits for the first bytes of a client that is to speak HTTP, and leaves them where they are. Cancel safe.
pub(crate) async fn identify(stream: &TcpStream) -> io::Result<Spoken> {
    look(stream, &mut [0; HTTP2_PREFACE.len()], spoken).await
}

/// The same where it may speak anything.
pub(crate) async fn identify_any(stream: &TcpStream) -> io::Result<Spoken> {
    let mut first = vec![0; LOOKED_AT];
    look(stream, &mut first, spoken_of_any).await
}

async fn look(
    stream: &TcpStream,
    first: &mut [u8],
    judge: impl Fn(&[u8]) -> Option<Spoken>,
) -> io::Result<Spoken> {
    loop {
        let closed = stream.ready(Interest::READABLE).await?.is_read_closed();
        let length = stream.peek(first).await?;
        match judge(&first[..length]) {
            Some(spoken) => return Ok(spoken),
            // The beginning of a preface or of a request, and no more to come.
            None if closed => return Ok(Spoken::Http1),
            // These bytes stay, so to tokio the socket stays readable. Told that it is not, it waits for what the kernel
            // reports next: more bytes or the end.
            None => {
                let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
            }
        }
    }
}

/// The first byte of a handshake by TLS: the type of its record, RFC 8446 5.1. No method of HTTP begins with a control character.
const HANDSHAKE: u8 = 0x16;

/// Waits for a client's first byte and leaves it where it is: whether it begins a handshake, `None` where there is none. Cancel
/// safe.
pub(crate) async fn is_tls(stream: &TcpStream) -> io::Result<Option<bool>> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok((length > 0).then_some(first[0] == HANDSHAKE))
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

/// By the whole first line: those of Redis, SMTP and others begin as HTTP's does. `None` where it has not come whole. An empty line before
/// it is none of it, as for HTTP's parser (RFC 9112 2.2): what the two read differently would go past what is said of requests.
///
/// What begins with CONNECT is for a forward proxy, which the app calls by itself; after the answer it is anything.
fn spoken_of_any(first: &[u8]) -> Option<Spoken> {
    match spoken(first) {
        Some(Spoken::Http1) => {}
        other => return other,
    }
    let length = first.len();
    let first = &first[first.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
    let method = first.iter().take_while(|byte| is_token(**byte)).count();
    let is_method = (1..=LONGEST_METHOD).contains(&method) && &first[..method] != b"CONNECT";
    match first.get(method) {
        None if method <= LONGEST_METHOD => return None,
        Some(b' ') if is_method => {}
        _ => return Some(Spoken::Other),
    }
    let Some(end) = first.iter().position(|byte| *byte == b'\n') else {
        // A target that is longer than what is looked at.
        let is_path = matches!(first.get(method + 1), None | Some(b'/' | b'h'));
        let whole = length >= LOOKED_AT;
        return if is_path { whole.then_some(Spoken::Http1) } else { Some(Spoken::Other) };
    };
    let line = first[..end].trim_ascii_end();
    let version = line.len().checked_sub(b" HTTP/1.x".len()).map(|start| &line[start..]);
    let is_http = version.is_some_and(|version| matches!(version, b" HTTP/1.1" | b" HTTP/1.0"));
    Some(if is_http { Spoken::Http1 } else { Spoken::Other })
}

/// RFC 9110 5.6.2, of which methods are made.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;
    use std::pin::pin;
    use std::time::Duration;

    /// A preface that stalls halfway was looked at every 5 ms.
    #[tokio::test(start_paused = true)]
    async fn preface_that_stalls_is_not_looked_at_again_until_more_comes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let mut polls = 0;
        let mut identify = pin!(identify(&stream));
        let mut counted = pin!(std::future::poll_fn(|context| {
            polls += 1;
            identify.as_mut().poll(context)
        }));
        client.write_all(&HTTP2_PREFACE[..1]).unwrap();
        // The clock is stopped: it jumps to the next timer whenever nothing else is to be done, so the hour takes no time.
        assert!(tokio::time::timeout(Duration::from_hours(1), counted.as_mut()).await.is_err());
        client.write_all(&HTTP2_PREFACE[1..]).unwrap();
        assert_eq!(counted.await.unwrap(), Spoken::Http2);
        // One for each event of the socket and the timeout; by the clock it would be thousands.
        assert!(polls < 10, "{polls}");
    }

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

    #[test]
    fn what_may_be_anything_is_http_only_by_its_whole_first_line() {
        let long = [b"GET /", "a".repeat(LOOKED_AT).as_bytes()].concat();
        let cases: [(&[u8], Option<Spoken>); 21] = [
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"VERSION-CONTROL /a?b HTTP/1.0\n", Some(Spoken::Http1)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET http://shop/ HTTP/1.1\r\nHost", Some(Spoken::Http1)),
            (b"\r\nGET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"get / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"X_1! / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"\r\n", None),
            (b"set key 0 0 5\r\n", Some(Spoken::Other)),
            (b"GET / HTTP/1.", None),
            (b"GE", None),
            (&long, Some(Spoken::Http1)),
            (b"GET key\r\n", Some(Spoken::Other)),
            (b"EHLO shop\r\n", Some(Spoken::Other)),
            (b"PING\r\n", Some(Spoken::Other)),
            (b"CONNECT shop:443 HTTP/1.1\r\n", Some(Spoken::Other)),
            (b"SSH-2.0-OpenSSH\r\n", Some(Spoken::Other)),
            (b"\x16\x03\x01", Some(Spoken::Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Other)),
            (b"PRI * HTTP/2.0", Some(Spoken::Http2)),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Some(Spoken::Other)),
        ];
        for (first, wanted) in cases {
            assert_eq!(spoken_of_any(first), wanted, "{}", String::from_utf8_lossy(first));
        }
    }
}
