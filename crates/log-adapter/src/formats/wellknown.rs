//! Names that structured loggers give to the same things.

use crate::cursor::Span;
use crate::escape::unescape;
use crate::level::Level;
use crate::record::{Key, Record, Value};
use crate::time::{self, Clock};

/// What a field is about, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Level,
    Message,
    Trace,
    Span,
    Other,
}

pub(super) fn role(name: &[u8]) -> Role {
    match name {
        b"time" | b"timestamp" | b"@timestamp" | b"ts" | b"t" | b"datetime" | b"Timestamp" => Role::Time,
        b"level" | b"severity" | b"lvl" | b"log.level" | b"levelname" | b"loglevel" | b"Level" => Role::Level,
        b"message" | b"msg" | b"Message" | b"@message" => Role::Message,
        b"trace_id" | b"trace.id" | b"traceId" | b"traceID" | b"TraceId" | b"trace" => Role::Trace,
        b"span_id" | b"span.id" | b"spanId" | b"spanID" | b"SpanId" => Role::Span,
        _ => Role::Other,
    }
}

/// Puts a field where it belongs. What can't be understood as a time or a level, or is there already, stays a field.
/// `text` is the value without its quotes.
pub(super) fn put(
    record: &mut Record,
    line: &[u8],
    clock: Clock,
    role: Role,
    key: Key,
    text: Span,
    value: Value,
) {
    let plain = text.of(line);
    let taken = match role {
        Role::Time if record.time.is_none() => {
            record.time = parse_time(plain, clock);
            record.time.is_some()
        }
        Role::Level if record.level.is_none() => {
            record.level = Level::parse(plain).or_else(|| Level::from_number(plain));
            record.level.is_some()
        }
        Role::Message if is_message(value, line) => set(&mut record.message, value),
        Role::Trace if is_id(plain) => set(&mut record.trace, value),
        Role::Span if is_id(plain) => set(&mut record.span, value),
        _ => false,
    };
    if !taken {
        record.fields.push((key, value));
    }
}

/// Takes a text called `log`, as Docker calls it, for the message of an event that has no other: only its end tells.
pub(super) fn finish(record: &mut Record, line: &[u8]) {
    if record.message.is_some() {
        return;
    }
    let is_log = |(key, value): &(Key, Value)| key.is(b"log", line) && is_message(*value, line);
    if let Some(at) = record.fields.iter().position(is_log) {
        record.message = Some(record.fields.remove(at).1);
    }
}

/// ECS has an object called `log`, and loggers write `null` for no message: those stay fields.
fn is_message(value: Value, line: &[u8]) -> bool {
    match value {
        Value::Json(span) => !matches!(span.of(line).first(), Some(b'{' | b'[' | b'n')),
        Value::Text(_) | Value::Escaped(_) => true,
        Value::True => false,
    }
}

fn set(place: &mut Option<Value>, value: Value) -> bool {
    let free = place.is_none();
    if free {
        *place = Some(value);
    }
    free
}

/// An id is a word; `trace` may also hold a stack trace.
fn is_id(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn parse_time(text: &[u8], clock: Clock) -> Option<time::Timestamp> {
    // JSON may write a slash as `\/`; nothing else in a time is ever escaped.
    if memchr::memchr(b'\\', text).is_none() {
        return time::parse_any(text, clock);
    }
    let mut plain = Vec::new();
    unescape(&mut plain, text);
    time::parse_any(&plain, clock)
}
