//! Access logs: `%h %l %u %t "%r" %>s %b`, with referer and user agent or without, and nginx' error log.
//!
//! <https://httpd.apache.org/docs/2.4/logs.html>, <https://nginx.org/en/docs/http/ngx_http_log_module.html>

use crate::cursor::{Cursor, Span};
use crate::level::Level;
use crate::record::{Known, Record, Value};
use crate::time::Clock;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    // An address never has a slash there; nginx' error log begins with its date, as 2026/11/21.
    if line.get(4) == Some(&b'/') { error_log(line, clock, record) } else { access_log(line, record) }
}

fn access_log(line: &[u8], record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    record.text(Known::Client, at.until(b' ')?);
    at.until(b' ')?;
    // A user's name may hold blanks; nothing else before the bracket does.
    let user = at.until(b'[')?;
    user.of(line).strip_suffix(b" ")?;
    record.text_or_dash(Known::User, Span { start: user.start, end: user.end - 1 }, line);
    record.time = Some(at.access_time()?);
    at.eat(b"] ")?;
    let request = at.quoted()?;
    record.message = Some(Value::Escaped(request));
    request_line(line, request, record);
    at.eat(b" ")?;
    let status = at.digits().filter(|digits| digits.end - digits.start == 3)?;
    record.level = Some(Level::from_status(status.of(line)));
    record.number(Known::Status, status, line);
    at.eat(b" ")?;
    record.number(Known::Bytes, at.word()?, line);
    if at.eat(b" \"").is_some() {
        at.at -= 1;
        record.escaped(Known::Referer, at.quoted()?, line);
        at.eat(b" ")?;
        record.escaped(Known::Agent, at.quoted()?, line);
    }
    // What servers add at the end (a forwarded address, a duration) has no name here, and is kept.
    at.spaces();
    record.escaped(Known::Extra, at.to_end(), line);
    Some(())
}

/// `GET /path HTTP/1.1`; whatever else a client sent stays one field.
fn request_line(line: &[u8], request: Span, record: &mut Record) {
    let text = request.of(line);
    let (first, last) = (memchr::memchr(b' ', text), memchr::memrchr(b' ', text));
    if let (Some(first), Some(last)) = (first, last)
        && first < last
        && text[last + 1..].starts_with(b"HTTP/")
    {
        let part = |start: usize, end: usize| Span { start: request.start + start, end: request.start + end };
        record.text(Known::Method, part(0, first));
        record.escaped(Known::Path, part(first + 1, last), line);
        record.text(Known::Protocol, part(last + 1, text.len()));
    } else {
        record.escaped(Known::Request, request, line);
    }
}

/// `2026/11/21 12:00:00 [error] 31#31: *1 open() failed, client: ...`
fn error_log(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    record.time = Some(at.iso_time(clock)?);
    at.eat(b" [")?;
    record.level = Some(Level::parse(at.until(b']')?.of(line))?);
    at.eat(b" ")?;
    let process = at.digits()?;
    record.number(Known::Process, process, line);
    at.eat(b"#")?;
    at.digits()?;
    at.eat(b": ")?;
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}
