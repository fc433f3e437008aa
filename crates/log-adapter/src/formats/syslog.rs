//! Syslog: RFC 5424, RFC 3164, and the file format of rsyslog and syslog-ng, which is RFC 3164 without the priority.

use crate::cursor::{Cursor, Span};
use crate::level::Level;
use crate::record::{Known, Record, Value};
use crate::time::Clock;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    let mut with_priority = false;
    if at.eat(b"<").is_some() {
        priority(&mut at, line, record)?;
        with_priority = true;
    }
    if with_priority && at.eat(b"1 ").is_some() {
        return rfc5424(at, line, clock, record);
    }
    let digit = at.peek()?.is_ascii_digit();
    record.time = Some(if digit { at.iso_time(clock)? } else { at.bsd_time(clock)? });
    at.eat(b" ")?;
    record.text(Known::Host, at.until(b' ')?);
    tag(&mut at, line, record)?;
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}

/// RFC 5424 section 6.2.1: facility times eight, and severity.
fn priority(at: &mut Cursor, line: &[u8], record: &mut Record) -> Option<()> {
    let digits = at.digits().filter(|digits| digits.end - digits.start <= 3)?;
    let value: u32 = std::str::from_utf8(digits.of(line)).ok()?.parse().ok()?;
    at.eat(b">")?;
    record.level = (value <= 191).then(|| Level::from_syslog(value % 8));
    record.level.map(|_| ())
}

/// `app[pid]: ` or `app: `.
fn tag(at: &mut Cursor, line: &[u8], record: &mut Record) -> Option<()> {
    let end = at.rest().iter().position(|byte| matches!(byte, b'[' | b':' | b' '))?;
    let app = Span { start: at.at, end: at.at + end };
    at.at = app.end;
    record.text(Known::App, app);
    if at.eat(b"[").is_some() {
        record.number(Known::Process, at.until(b']')?, line);
    }
    at.eat(b":")?;
    let _ = at.eat(b" ");
    Some(())
}

/// Section 6: `TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG]`, `-` for none.
fn rfc5424(mut at: Cursor, line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    if at.eat(b"- ").is_none() {
        record.time = Some(at.iso_time(clock)?);
        at.eat(b" ")?;
    }
    record.text_or_dash(Known::Host, at.until(b' ')?, line);
    record.text_or_dash(Known::App, at.until(b' ')?, line);
    record.number(Known::Process, at.until(b' ')?, line);
    record.text_or_dash(Known::MessageId, at.until(b' ')?, line);
    let start = at.at;
    if at.eat(b"-").is_none() {
        structured_data(&mut at)?;
        record.text(Known::Structured, Span { start, end: at.at });
    }
    let _ = at.eat(b" ");
    let _ = at.eat("\u{feff}".as_bytes());
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}

/// `[id name="value" ...]` once or more; it is kept as it stands.
fn structured_data(at: &mut Cursor) -> Option<()> {
    loop {
        at.eat(b"[")?;
        loop {
            at.at += at.rest().iter().position(|byte| matches!(byte, b'"' | b']'))?;
            if at.eat(b"]").is_some() {
                break;
            }
            at.quoted()?;
        }
        if at.peek() != Some(b'[') {
            return Some(());
        }
    }
}
