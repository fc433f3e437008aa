//! What a client speaks, from the first bytes that it sends.

use std::io::{self, ErrorKind};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// How every HTTP/2 connection begins. No HTTP/1 request can: `PRI` was reserved for it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

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

/// What was found of a client, for the metric of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    Http1,
    Http2,
    /// It said nothing, and left.
    Nothing,
    /// It said nothing, or not enough, until the time for it was over.
    Timeout,
}

impl Detected {
    /// Each at its own number, with its label.
    pub(crate) const ALL: [(Self, &str); 4] = [
        (Self::Http1, "http1"),
        (Self::Http2, "http2"),
        (Self::Nothing, "nothing"),
        (Self::Timeout, "timeout"),
    ];
}

/// Waits for a client's first bytes and leaves them where they are. Cancel safe.
pub(crate) async fn identify(stream: &TcpStream) -> io::Result<Spoken> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let closed = stream.ready(Interest::READABLE).await?.is_read_closed();
        let length = stream.peek(&mut first).await?;
        match spoken(&first[..length]) {
            Some(spoken) => return Ok(spoken),
            // The beginning of a preface, and no more to come.
            None if closed => return Ok(Spoken::Http1),
            // These bytes stay, so to tokio the socket stays readable. Told that it is not, it waits for what the kernel
            // reports next: more bytes or the end.
            None => {
                let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
            }
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
}
