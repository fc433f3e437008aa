//! Records into JSON lines.

use std::borrow::Cow;

use outrigger_api::logs::LogSchema;

use crate::cursor::Span;
use crate::escape::{plain_length, unescape, write_text};
use crate::identity::Generation;
use crate::level::Level;
use crate::record::{Key, Record, Value};
use crate::time::Timestamp;

/// The longest line that is written. Container runtimes cut at 16 KiB, which would leave two pieces that are no JSON:
/// <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>
pub const MAX_LINE: usize = 16 * 1024;
/// What a file's path may take of such a line, with its escapes: a name of control characters has six times its length.
const MAX_SHOWN_PATH: usize = 8 * 1024;
/// What the text of one part has at least, however long the names of pod and container are.
const LEAST_PART: usize = 1024;
/// What a writer keeps of its buffer from one event to the next: each file has one.
const KEPT_SCRATCH: usize = 16 * 1024;

/// What is to be said about an event beside what it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the output, and none excludes another")]
pub struct Marks {
    /// Not of the file's format.
    pub parse_error: bool,
    /// Longer than allowed, and cut.
    pub truncated: bool,
    /// Its line's start or end is missing.
    pub partial: bool,
    /// Not UTF-8.
    pub invalid_utf8: bool,
}

/// Where events come from: written on every line of a file.
#[derive(Clone, Debug, Default)]
pub struct Origin<'a> {
    /// Pod name, empty where it is not known.
    pub pod: &'a str,
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Container that wrote the file.
    pub container: &'a str,
    /// The file, as that container sees it.
    pub path: &'a str,
}

/// One event, with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What the format has found in it.
    pub record: &'a Record,
    /// What else is to be said.
    pub marks: Marks,
    /// Its file.
    pub generation: Generation,
    /// Where it begins there. With the file: the same when it is emitted again, and of no other event.
    pub offset: u64,
    /// When it was read.
    pub observed: Timestamp,
}

/// Names of what every schema has.
struct Names {
    time: &'static str,
    level: &'static str,
    message: &'static str,
    trace: &'static str,
    span: &'static str,
    container: &'static str,
    pod: &'static str,
    namespace: &'static str,
}

const FLAT: Names = Names {
    time: "time",
    level: "level",
    message: "message",
    trace: "trace_id",
    span: "span_id",
    container: "container",
    pod: "pod",
    namespace: "namespace",
};
const ECS: Names = Names {
    time: "@timestamp",
    level: "log.level",
    message: "message",
    trace: "trace.id",
    span: "span.id",
    container: "container.name",
    pod: "kubernetes.pod.name",
    namespace: "kubernetes.namespace",
};
const OTEL: Names = Names {
    time: "Timestamp",
    level: "SeverityText",
    message: "Body",
    trace: "TraceId",
    span: "SpanId",
    container: "k8s.container.name",
    pod: "k8s.pod.name",
    namespace: "k8s.namespace.name",
};

/// Names that are ours in every schema but `otel`, where fields have an object of their own.
const OURS: [&str; 9] = [
    "log.file.path",
    "log.file.id",
    "log.offset",
    "parse_error",
    "truncated",
    "partial",
    "invalid_utf8",
    "part",
    "last_part",
];

/// Writes the events of one file.
#[derive(Debug)]
pub struct Writer {
    schema: LogSchema,
    /// Written at the end of every line: pod, container, file.
    origin: Vec<u8>,
    /// For text whose escapes are undone before others are put in.
    scratch: Vec<u8>,
}

impl Writer {
    /// A writer for one file.
    pub fn new(schema: LogSchema, origin: &Origin) -> Self {
        let names = names(schema);
        let mut text = Vec::new();
        let mut path = Vec::new();
        push_path(&mut path, origin.path);
        for (name, value) in [
            (names.namespace, origin.namespace),
            (names.pod, origin.pod),
            (names.container, origin.container),
        ] {
            if !value.is_empty() {
                text.push(b',');
                push_string(&mut text, name);
                text.push(b':');
                push_string(&mut text, value);
            }
        }
        let text = if schema == LogSchema::Otel {
            let resource = text.strip_prefix(b",").unwrap_or_default();
            [&path, &b"},\"Resource\":{"[..], resource, b"}"].concat()
        } else {
            [text, path].concat()
        };
        Self { schema, origin: text, scratch: Vec::new() }
    }

    /// Writes one line; several, where one would be longer than [`MAX_LINE`].
    pub fn write(&mut self, out: &mut Vec<u8>, event: &Event) {
        let start = out.len();
        self.head(out, event);
        if let Some(message) = event.record.message {
            push_key(out, names(self.schema).message);
            self.value(out, event, message);
        }
        self.open_fields(out);
        for (key, value) in &event.record.fields {
            self.key(out, event, key);
            self.value(out, event, *value);
        }
        self.tail(out, event);
        if out.len() - start > MAX_LINE {
            out.truncate(start);
            self.write_parts(out, event);
        }
        if self.scratch.capacity() > KEPT_SCRATCH {
            self.scratch.clear();
            self.scratch.shrink_to(KEPT_SCRATCH);
        }
    }

