//! Heads of messages, read from the bytes that are passed on: where they end, how their body is framed, and what of
//! them concerns the connection alone.
//!
//! `httparse` knows the grammar. It takes a bare line feed for the end of a line, which other parsers don't, so that is
//! refused here.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{EMPTY_HEADER, Header};
use smallvec::SmallVec;

use crate::http1::framing::Framing;
use crate::limits::MAX_HEADERS;
use crate::method::Method;
use crate::request::{Headers, Request, Version};
use crate::request_target;

/// Headers that are read without an allocation.
const FEW: usize = 64;

/// Why a head can't be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// Not HTTP/1, or such that two parsers could read two messages.
    #[error("{0}")]
    Malformed(&'static str),
    #[error("more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// A request by another protocol, which says so: RTSP, SIP, a failed preface of HTTP/2.
    #[error("not HTTP")]
    OtherProtocol,
}

/// A request's head. Positions are those in the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) length: usize,
    pub(crate) method: Method,
    pub(crate) target: Range<usize>,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) hop: Hop,
}

impl RequestHead {
    /// The request, of the bytes that this was read from.
    pub(crate) fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        Request {
            version: self.version,
            method: self.method,
            method_name: bytes[..self.target.start].trim_ascii_end(),
            target: &bytes[self.target.clone()],
            authority: None,
            headers: Headers::Lines(&bytes[..self.length]),
        }
    }
}

/// An answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) length: usize,
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    /// The line that names the framing as chunked.
    pub(crate) chunked: Option<Range<usize>>,
    pub(crate) hop: Hop,
}

impl ResponseHead {
    /// Whether another follows, RFC 9110 15.2. A switch of protocols (101) is the last by HTTP.
    pub(crate) fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }
}

/// Lines of a head. As many without an allocation as most heads have of those that are not passed on: `Connection` and `Keep-Alive`.
pub(crate) type Lines = SmallVec<[Range<usize>; 2]>;

/// What a head says about the connection that it came by, RFC 9110 7.6.1.
#[allow(clippy::struct_excessive_bools)] // independent options of a header, not a state
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    /// Asks or agrees to switch to another protocol. Not to `h2c`: what followed would be requests that nobody counts,
    /// and the client is content with HTTP/1.
    pub(crate) upgrade: bool,
    /// The client takes trailers. So do we.
    pub(crate) trailers: bool,
    /// Lines that are not passed on, in their order.
    pub(crate) remove: Lines,
}

impl Hop {
    /// Whether the connection may be used again after this message.
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Reads a request's head; `None` where it has not come whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    let mut few = [const { MaybeUninit::uninit() }; FEW];
    let mut many;
    let mut request = httparse::Request::new(&mut []);
    let status = match request.parse_with_uninit_headers(bytes, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            many = vec![EMPTY_HEADER; MAX_HEADERS];
            request = httparse::Request::new(&mut many);
            request.parse(bytes)
        }
        status => status,
    };
    let httparse::Status::Complete(length) = status.map_err(|error| refused_request(error, bytes))? else {
        return Ok(None);
    };
    let method = Method::of(request.method.unwrap_or_default());
    let target = request.path.unwrap_or_default();
    if !request_target::is_valid(method, target.as_bytes()) {
        return Err(HeadError::Malformed("target of none of the forms of RFC 9112 3.2"));
    }
    let version = version(request.version);
    let fields = Fields::read(&bytes[..length], request.headers)?;
    if fields.hosts > 1 {
        return Err(HeadError::Malformed("more than one Host"));
    }
    if fields.hosts == 0 && version == Version::Http11 {
        return Err(HeadError::Malformed("no Host"));
    }
    let framing = match (fields.encoding, fields.length) {
        (Encoding::None, None) => Framing::None,
        (Encoding::None, Some(length)) => Framing::Length(length),
        (_, Some(_)) => return Err(HeadError::Malformed("both Content-Length and Transfer-Encoding")),
        (Encoding::Chunked, None) if version == Version::Http11 => Framing::Chunked,
        (_, None) => return Err(HeadError::Malformed("Transfer-Encoding other than chunked in HTTP/1.1")),
    };
    let target = position(bytes, target.as_bytes());
    Ok(Some(RequestHead { length, method, target, version, framing, hop: fields.hop }))
}

