//! Which lines belong to one event: stack traces, as runtimes print them.

use outrigger_api::logs::{LogFormat, Multiline};
use regex::bytes::Regex;

/// Decides where an event begins.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Each line is an event.
    Single,
    /// A line that matches begins one.
    Start(Regex),
    /// As a runtime prints its stack traces.
    Traces(Runtime),
}

/// A runtime whose stack traces are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Indented frames, `Caused by:`, and the exception itself at the start of a line.
    Java,
    /// `Traceback`, indented frames, and the exception at the end.
    Python,
    /// `panic:`, then goroutines, each with calls and indented places.
    Go,
    /// Indented frames, and the rest of a printed object.
    Node,
}

/// What the lines so far make the next one mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing special.
    #[default]
    Plain,
    /// Inside a traceback or panic.
    Trace,
    /// A traceback's exception was there; another traceback may follow, after blank lines.
    Ended,
}

impl Rule {
    /// The rule of a source. A `start` that is no expression is refused.
    pub(crate) fn new(
        multiline: Multiline,
        format: LogFormat,
        start: Option<&str>,
    ) -> Result<Self, regex::Error> {
        if let Some(start) = start {
            return Regex::new(start).map(Self::Start);
        }
        Ok(match (multiline, format) {
            (Multiline::Java, _) | (Multiline::Auto, LogFormat::Log4j | LogFormat::Logback) => {
                Self::Traces(Runtime::Java)
            }
            (Multiline::Python, _) | (Multiline::Auto, LogFormat::Python) => Self::Traces(Runtime::Python),
            (Multiline::Go, _) => Self::Traces(Runtime::Go),
            (Multiline::Node, _) => Self::Traces(Runtime::Node),
            (Multiline::None | Multiline::Auto, _) => Self::Single,
        })
    }

    /// What the first line of an event leads to.
    pub(crate) fn begin(&self, line: &[u8]) -> State {
        match self {
            Self::Traces(Runtime::Python) if line.starts_with(b"Traceback ") => State::Trace,
            Self::Traces(Runtime::Go) if is_panic(line) => State::Trace,
            _ => State::Plain,
        }
    }

    /// Whether `line` goes on with the event; `state` is that after the line before.
    pub(crate) fn continues(&self, state: &mut State, line: &[u8]) -> bool {
        match self {
            Self::Single => false,
            Self::Start(start) => !start.is_match(line),
            Self::Traces(Runtime::Java) => {
                is_indented(line)
                    || starts_with_any(line, &[b"Caused by: ", b"Suppressed: "])
                    || is_exception(line)
            }
            Self::Traces(Runtime::Python) => continues_python(state, line),
            Self::Traces(Runtime::Go) => continues_go(state, line),
            Self::Traces(Runtime::Node) => {
                is_indented(line) || line == b"}" || line.starts_with(b"Node.js v")
            }
        }
    }
}

fn starts_with_any(line: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| line.starts_with(prefix))
}

fn is_indented(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// `java.lang.IllegalStateException: text`: a qualified class name alone, or before a colon. Loggers print it on the line
/// after their own.
fn is_exception(line: &[u8]) -> bool {
    let name = &line[..memchr::memchr2(b':', b' ', line).unwrap_or(line.len())];
    let after = line.get(name.len());
    let qualified = memchr::memchr(b'.', name).is_some_and(|dot| dot > 0);
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$'));
    qualified
        && plain
        && matches!(after, None | Some(b':'))
        && name.first().is_some_and(u8::is_ascii_alphabetic)
}

fn continues_python(state: &mut State, line: &[u8]) -> bool {
    let joins = [&b"During handling of the above exception"[..], b"The above exception was the direct cause"];
    match (*state, line) {
        (_, line) if line.starts_with(b"Traceback (most recent call last):") => *state = State::Trace,
        // The first line that is not indented is the exception itself.
        (State::Trace, line) if !is_indented(line) && !line.is_empty() => *state = State::Ended,
        (State::Trace, _) => {}
        (State::Ended, []) => {}
        (State::Ended, line) if starts_with_any(line, &joins) => {}
        (_, line) => return is_indented(line),
    }
    true
}

fn is_panic(line: &[u8]) -> bool {
    starts_with_any(line, &[b"panic: ", b"fatal error: ", b"goroutine "])
}

fn continues_go(state: &mut State, line: &[u8]) -> bool {
    if is_panic(line) {
        // A panic after a log line is an event of its own; one within a panic belongs to it.
        return *state == State::Trace;
    }
    let of_trace = line.is_empty()
        || is_indented(line)
        || line.ends_with(b")")
        || starts_with_any(line, &[b"created by ", b"[signal ", b"exit status ", b"...additional frames"]);
    *state == State::Trace && of_trace
}
