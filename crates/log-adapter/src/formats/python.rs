//! Python's `logging`: `LEVEL:logger:text` of `basicConfig`, `time - logger - LEVEL - text` of the manual, `time LEVEL text`, and
//! what gunicorn and celery make of it: `[time] [pid] [LEVEL] text`, `[time: LEVEL/process] text`.
//!
//! <https://docs.python.org/3/howto/logging.html>

use crate::cursor::{Cursor, Span};
use crate::level::Level;
use crate::record::{Known, Record, Value};
use crate::time::Clock;

pub(super) fn parse(event: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(event);
    match at.peek()? {
        b'0'..=b'9' => {
            record.time = Some(at.iso_time(clock)?);
            if at.eat(b" - ").is_some() {
                dashed(&mut at, event, record)?;
            } else {
                spaced(&mut at, event, record)?;
            }
        }
        b'[' => bracketed(&mut at, event, clock, record)?,
        _ => coloned(&mut at, event, record)?,
    }
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}

fn level(span: Span, event: &[u8], record: &mut Record) -> Option<()> {
    // Python's names are upper case, and so no word of a sentence is taken for one.
    let name = span.of(event);
    record.level = name.iter().all(u8::is_ascii_uppercase).then(|| Level::parse(name)).flatten();
    record.level.map(|_| ())
}

/// `logger - LEVEL - text`, or `LEVEL - text`.
fn dashed(at: &mut Cursor, event: &[u8], record: &mut Record) -> Option<()> {
    for _ in 0..2 {
        let length = memchr::memmem::find(at.rest(), b" - ")?;
        let part = Span { start: at.at, end: at.at + length };
        at.at = part.end + 3;
        if level(part, event, record).is_some() {
            return Some(());
        }
        record.text(Known::Logger, part);
    }
    None
}

/// ` LEVEL text`, ` LEVEL logger: text` or ` [LEVEL] text`.
fn spaced(at: &mut Cursor, event: &[u8], record: &mut Record) -> Option<()> {
    at.spaces();
    if at.eat(b"[").is_some() {
        level(at.until(b']')?, event, record)?;
    } else {
        let word = at.word()?;
        let colon = usize::from(word.of(event).last() == Some(&b':'));
        level(Span { end: word.end - colon, ..word }, event, record)?;
    }
    at.spaces();
    let mut ahead = *at;
    if let Some(name) = ahead.word()
        && let Some(logger) = name.of(event).strip_suffix(b":")
        && is_logger(logger)
        && (logger == b"root" || logger.iter().any(|byte| matches!(byte, b'.' | b'_')))
    {
        // A single plain word before a colon is as likely the text's own: `INFO started: in 3 s`.
        record.text(Known::Logger, Span { start: name.start, end: name.end - 1 });
        ahead.spaces();
        *at = ahead;
    }
    Some(())
}

/// `LEVEL:logger:text`.
fn coloned(at: &mut Cursor, event: &[u8], record: &mut Record) -> Option<()> {
    level(at.until(b':')?, event, record)?;
    let mut ahead = *at;
    if let Some(logger) = ahead.until(b':').filter(|logger| is_logger(logger.of(event))) {
        record.text(Known::Logger, logger);
        *at = ahead;
    } else {
        at.spaces();
    }
    Some(())
}

/// `[time] [pid] [LEVEL] text` or `[time: LEVEL/process] text`.
fn bracketed(at: &mut Cursor, event: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    at.eat(b"[")?;
    record.time = Some(at.iso_time(clock)?);
    if at.eat(b": ").is_some() {
        level(at.until(b'/')?, event, record)?;
        record.text(Known::Thread, at.until(b']')?);
    } else {
        at.eat(b"] [")?;
        record.number(Known::Process, at.until(b']')?, event);
        at.eat(b" [")?;
        level(at.until(b']')?, event, record)?;
    }
    at.spaces();
    Some(())
}

fn is_logger(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
