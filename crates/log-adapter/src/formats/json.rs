//! JSON lines. Each value is checked and passed on as it stands: no number is rounded, no field is reordered.

use super::wellknown;
use crate::cursor::{Cursor, Span};
use crate::escape::plain_length;
use crate::record::{Key, Record, Value};
use crate::time::Clock;

/// How deep values may nest. Deeper is not parsed, so that no line can exhaust the stack.
const DEPTH: u32 = 64;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    blanks(&mut at);
    at.eat(b"{")?;
    blanks(&mut at);
    // Values are passed on as they stand, so they must be UTF-8 as they stand.
    if at.eat(b"}").is_none() {
        std::str::from_utf8(line).ok()?;
        loop {
            field(&mut at, line, clock, record)?;
            if at.eat(b",").is_none() {
                break;
            }
            blanks(&mut at);
        }
        at.eat(b"}")?;
    }
    blanks(&mut at);
    wellknown::finish(record, line);
    at.rest().is_empty().then_some(())
}

fn field(at: &mut Cursor, line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let name = string(at)?;
    colon(at)?;
    let start = at.at;
    value(at, DEPTH)?;
    let whole = Span { start, end: at.at };
    let text = match line[start] {
        b'"' => Span { start: start + 1, end: at.at - 1 },
        _ => whole,
    };
    blanks(at);
    let role = wellknown::role(name.of(line));
    wellknown::put(record, line, clock, role, Key::Json(name), text, Value::Json(whole));
    Some(())
}

fn blanks(at: &mut Cursor) {
    while matches!(at.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at.at += 1;
    }
}

fn colon(at: &mut Cursor) -> Option<()> {
    blanks(at);
    at.eat(b":")?;
    blanks(at);
    Some(())
}

/// Any value, RFC 8259 section 3.
fn value(at: &mut Cursor, depth: u32) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match at.peek()? {
        b'"' => string(at).map(|_| ()),
        b'{' => list(at, b'}', |at| {
            string(at)?;
            colon(at)?;
            value(at, depth)
        }),
        b'[' => list(at, b']', |at| value(at, depth)),
        b't' => at.eat(b"true"),
        b'f' => at.eat(b"false"),
        b'n' => at.eat(b"null"),
        _ => number(at),
    }
}

/// What stands between an opening bracket and `close`, separated by commas.
fn list(at: &mut Cursor, close: u8, mut item: impl FnMut(&mut Cursor) -> Option<()>) -> Option<()> {
    at.at += 1;
    blanks(at);
    if at.eat(&[close]).is_some() {
        return Some(());
    }
    loop {
        item(at)?;
        blanks(at);
        if at.eat(&[close]).is_some() {
            return Some(());
        }
        at.eat(b",")?;
        blanks(at);
    }
}

/// A string; the span is what stands between the quotes.
fn string(at: &mut Cursor) -> Option<Span> {
    at.eat(b"\"")?;
    let start = at.at;
    loop {
        at.at += plain_length(at.rest());
        match at.peek()? {
            b'"' => {
                at.at += 1;
                return Some(Span { start, end: at.at - 1 });
            }
            b'\\' => escape(at)?,
            _ => return None,
        }
    }
}

fn escape(at: &mut Cursor) -> Option<()> {
    at.at += 2;
    match at.bytes.get(at.at - 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
        // Half of a surrogate pair is a string that strict readers refuse (section 8.2), and with it the whole line.
        b'u' => match code_unit(at)? {
            0xd800..=0xdbff => {
                at.eat(b"\\u")?;
                (0xdc00..=0xdfff).contains(&code_unit(at)?).then_some(())
            }
            0xdc00..=0xdfff => None,
            _ => Some(()),
        },
        _ => None,
    }
}

fn code_unit(at: &mut Cursor) -> Option<u32> {
    let digits = at.bytes.get(at.at..at.at + 4)?;
    at.at += 4;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// A number, RFC 8259 section 6.
fn number(at: &mut Cursor) -> Option<()> {
    let _ = at.eat(b"-");
    if at.eat(b"0").is_none() {
        at.digits()?;
    }
    if at.eat(b".").is_some() {
        at.digits()?;
    }
    if matches!(at.peek(), Some(b'e' | b'E')) {
        at.at += 1;
        if matches!(at.peek(), Some(b'+' | b'-')) {
            at.at += 1;
        }
        at.digits()?;
    }
    Some(())
}