    /// The event's own text, in parts that follow each other; its fields stand in the text.
    fn write_parts(&mut self, out: &mut Vec<u8>, event: &Event) {
        let mut escaped = std::mem::take(&mut self.scratch);
        escaped.clear();
        write_text(&mut escaped, event.bytes, !event.marks.invalid_utf8);
        // The longest that stands around a text.
        let start = out.len();
        self.write_part(out, event, b"", u32::MAX, true);
        let room = MAX_LINE.saturating_sub(out.len() - start).max(LEAST_PART);
        out.truncate(start);
        let mut rest = &escaped[..];
        let mut part = 1;
        while !rest.is_empty() {
            let (text, after) = rest.split_at(whole_escapes(rest, room));
            self.write_part(out, event, text, part, after.is_empty());
            rest = after;
            part += 1;
        }
        self.scratch = escaped;
    }

    fn write_part(&mut self, out: &mut Vec<u8>, event: &Event, text: &[u8], part: u32, last: bool) {
        self.head(out, event);
        push_key(out, names(self.schema).message);
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
        self.open_fields(out);
        push_key(out, "part");
        push_number(out, part.into());
        if last {
            out.extend_from_slice(b",\"last_part\":true");
        }
        self.tail(out, event);
    }

    /// Time, level and trace.
    fn head(&mut self, out: &mut Vec<u8>, event: &Event) {
        let Event { record, observed, .. } = *event;
        let names = names(self.schema);
        out.extend_from_slice(b"{\"");
        if self.schema == LogSchema::Otel {
            if let Some(time) = record.time {
                out.extend_from_slice(b"Timestamp\":\"");
                push_nanos(out, time);
                out.extend_from_slice(b"\",\"");
            }
            out.extend_from_slice(b"ObservedTimestamp\":\"");
            push_nanos(out, observed);
        } else {
            out.extend_from_slice(names.time.as_bytes());
            out.extend_from_slice(b"\":\"");
            record.time.unwrap_or(observed).write(out);
        }
        out.push(b'"');
        if let Some(level) = record.level {
            self.level(out, level);
        }
        for (name, value) in [(names.trace, record.trace), (names.span, record.span)] {
            if let Some(value) = value {
                push_key(out, name);
                self.value(out, event, value);
            }
        }
    }

    fn level(&self, out: &mut Vec<u8>, level: Level) {
        let (name, number) = level.words();
        push_key(out, names(self.schema).level);
        out.push(b'"');
        if self.schema == LogSchema::Otel {
            out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase()));
            out.extend_from_slice(b"\",\"SeverityNumber\":");
            push_number(out, number.into());
        } else {
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        }
    }

    fn open_fields(&self, out: &mut Vec<u8>) {
        if self.schema == LogSchema::Otel {
            out.extend_from_slice(b",\"Attributes\":{");
        }
    }

    /// Marks, offset, origin, the end of the line.
    fn tail(&self, out: &mut Vec<u8>, event: &Event) {
        let Marks { parse_error, truncated, partial, invalid_utf8 } = event.marks;
        for (name, holds) in [
            ("parse_error", parse_error),
            ("truncated", truncated),
            ("partial", partial),
            ("invalid_utf8", invalid_utf8),
        ] {
            if holds {
                push_key(out, name);
                out.extend_from_slice(b"true");
            }
        }
        push_key(out, "log.offset");
        push_number(out, event.offset);
        out.extend_from_slice(b",\"log.file.id\":\"");
        push_hex(out, event.generation.0);
        out.push(b'"');
        out.extend_from_slice(&self.origin);
        out.extend_from_slice(b"}\n");
    }

    fn key(&self, out: &mut Vec<u8>, event: &Event, key: &Key) {
        if let Key::Known(known) = key {
            return push_key(out, known.names()[self.schema as usize]);
        }
        push_comma(out);
        match key {
            Key::Known(_) => {}
            Key::Json(span) => {
                let name = span.of(event.bytes);
                self.own_key(out, &without_escapes(name), |out| out.extend_from_slice(name));
            }
            Key::Text(span) => {
                let (name, utf8) = (span.of(event.bytes), !event.marks.invalid_utf8);
                self.own_key(out, name, |out| write_text(out, name, utf8));
            }
            Key::Group(name) => {
                self.own_key(out, name.as_bytes(), |out| out.extend_from_slice(name.as_bytes()));
            }
        }
        out.push(b':');
    }

    /// A name from the line; with one more `_` before it where it is one of ours, or one with `_` before it: so no two names
    /// become the same one.
    fn own_key(&self, out: &mut Vec<u8>, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        out.push(b'"');
        if self.is_taken(name) {
            out.push(b'_');
        }
        write(out);
        out.push(b'"');
    }

    fn is_taken(&self, name: &[u8]) -> bool {
        let underscores = name.iter().take_while(|byte| **byte == b'_').count();
        let name = &name[underscores..];
        if self.schema == LogSchema::Otel {
            return OURS.iter().any(|ours| ours.as_bytes() == name);
        }
        let Names { time, level, message, trace, span, container, pod, namespace } = names(self.schema);
        let names = [*time, level, message, trace, span, container, pod, namespace];
        OURS.iter().chain(&names).any(|ours| ours.as_bytes() == name)
    }

    fn value(&mut self, out: &mut Vec<u8>, event: &Event, value: Value) {
        let utf8 = !event.marks.invalid_utf8;
        match value {
            Value::Json(span) => push_json(out, span.of(event.bytes)),
            Value::True => out.extend_from_slice(b"true"),
            Value::Text(span) => {
                out.push(b'"');
                write_text(out, span.of(event.bytes), utf8);
                out.push(b'"');
            }
            Value::Escaped(span) => {
                out.push(b'"');
                self.escaped(out, span, event.bytes, utf8);
                out.push(b'"');
            }
        }
    }

    fn escaped(&mut self, out: &mut Vec<u8>, span: Span, bytes: &[u8], utf8: bool) {
        let text = span.of(bytes);
        if utf8 && plain_length(text) == text.len() {
            return out.extend_from_slice(text);
        }
        self.scratch.clear();
        unescape(&mut self.scratch, text);
        // Even of valid text: `\xff` makes a byte that is none.
        write_text(out, &self.scratch, false);
    }
}

