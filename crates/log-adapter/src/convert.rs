//! One file's events into lines.

use std::rc::Rc;

use crate::cursor::Span;
use crate::formats::{Parser, detect};
use crate::identity::Generation;
use crate::output::{Event, Marks, Writer};
use crate::record::{Record, Value};
use crate::time::{Clock, Timestamp};

/// Events that a decided format may fail to read, one after another, before `auto` decides anew. Twice as many each time that
/// it decides as before, so that lines of no format are not tried against each again and again.
const MISSES: u32 = 50;
const MOST_MISSES: u32 = 50 << 12;
/// A byte order mark, as UTF-8 has it.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Lines that `auto` decides from.
const SAMPLE: usize = 20;

/// Reads and writes the events of one file.
#[derive(Debug)]
pub struct Converter {
    parser: Choice,
    writer: Writer,
    record: Record,
}

/// Which format to read.
#[derive(Debug)]
pub enum Choice {
    /// The one that the profile says.
    Fixed(Rc<Parser>),
    /// The one that the lines look like; none before the first. `misses` counts those that it could not read since the last
    /// that it could.
    Auto {
        /// What was decided.
        decided: Option<Parser>,
        /// How often that was wrong in a row.
        misses: u32,
        /// How often it may be.
        allowed: u32,
        /// What was decided last.
        last: Option<&'static str>,
    },
}

/// An event, as it was cut out of its file.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its file.
    pub generation: Generation,
    /// Where it begins there.
    pub offset: u64,
    /// Longer than allowed, and cut.
    pub truncated: bool,
    /// Its line's start or end is missing.
    pub partial: bool,
}

impl Converter {
    /// For a file whose lines are written by `writer`. Without a parser the format is decided from its lines.
    pub fn new(parser: Option<Rc<Parser>>, writer: Writer) -> Self {
        let auto = Choice::Auto { decided: None, misses: 0, allowed: MISSES, last: None };
        let parser = parser.map_or(auto, Choice::Fixed);
        Self { parser, writer, record: Record::default() }
    }

    /// Whether a format must be decided before the next event can be read.
    pub fn is_undecided(&self) -> bool {
        matches!(self.parser, Choice::Auto { decided: None, .. })
    }

    /// Decides the format from the lines at the start of `bytes`. Returns its name, if it is another than before.
    pub fn decide(&mut self, bytes: &[u8], clock: Clock) -> Option<&'static str> {
        let lines: Vec<_> = bytes
            .strip_prefix(BOM)
            .unwrap_or(bytes)
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty())
            .take(SAMPLE)
            .collect();
        let found = detect(&lines, clock).unwrap_or(Parser::Text);
        let name = found.name();
        let Choice::Auto { decided, misses, allowed, last } = &mut self.parser else { return None };
        let news = *last != Some(name);
        *allowed = if news { MISSES } else { (*allowed * 2).min(MOST_MISSES) };
        (*decided, *misses, *last) = (Some(found), 0, Some(name));
        news.then_some(name)
    }

    /// Writes one event. Returns what there was to say about it.
    pub fn convert(&mut self, out: &mut Vec<u8>, raw: Raw, clock: Clock, observed: Timestamp) -> Marks {
        self.record.clear();
        // Some editors and Windows' shells begin a file with it.
        let bytes = raw.bytes.strip_prefix(BOM).filter(|_| raw.offset == 0).unwrap_or(raw.bytes);
        let parser = match &self.parser {
            Choice::Fixed(parser) => Some(&**parser),
            Choice::Auto { decided, .. } => decided.as_ref(),
        };
        let text = matches!(parser, Some(Parser::Text) | None);
        // What was cut is no line of the format any more.
        let parsed = !text && !raw.partial && parser.is_some_and(|p| p.parse(bytes, clock, &mut self.record));
        if !parsed {
            self.record.clear();
            self.record.message = Some(Value::Text(Span { start: 0, end: bytes.len() }));
        }
        self.count(parsed);
        let marks = Marks {
            parse_error: !parsed && !text,
            truncated: raw.truncated,
            partial: raw.partial,
            invalid_utf8: std::str::from_utf8(bytes).is_err(),
        };
        let Raw { generation, offset, .. } = raw;
        let event = Event { bytes, record: &self.record, marks, generation, offset, observed };
        self.writer.write(out, &event);
        self.record.shrink();
        marks
    }

    fn count(&mut self, parsed: bool) {
        if let Choice::Auto { decided, misses, allowed, .. } = &mut self.parser {
            *misses = if parsed { 0 } else { *misses + 1 };
            if *misses >= *allowed {
                *decided = None;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::output::Origin;
    use crate::record::KEPT_FIELDS;
    use outrigger_api::logs::LogSchema;

    /// A hundred files that had each one line of 10,900 fields held 60 MiB.
    #[test]
    fn one_line_of_many_fields_holds_no_memory_after_it() {
        let writer = Writer::new(LogSchema::Flat, &Origin::default());
        let mut converter = Converter::new(Some(Rc::new(Parser::Json)), writer);
        let line = format!("{{{}\"z\":\"\"}}", "\"a\":1,".repeat(10_900));
        let raw = Raw {
            bytes: line.as_bytes(),
            generation: Generation(1),
            offset: 0,
            truncated: false,
            partial: false,
        };
        let mut out = Vec::new();
        assert!(!converter.convert(&mut out, raw, Clock::default(), Timestamp::default()).parse_error);
        assert!(converter.record.fields.capacity() <= KEPT_FIELDS);
    }
}
