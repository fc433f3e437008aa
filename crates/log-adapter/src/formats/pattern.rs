//! The user's own expression: each named group is a field.

use std::cell::RefCell;
use std::rc::Rc;

use regex::bytes::{CaptureLocations, Regex};

use super::wellknown;
use crate::cursor::Span;
use crate::record::{Key, Record, Value};
use crate::time::Clock;

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
            let (role, span) = (wellknown::role(name.as_bytes()), Span { start, end });
            wellknown::put(record, event, clock, role, Key::Group(Rc::clone(name)), span, Value::Text(span));
        }
        wellknown::finish(record, event);
        true
    }
}
