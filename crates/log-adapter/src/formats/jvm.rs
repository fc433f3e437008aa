//! Log4j and Logback as they come: `time [thread] LEVEL logger - text`, and Spring Boot's
//! `time LEVEL pid --- [thread] logger : text`. Thread and level in either order.

use crate::cursor::{Cursor, Span};
use crate::level::Level;
use crate::record::{Known, Record, Value};
use crate::time::Clock;

/// How far after the level the text may begin: a logger's name is abbreviated, or some packages long.
const LOGGER_BOUND: usize = 200;

pub(super) fn parse(event: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(event);
    record.time = Some(time(&mut at, clock)?);
    loop {
        at.spaces();
        if at.eat(b"[").is_some() {
            let inner = at.until(b']')?;
            match Level::parse(inner.of(event).trim_ascii()) {
                Some(level) if record.level.is_none() => record.level = Some(level),
                _ if !record.fields.is_empty() => {
                    // A second name in brackets is the text's own.
                    at.at = inner.start - 1;
                    break;
                }
                _ => record.text(Known::Thread, inner),
            }
        } else if record.level.is_none() {
            record.level = Some(Level::parse(at.word()?.of(event))?);
        } else {
            break;
        }
    }
    if spring(&mut at, event, record).is_none() {
        logger(&mut at, record, b" - ");
    }
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}

fn time(at: &mut Cursor, clock: Clock) -> Option<crate::time::Timestamp> {
    let mut whole = *at;
    if let Some(time) = whole.iso_time(clock) {
        *at = whole;
        return Some(time);
    }
    at.time_of_day(clock)
}

/// `1 --- [app] [thread] logger : text`.
fn spring(at: &mut Cursor, event: &[u8], record: &mut Record) -> Option<()> {
    let mut ahead = *at;
    let process = ahead.digits()?;
    ahead.eat(b" --- ")?;
    record.number(Known::Process, process, event);
    let mut names = [None; 2];
    while ahead.eat(b"[").is_some() {
        let name = ahead.until(b']')?;
        let blanks = name.of(event).len() - name.of(event).trim_ascii_start().len();
        names = [names[1], Some(Span { start: name.start + blanks, end: name.end })];
        ahead.spaces();
    }
    // Of two, the first is the app's.
    for (key, name) in [Known::App, Known::Thread].into_iter().zip(names) {
        record.text(key, name.unwrap_or_default());
    }
    *at = ahead;
    logger(at, record, b" : ");
    Some(())
}

/// The logger's name is the last word before the separator; without one, all is text.
fn logger(at: &mut Cursor, record: &mut Record, separator: &[u8]) {
    let rest = at.rest();
    let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
    let near = &line[..line.len().min(LOGGER_BOUND)];
    let Some(end) = memchr::memmem::find(near, separator) else { return };
    let names = near[..end].trim_ascii_end();
    let start = memchr::memrchr(b' ', names).map_or(0, |blank| blank + 1);
    record.text(Known::Logger, Span { start: at.at + start, end: at.at + names.len() });
    if start > 0 {
        let before = names[..start].trim_ascii_end();
        record.text(Known::Extra, Span { start: at.at, end: at.at + before.len() });
    }
    at.at += end + separator.len();
}
