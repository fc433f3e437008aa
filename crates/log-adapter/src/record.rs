//! One event, as a format has understood it.

use std::rc::Rc;

use crate::cursor::Span;
use crate::level::Level;
use crate::time::Timestamp;

/// What a format found in an event. Everything is a position in the event's bytes, so that one record, with its buffers, serves
/// all events.
#[derive(Debug, Default)]
pub struct Record {
    /// When it happened.
    pub time: Option<Timestamp>,
    /// How grave it is.
    pub level: Option<Level>,
    /// What it says.
    pub message: Option<Value>,
    /// The trace that it belongs to.
    pub trace: Option<Value>,
    /// The span in that trace.
    pub span: Option<Value>,
    /// All else, in the order of the line.
    pub fields: Vec<(Key, Value)>,
}

/// The name of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// One that each schema has its own name for.
    Known(Known),
    /// As the line has it, plain text.
    Text(Span),
    /// As the line has it, the inside of a JSON string.
    Json(Span),
    /// A group of the user's expression.
    Group(Rc<str>),
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Plain text.
    Text(Span),
    /// Text with backslashes, as between quotes in logfmt and access logs.
    Escaped(Span),
    /// Anything that is JSON as it stands: a number, or a value of a JSON line.
    Json(Span),
    /// The JSON literal `true`.
    True,
}

/// Fields that each schema has its own name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Who asked.
    Client,
    /// Who asked, by name.
    User,
    /// HTTP method.
    Method,
    /// Request target.
    Path,
    /// HTTP version, as `HTTP/1.1`.
    Protocol,
    /// A request line that is no HTTP.
    Request,
    /// HTTP status.
    Status,
    /// Length of the answer's body.
    Bytes,
    /// Where the user came from.
    Referer,
    /// The user's program.
    Agent,
    /// What the format has no name for.
    Extra,
    /// Class, package or module that logged.
    Logger,
    /// Thread that logged.
    Thread,
    /// Process that logged, by number.
    Process,
    /// File and line of the source that logged.
    Origin,
    /// Program that logged.
    App,
    /// Machine that logged.
    Host,
    /// RFC 5424's message id.
    MessageId,
    /// RFC 5424's structured data.
    Structured,
    /// `stdout` or `stderr`.
    Stream,
    /// Whether the runtime has split the line here.
    SplitByRuntime,
}

impl Known {
    /// Its name in the schemas flat, ecs and otel. ECS field reference:
    /// <https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html>; OpenTelemetry semantic conventions:
    /// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/>
    pub(crate) const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Client => ["client", "client.address", "client.address"],
            Self::User => ["user", "user.name", "user.name"],
            Self::Method => ["method", "http.request.method", "http.request.method"],
            Self::Path => ["path", "url.original", "url.original"],
            Self::Protocol => ["protocol", "network.protocol", "network.protocol"],
            Self::Request => ["request", "http.request.line", "http.request.line"],
            Self::Status => ["status", "http.response.status_code", "http.response.status_code"],
            Self::Bytes => ["bytes", "http.response.body.bytes", "http.response.body.size"],
            Self::Referer => ["referer", "http.request.referrer", "http.request.header.referer"],
            Self::Agent => ["agent", "user_agent.original", "user_agent.original"],
            Self::Extra => ["extra", "extra", "extra"],
            Self::Logger => ["logger", "log.logger", "logger.name"],
            Self::Thread => ["thread", "process.thread.name", "thread.name"],
            Self::Process => ["pid", "process.pid", "process.pid"],
            Self::Origin => ["source", "log.origin.file.name", "code.file.path"],
            Self::App => ["app", "process.name", "process.name"],
            Self::Host => ["host", "host.hostname", "host.name"],
            Self::MessageId => ["msgid", "log.syslog.msgid", "syslog.msgid"],
            Self::Structured => ["structured_data", "syslog.structured_data", "syslog.structured_data"],
            Self::Stream => ["stream", "stream", "log.iostream"],
            Self::SplitByRuntime => ["split", "split", "split"],
        }
    }
}

impl Key {
    /// Whether it is written as this; never for those that each schema names.
    pub(crate) fn is(&self, name: &[u8], line: &[u8]) -> bool {
        match self {
            Self::Known(_) => false,
            Self::Text(span) | Self::Json(span) => span.of(line) == name,
            Self::Group(group) => group.as_bytes() == name,
        }
    }
}

/// Fields that a record keeps room for: each file has one, and one long line must not cost memory for good.
pub(crate) const KEPT_FIELDS: usize = 64;

impl Record {
    /// Gives back what only the longest events need.
    pub(crate) fn shrink(&mut self) {
        if self.fields.capacity() > KEPT_FIELDS {
            self.fields.clear();
            self.fields.shrink_to(KEPT_FIELDS);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.fields.clear();
        *self = Self { fields: std::mem::take(&mut self.fields), ..Self::default() };
    }

    pub(crate) fn text(&mut self, key: Known, span: Span) {
        if !span.is_empty() {
            self.fields.push((Key::Known(key), Value::Text(span)));
        }
    }

    /// Text where a format writes `-` for none.
    pub(crate) fn text_or_dash(&mut self, key: Known, span: Span, line: &[u8]) {
        if span.of(line) != b"-" {
            self.text(key, span);
        }
    }

    pub(crate) fn escaped(&mut self, key: Known, span: Span, line: &[u8]) {
        if !span.is_empty() && span.of(line) != b"-" {
            self.fields.push((Key::Known(key), Value::Escaped(span)));
        }
    }

    /// A number, if it is one that JSON has too: no leading zeros.
    pub(crate) fn number(&mut self, key: Known, span: Span, line: &[u8]) {
        let text = span.of(line);
        let plain = text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first() != Some(&b'0'));
        if plain && !text.is_empty() {
            self.fields.push((Key::Known(key), Value::Json(span)));
        } else {
            self.text_or_dash(key, span, line);
        }
    }
}