/// Reads the head of the answer to a request; `None` where it has not come whole.
pub(crate) fn response(bytes: &[u8], asked: Method) -> Result<Option<ResponseHead>, HeadError> {
    let mut few = [const { MaybeUninit::uninit() }; FEW];
    let mut many;
    let mut response = httparse::Response::new(&mut []);
    let lenient = httparse::ParserConfig::default();
    let status = match lenient.parse_response_with_uninit_headers(&mut response, bytes, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            many = vec![EMPTY_HEADER; MAX_HEADERS];
            response = httparse::Response::new(&mut many);
            response.parse(bytes)
        }
        status => status,
    };
    let httparse::Status::Complete(length) = status.map_err(refused)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let version = version(response.version);
    let mut fields = Fields::read(&bytes[..length], response.headers)?;
    let bodiless = asked == Method::Head || matches!(status, 100..=199 | 204 | 304);
    let framing = match (fields.encoding, fields.length) {
        _ if bodiless => Framing::None,
        (Encoding::Chunked | Encoding::LastChunked, _) => {
            // RFC 9112 6.3: chunked counts, and whoever passes it on removes the other.
            fields.hop.remove.extend(fields.length_line);
            fields.hop.remove.sort_by_key(|line| line.start);
            Framing::Chunked
        }
        (Encoding::None, Some(length)) => Framing::Length(length),
        // An unknown coding ends with the connection, whatever Content-Length says.
        (Encoding::None | Encoding::Other, _) => Framing::UntilClose,
    };
    Ok(Some(ResponseHead { length, status, version, framing, chunked: fields.chunked, hop: fields.hop }))
}

fn refused(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        _ => HeadError::Malformed("not HTTP/1"),
    }
}

