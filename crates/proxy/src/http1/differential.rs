//! The parser beside two others: hyper's, and one straight from RFC 9112 that knows nothing of speed.
//!
//! Whatever two parsers read differently in the same bytes is a way to smuggle a request past one of them. A short run by
//! default; `PROPTEST_CASES=100000` makes it a long one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http1::framing::Body;
use crate::http1::head;
use crate::method::Method;
use crate::request_target;

/// A request that came whole: method, target, content, and how many bytes it took.
type Whole = (String, Vec<u8>, Vec<u8>, usize);

/// Our reading of bytes that come in pieces of this size.
fn ours(bytes: &[u8], piece: usize) -> Option<Whole> {
    let ends = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
    let (mut read, mut begun) = (0, None);
    for end in ends {
        if begun.is_none() {
            let Some(head) = head::request(&bytes[..end]).ok()? else { continue };
            read = head.length;
            begun = Some((Body::new(head.framing), Vec::new(), head));
        }
        let (body, content, _) = begun.as_mut()?;
        let rest = &bytes[read..end];
        read += body.take(rest, |data| content.extend_from_slice(&rest[data])).ok()?;
    }
    let (body, content, head) = begun?;
    let method = bytes[..head.length].trim_ascii_start().split(|byte| *byte == b' ').next()?;
    let method = String::from_utf8_lossy(method).into_owned();
    body.is_ended().then(|| (method, bytes[head.target].to_vec(), content, read))
}

/// What RFC 9112 says of a request without white space that it leaves to the recipient's mercy.
fn by_the_book(mut bytes: &[u8]) -> Option<Whole> {
    let all = bytes.len();
    while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
        bytes = rest;
    }
    let request = line(&mut bytes)?;
    let mut words = request.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let new = version == b"HTTP/1.1";
    let known = new || version == b"HTTP/1.0";
    let visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    // Beyond the RFC, which has ASCII only, apps get what browsers of old sent: UTF-8, and nothing that is not even that.
    let legible = !target.is_empty() && target.iter().all(visible) && std::str::from_utf8(target).is_ok();
    if words.next().is_some() || !known || !is_token(method) || !legible || !is_of_a_form(method, target) {
        return None;
    }
    let fields = fields(&mut bytes)?;
    let values = |wanted: &str| {
        let named = fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        named.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    match values("host")[..] {
        [] if new => return None,
        [] => {}
        [value] if value.iter().all(host) => {}
        _ => return None,
    }
    let mut content = Vec::new();
    match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => {}
        ([], [length]) => {
            let length: usize = number(length, 10)?;
            content.extend_from_slice(bytes.get(..length)?);
            bytes = &bytes[length..];
        }
        ([coding], []) if new && coding.eq_ignore_ascii_case(b"chunked") => content = chunks(&mut bytes)?,
        _ => return None,
    }
    Some((String::from_utf8(method.to_vec()).ok()?, target.to_vec(), content, all - bytes.len()))
}

/// RFC 9112 3.2, with hosts by which nobody is mistaken about where a path begins.
fn is_of_a_form(method: &[u8], target: &[u8]) -> bool {
    let target = String::from_utf8_lossy(target);
    let lower = target.to_ascii_lowercase();
    let is_authority = |text: &str| {
        let host = text.rsplit('@').next().unwrap_or_default();
        let known = |c: char| c.is_ascii_alphanumeric() || "-._:[]@".contains(c);
        !host.is_empty() && !host.starts_with(':') && text.chars().all(known)
    };
    if method == b"CONNECT" {
        return is_authority(&target);
    }
    let whole = lower.strip_prefix("http://").or(lower.strip_prefix("https://"));
    let is_whole = whole.and_then(|rest| rest.split(['/', '?']).next()).is_some_and(is_authority);
    let is_form = target.starts_with('/') || is_whole || (method == b"OPTIONS" && target == "*");
    is_form && !target.contains('#')
}