fn names(schema: LogSchema) -> &'static Names {
    match schema {
        LogSchema::Flat => &FLAT,
        LogSchema::Ecs => &ECS,
        LogSchema::Otel => &OTEL,
    }
}

/// A name as a reader of the JSON will see it.
fn without_escapes(name: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', name).is_none() {
        return Cow::Borrowed(name);
    }
    let mut plain = Vec::new();
    unescape(&mut plain, name);
    Cow::Owned(plain)
}

/// How much of an escaped text fits into `most` bytes without cutting an escape or a character in two.
fn whole_escapes(text: &[u8], most: usize) -> usize {
    let mut at = 0;
    while at < text.len() {
        let length = match text[at] {
            b'\\' if text.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            _ => 1,
        };
        if at + length > most {
            break;
        }
        at += length;
    }
    at
}

fn push_comma(out: &mut Vec<u8>) {
    // OpenTelemetry's attributes begin with an empty object.
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// A value as it stands, on one line: of an event of several, a newline outside of strings is a blank like any other.
fn push_json(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(value);
    for at in memchr::memchr_iter(b'\n', value) {
        out[start + at] = b' ';
    }
}

/// A name of ours, which has nothing to be escaped, and what stands between it and the fields beside it.
fn push_key(out: &mut Vec<u8>, name: &'static str) {
    push_comma(out);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_text(out, text.as_bytes(), true);
    out.push(b'"');
}

fn push_path(out: &mut Vec<u8>, path: &str) {
    if path.is_empty() {
        return;
    }
    let mut text = Vec::new();
    write_text(&mut text, path.as_bytes(), true);
    let whole = whole_escapes(&text, MAX_SHOWN_PATH);
    if whole < text.len() {
        text.truncate(whole);
        text.extend_from_slice("…".as_bytes());
    }
    for piece in [b",\"log.file.path\":\"", &text[..], b"\""] {
        out.extend_from_slice(piece);
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// In a string, because readers round numbers of 64 bits.
fn push_hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = number.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    out.extend(nibbles.map(|nibble| DIGITS[usize::from(nibble)]));
}

/// Nanoseconds since the epoch, as OpenTelemetry's JSON has 64-bit numbers: in a string.
fn push_nanos(out: &mut Vec<u8>, time: Timestamp) {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    out.extend_from_slice(nanos.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each file kept a buffer as long as its longest event.
    #[test]
    fn one_long_event_holds_no_memory_after_it() {
        let mut writer = Writer::new(LogSchema::Flat, &Origin::default());
        let bytes = vec![b'\\'; 128 * 1024];
        let whole = Span { start: 0, end: bytes.len() };
        for message in [Value::Text(whole), Value::Escaped(whole)] {
            let record = Record { message: Some(message), ..Record::default() };
            let (generation, observed) = (Generation(1), Timestamp::default());
            let event = Event {
                bytes: &bytes,
                record: &record,
                marks: Marks::default(),
                generation,
                offset: 0,
                observed,
            };
            let mut out = Vec::new();
            writer.write(&mut out, &event);
            assert!(out.len() > bytes.len() && writer.scratch.capacity() <= KEPT_SCRATCH);
        }
    }
}
