//! The user's own expression: each named group is a field.

use std::cell::RefCell;
use std::rc::Rc;

use regex::bytes::{CaptureLocations, Regex};

use super::wellknown::{self, Role};
use crate::cursor::Span;
use crate::level::Level;
use crate::record::{Key, Record, Value};
use crate::time::{self, Clock};

/// An expression, ready to match.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    groups: Vec<(usize, Rc<str>)>,
    /// Written by each match, so that none allocates.
    locations: RefCell<CaptureLocations>,
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        let regex = Regex::new(pattern)?;
        let names = regex.capture_names().enumerate();
        let groups = names.filter_map(|(index, name)| Some((index, Rc::from(name?)))).collect();
        let locations = RefCell::new(regex.capture_locations());
        Ok(Self { regex, groups, locations })
    }

    pub(super) fn parse(&self, event: &[u8], clock: Clock, record: &mut Record) -> bool {
        let mut locations = self.locations.borrow_mut();
        if self.regex.captures_read(&mut locations, event).is_none() {
            return false;
        }
        for (index, name) in &self.groups {
            // A group that took no part in the match is absent, not empty.
            let Some((start, end)) = locations.get(*index) else { continue };
            put(record, event, clock, name, Span { start, end });
        }
        true
    }
}

fn put(record: &mut Record, event: &[u8], clock: Clock, name: &Rc<str>, span: Span) {
    let text = span.of(event);
    let taken = match wellknown::role(name.as_bytes()) {
        Role::Time if record.time.is_none() => {
            record.time = time::parse_any(text, clock);
            record.time.is_some()
        }
        Role::Level if record.level.is_none() => {
            record.level = Level::parse(text).or_else(|| Level::from_number(text));
            record.level.is_some()
        }
        Role::Message if record.message.is_none() => {
            record.message = Some(Value::Text(span));
            true
        }
        _ => false,
    };
    if !taken {
        record.fields.push((Key::Group(Rc::clone(name)), Value::Text(span)));
    }
}