fn chunks(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let size = line(bytes)?;
        let (digits, extension) =
            size.split_at(size.iter().position(|byte| *byte == b';').unwrap_or(size.len()));
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        let space = digits.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let size = number(&digits[..digits.len() - space], 16).filter(|_| extension.iter().all(is_text))?;
        if size == 0 {
            fields(bytes)?;
            return Some(content);
        }
        content.extend_from_slice(bytes.get(..size)?);
        *bytes = &bytes[size..];
        if !line(bytes)?.is_empty() {
            return None;
        }
    }
}

/// A line that ends in CRLF and has no line break in it.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    *bytes = rest;
    (!line.contains(&b'\n') && !line.contains(&b'\r')).then_some(line)
}

/// Field lines up to the empty one.
fn fields(bytes: &mut &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Some(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !is_token(name) || !line[colon + 1..].iter().all(is_text) {
            return None;
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token)
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    let number =
        std::str::from_utf8(digits).ok().filter(|digits| digits.chars().all(|c| c.is_digit(radix)))?;
    usize::from_str_radix(number, radix).ok().filter(|_| digits.len() <= 16)
}

/// What an app on hyper gets of the first request: method, path with query, and content, where it is whole.
fn by_hyper(bytes: &[u8]) -> Option<(String, String, Vec<u8>)> {
    let seen = Arc::new(Mutex::new(None));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // Room for the answers, which nobody reads.
        let (mut client, server) = tokio::io::duplex(bytes.len() + 4096);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return Ok(hyper::Response::new(Empty::new())) };
                let query = head.uri.query().map_or(String::new(), |query| format!("?{query}"));
                let place = format!("{}{query}", head.uri.path());
                let request = (head.method.to_string(), place, body.to_bytes().to_vec());
                seen.lock().unwrap().get_or_insert(request);
                Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .keep_alive(false)
            .serve_connection(TokioIo::new(server), service);
        let _ = connection.await;
    });
    seen.lock().unwrap().take()
}

/// Our reading of an answer to a GET whose connection ends with these bytes: status and content, where it is whole.
fn our_answer(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let head = head::response(bytes, Method::Get).ok()??;
    let (mut body, mut content) = (Body::new(head.framing), Vec::new());
    let rest = &bytes[head.length..];
    body.take(rest, |data| content.extend_from_slice(&rest[data])).ok()?;
    body.may_close().then_some((head.status, content))
}

/// What a client on hyper gets of it.
fn answer_by_hyper(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (client, mut app) = tokio::io::duplex(bytes.len() + 4096);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        let app = async {
            // Not before the request, or it is taken for an answer to none.
            let mut request = [0; 1024];
            assert!(app.read(&mut request).await.unwrap() > 0);
            app.write_all(bytes).await.unwrap();
            app.shutdown().await.unwrap();
        };
        let answer = async {
            let request = hyper::Request::get("/").header("host", "a").body(Empty::<bytes::Bytes>::new());
            let answer = sender.send_request(request.unwrap()).await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.into_body().collect().await.ok()?.to_bytes().to_vec()))
        };
        tokio::join!(connection, app, answer).2
    })
}

const NAMES: [&str; 8] = [
    "Content-Length",
    "Transfer-Encoding",
    "content-length",
    "Connection",
    "TE",
    "X-A",
    "X-Content-Length",
    "Host",
];
const VALUES: [&str; 15] = [
    "5",
    "0",
    "+5",
    "5, 5",
    "05",
    "5 ",
    "0x5",
    "",
    "chunked",
    "Chunked",
    "chunked, chunked",
    "identity",
    "a, b",
    "close",
    "a\tb",
];
const BODIES: [&str; 12] = [
    "hello",
    "",
    "5\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "5;a=b\r\nhello\r\n0;c\r\nX: 1\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello0\r\n\r\n",
    "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0\r\n X: folded\r\n\r\n",
];
/// Bytes that decide something.
const TELLING: &[u8] = b"\r\n \t:;,0159afxGP/?#*@\\\0\x7f\x80\xff";