fn refused_request(error: httparse::Error, bytes: &[u8]) -> HeadError {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    // The last word, as a target with a space in it is a mistake of HTTP's own.
    let protocol = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_http = protocol.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"));
    if error == httparse::Error::Version && !is_http { HeadError::OtherProtocol } else { refused(error) }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// Where a part of `bytes` stands in them.
fn position(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    None,
    Chunked,
    /// Others before it, or the same twice.
    LastChunked,
    Other,
}

/// What the fields of a head say to us.
struct Fields {
    hosts: usize,
    length: Option<u64>,
    length_line: Option<Range<usize>>,
    encoding: Encoding,
    /// The line that names it, where it is chunked and nothing else.
    chunked: Option<Range<usize>>,
    hop: Hop,
}

impl Fields {
    fn read(head: &[u8], headers: &[Header<'_>]) -> Result<Self, HeadError> {
        let mut fields = Self {
            hosts: 0,
            length: None,
            length_line: None,
            encoding: Encoding::None,
            chunked: None,
            hop: Hop::default(),
        };
        let mut named = false;
        let (mut upgrade, mut te) = (None, None);
        for (number, header) in headers.iter().enumerate() {
            check_line(&head[..start(head, header)])?;
            let (Header { name, value }, line) = (header, || line(head, headers, number));
            // By length first: most headers are none of these.
            match name.len() {
                2 if is(name, b"te") => {
                    te = Some(te.unwrap_or(false) || lists(value, b"trailers"));
                    fields.hop.remove.push(line());
                }
                4 if is(name, b"host") => {
                    fields.hosts += 1;
                    if !value.iter().all(|byte| is_of_host(*byte)) {
                        return Err(HeadError::Malformed("Host is not a host"));
                    }
                }
                7 if is(name, b"upgrade") => upgrade = Some((*value, line())),
                10 if is(name, b"connection") => {
                    fields.connection(value, &mut named);
                    fields.hop.remove.push(line());
                }
                10 if is(name, b"keep-alive") => fields.hop.remove.push(line()),
                14 if is(name, b"content-length") => fields.content_length(value, line())?,
                16 if is(name, b"proxy-connection") => fields.hop.remove.push(line()),
                17 if is(name, b"transfer-encoding") => {
                    fields.transfer_encoding(value, line());
                }
                _ => {}
            }
        }
        check_line(head)?;
        check_line(&head[..head.len().saturating_sub(LINE_END.len())])?;
        fields.hop.trailers = te.unwrap_or(false);
        match upgrade {
            Some((protocol, _)) if fields.hop.upgrade && !protocol.eq_ignore_ascii_case(b"h2c") => {}
            Some((_, line)) => {
                fields.hop.upgrade = false;
                fields.hop.remove.push(line);
            }
            None => fields.hop.upgrade = false,
        }
        if named {
            fields.remove_named(head, headers);
        }
        if fields.hop.remove.len() > 1 {
            fields.hop.remove.sort_by_key(|line| line.start);
            fields.hop.remove.dedup();
        }
        Ok(fields)
    }

    fn connection(&mut self, value: &[u8], named: &mut bool) {
        // Nearly always.
        if is(value, b"keep-alive") {
            self.hop.keep_alive = true;
            return;
        }
        for option in options(value) {
            match option.len() {
                5 if is(option, b"close") => self.hop.close = true,
                7 if is(option, b"upgrade") => self.hop.upgrade = true,
                10 if is(option, b"keep-alive") => self.hop.keep_alive = true,
                _ => *named = true,
            }
        }
    }

    /// The fields that `Connection` names. Without Host and those that frame the message it would mean something else,
    /// and TE has a rule of its own.
    fn remove_named(&mut self, head: &[u8], headers: &[Header<'_>]) {
        const KEPT: [&str; 5] = ["host", "content-length", "transfer-encoding", "te", "upgrade"];
        let connection = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        for name in connection.flat_map(|header| options(header.value)) {
            for (number, header) in headers.iter().enumerate() {
                let kept = KEPT.iter().any(|kept| header.name.eq_ignore_ascii_case(kept));
                if !kept && header.name.as_bytes().eq_ignore_ascii_case(name) {
                    self.hop.remove.push(line(head, headers, number));
                }
            }
        }
    }

    fn content_length(&mut self, value: &[u8], line: Range<usize>) -> Result<(), HeadError> {
        // By hand, because `parse` would take `+4`.
        let length = value.iter().try_fold(0_u64, |length, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            length.checked_mul(10)?.checked_add(digit.into())
        });
        let length = length
            .filter(|_| !value.is_empty())
            .ok_or(HeadError::Malformed("Content-Length is not a number"))?;
        if self.length.replace(length).is_some() {
            return Err(HeadError::Malformed("more than one Content-Length"));
        }
        self.length_line = Some(line);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8], line: Range<usize>) {
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let alone = self.encoding == Encoding::None && is_chunked(value);
        self.encoding = match options(value).last() {
            _ if alone => Encoding::Chunked,
            Some(last) if is_chunked(last) => Encoding::LastChunked,
            _ => Encoding::Other,
        };
        self.chunked = alone.then_some(line);
    }
}

/// The options of a `Connection` header.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

fn lists(value: &[u8], wanted: &[u8]) -> bool {
    options(value).any(|option| option.eq_ignore_ascii_case(wanted))
}

/// What a host and port are made of, RFC 3986 3.2.2. RFC 9112 3.2 wants a 400 for anything else: two hosts in one value are
/// two requests to two parsers.
fn is_of_host(byte: u8) -> bool {
    const OF_HOST: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0_u8);
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"-._~%!$&'()*+,;=:[]";
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    OF_HOST[usize::from(byte)]
}

/// Whether a token is this one, which is in lower case. As [`<[u8]>::eq_ignore_ascii_case`], but without a loop: nothing that a token may be
/// made of becomes another of its bytes by that bit but letters.
fn is<const LENGTH: usize>(token: impl AsRef<[u8]>, wanted: &[u8; LENGTH]) -> bool {
    let Ok(token) = <&[u8; LENGTH]>::try_from(token.as_ref()) else { return false };
    token.iter().zip(wanted).fold(0, |differs, (byte, wanted)| differs | (byte | 0x20) ^ wanted) == 0
}

/// Where a header begins in its head.
fn start(head: &[u8], header: &Header<'_>) -> usize {
    position(head, header.name.as_bytes()).start
}

/// The line of a header, with its end.
fn line(head: &[u8], headers: &[Header<'_>], number: usize) -> Range<usize> {
    let end = headers.get(number + 1).map_or(head.len() - LINE_END.len(), |next| start(head, next));
    start(head, &headers[number])..end
}

const LINE_END: &[u8] = b"\r\n";

/// Refuses a line that ends in a line feed alone: the last one of these.
fn check_line(lines: &[u8]) -> Result<(), HeadError> {
    if lines.ends_with(LINE_END) {
        Ok(())
    } else {
        Err(HeadError::Malformed("line that ends in a bare line feed"))
    }
}
