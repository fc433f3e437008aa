//! logfmt: `key=value key="quoted value" flag`. <https://brandur.org/logfmt>

use super::wellknown;
use crate::cursor::{Cursor, Span};
use crate::record::{Key, Record, Value};
use crate::time::Clock;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    let mut pairs = 0;
    at.spaces();
    while !at.rest().is_empty() {
        let name = name(&mut at)?;
        if at.eat(b"=").is_some() {
            pairs += 1;
            let (text, value) = value(&mut at)?;
            let role = wellknown::role(name.of(line));
            wellknown::put(record, line, clock, role, Key::Text(name), text, value);
        } else {
            record.fields.push((Key::Text(name), Value::True));
        }
        if !at.rest().is_empty() {
            at.eat(b" ")?;
        }
        at.spaces();
    }
    wellknown::finish(record, line);
    // A sentence is made of words too.
    (pairs > 0 && pairs * 2 > record.fields.iter().filter(|(_, value)| *value == Value::True).count())
        .then_some(())
}

fn name(at: &mut Cursor) -> Option<Span> {
    let start = at.at;
    let part = |byte: &u8| !matches!(byte, b' ' | b'=' | b'"' | b'\n') && !byte.is_ascii_control();
    at.at += at.rest().iter().take_while(|byte| part(byte)).count();
    (at.at > start).then_some(Span { start, end: at.at })
}

fn value(at: &mut Cursor) -> Option<(Span, Value)> {
    if at.peek() == Some(b'"') {
        let text = at.quoted()?;
        return Some((text, Value::Escaped(text)));
    }
    let start = at.at;
    let _ = at.word();
    let text = Span { start, end: at.at };
    Some((text, Value::Text(text)))
}