fn request() -> impl Strategy<Value = Vec<u8>> {
    const STARTS: [&str; 7] = [
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.1",
        "OPTIONS * HTTP/1.0",
        "A / HTTP/1.2",
        "GET http://a/b?c HTTP/1.1",
        "GET a/http://b/c HTTP/1.1",
        "GET /a#/b HTTP/1.1",
    ];
    let line = (select(&NAMES[..]), select(&[": ", ":", " : ", ":\t"][..]), select(&VALUES[..]));
    (select(&STARTS[..]), vec(line, 0..4), select(&BODIES[..]), select(&["", "GET / HTTP/1.1\r\n"][..]))
        .prop_map(|(start, lines, body, next)| {
            let lines = lines.iter().flat_map(|(name, colon, value)| [*name, *colon, *value, "\r\n"]);
            let lines: String = lines.collect();
            format!("{start}\r\nHost: a\r\n{lines}\r\n{body}{next}").into_bytes()
        })
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let line = (select(&NAMES[..]), select(&[": ", ":"][..]), select(&VALUES[..]));
    let start =
        select(&["HTTP/1.1 200 OK", "HTTP/1.1 204 ", "HTTP/1.0 200 OK", "HTTP/1.1 304 Not Modified"][..]);
    (start, vec(line, 0..4), select(&BODIES[..])).prop_map(|(start, lines, body)| {
        let lines = lines.iter().flat_map(|(name, colon, value)| [*name, *colon, *value, "\r\n"]);
        let lines: String = lines.collect();
        format!("{start}\r\n{lines}\r\n{body}").into_bytes()
    })
}

/// The same with a byte or two put in, taken out or changed.
fn mutated(message: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..3, select(TELLING));
    (message, vec(change, 0..3)).prop_map(|(mut bytes, changes)| {
        for (at, what, byte) in changes {
            let at = at.index(bytes.len());
            match what {
                0 => bytes.insert(at, byte),
                1 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn requests_are_read_as_the_rfc_and_hyper_read_them(bytes in mutated(request())) {
        let read = ours(&bytes, bytes.len());
        prop_assert_eq!(&read, &by_the_book(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
        // hyper refuses some targets that pass here, and takes framings that are refused here. What both take is the same.
        if let (Some((method, target, content, _)), Some(hypers)) = (read, by_hyper(&bytes)) {
            // The path that is judged is the one that the app finds.
            let (path, query) = request_target::parts(&target);
            let place = String::from_utf8_lossy(&[path, query].concat()).into_owned();
            prop_assert_eq!((method, place, content), hypers);
        }
    }

    /// An answer that the client would read otherwise than the proxy would end in the middle of the next.
    #[test]
    fn answers_are_read_as_hyper_reads_them(bytes in mutated(answer())) {
        if let (Some(ours), Some(hypers)) = (our_answer(&bytes), answer_by_hyper(&bytes)) {
            prop_assert_eq!(ours, hypers, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn how_bytes_are_cut_makes_no_difference(bytes in mutated(request()), piece in 1..40_usize) {
        let whole = ours(&bytes, bytes.len());
        prop_assert_eq!(&ours(&bytes, 1), &whole);
        prop_assert_eq!(&ours(&bytes, piece), &whole);
    }

    #[test]
    fn cut_anywhere_a_request_is_the_same(bytes in request()) {
        let whole = ours(&bytes, bytes.len());
        for cut in 1..bytes.len() {
            prop_assert_eq!(&ours(&bytes, cut), &whole, "{}", cut);
        }
    }
}

/// So that the properties above are about something: well-formed requests are taken by all three.
#[test]
fn well_formed_requests_are_taken_by_all() {
    for (request, content) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX: 1\r\n\r\n",
            "hello",
        ),
    ] {
        let whole = ours(request.as_bytes(), request.len()).unwrap();
        assert_eq!(whole.2, content.as_bytes());
        assert_eq!(by_the_book(request.as_bytes()).as_ref(), Some(&whole));
        assert_eq!(by_hyper(request.as_bytes()).unwrap().2, content.as_bytes());
    }
}
