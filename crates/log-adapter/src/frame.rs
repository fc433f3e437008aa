//! Bytes of a file into events.
//!
//! Pure: it is given what was read and says where the next event lies. What it does not take is read again with what follows,
//! so nothing is kept between two reads but the [`Carry`].

use std::ops::Range;

use crate::multiline::Rule;

/// Lines of one event. A runaway start pattern must not swallow a whole file.
const MAX_LINES: usize = 1000;

/// Where in a line the next byte of the file stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carry {
    /// At its start.
    #[default]
    Start,
    /// In one that was cut: what is left of it is passed over.
    Cut,
    /// In one whose first part was emitted because nothing more had come.
    Middle,
}

/// How much is taken that may not be all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flush {
    /// Only events that are known to be whole.
    #[default]
    No,
    /// Also an event that further lines could belong to.
    Lines,
    /// Also a line that has no end yet.
    All,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An event.
    Event(Event),
    /// Nothing to emit up to there: a blank line, the rest of a line that was cut, a hole.
    Skip(usize),
    /// More must be read first.
    Wait,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its bytes, without the last line's end.
    pub(crate) text: Range<usize>,
    /// Where the next one begins.
    pub(crate) next: usize,
    /// Whether it was longer than allowed.
    pub(crate) truncated: bool,
    /// Whether its line's start or end is missing.
    pub(crate) partial: bool,
}

/// How a source's files are cut into events.
#[derive(Debug)]
pub(crate) struct Framer {
    /// Longest event, in bytes.
    pub(crate) limit: usize,
    /// Which lines belong together.
    pub(crate) rule: Rule,
}

impl Framer {
    /// The next step from `at` in `bytes`.
    pub(crate) fn step(&self, bytes: &[u8], at: usize, flush: Flush, carry: &mut Carry) -> Step {
        let rest = &bytes[at..];
        if rest.is_empty() {
            return Step::Wait;
        }
        if *carry == Carry::Cut {
            let Some(end) = memchr::memchr(b'\n', rest) else { return Step::Skip(bytes.len()) };
            *carry = Carry::Start;
            return Step::Skip(at + end + 1);
        }
        // A writer that goes on at its old position after copytruncate leaves a hole that reads as zeros. Zeros with nothing
        // after them stay: a file may have been made longer before it is written.
        if rest[0] == 0 {
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            return if zeros == rest.len() { Step::Wait } else { Step::Skip(at + zeros) };
        }
        match memchr::memchr(b'\n', rest) {
            Some(end) => self.line(bytes, at, at + end, flush, carry),
            None if rest.len() > self.limit => {
                *carry = Carry::Cut;
                self.cut(bytes, at, bytes.len())
            }
            None if flush == Flush::All => {
                *carry = Carry::Middle;
                Step::Event(Event {
                    text: at..bytes.len(),
                    next: bytes.len(),
                    truncated: false,
                    partial: true,
                })
            }
            None => Step::Wait,
        }
    }

    /// A line that ends at `end`, and those that belong to it.
    fn line(&self, bytes: &[u8], at: usize, end: usize, flush: Flush, carry: &mut Carry) -> Step {
        if end - at > self.limit {
            *carry = Carry::Start;
            return self.cut(bytes, at, end + 1);
        }
        let first = without_return(bytes, at, end);
        if *carry == Carry::Middle {
            *carry = Carry::Start;
            return if first.is_empty() {
                Step::Skip(end + 1)
            } else {
                Step::Event(Event { text: first, next: end + 1, truncated: false, partial: true })
            };
        }
        if first.is_empty() {
            return Step::Skip(end + 1);
        }
        let Some((text, next)) = self.group(bytes, first, end + 1, flush) else { return Step::Wait };
        Step::Event(Event { text, next, truncated: false, partial: false })
    }

    /// The lines that follow `first` and belong to it; none while that can't be known.
    fn group(
        &self,
        bytes: &[u8],
        first: Range<usize>,
        mut next: usize,
        flush: Flush,
    ) -> Option<(Range<usize>, usize)> {
        if matches!(self.rule, Rule::Single) {
            return Some((first, next));
        }
        let mut state = self.rule.begin(&bytes[first.clone()]);
        let mut text = first;
        for _ in 0..MAX_LINES {
            let Some(end) = memchr::memchr(b'\n', &bytes[next..]).map(|length| next + length) else {
                // Of an event that is full anyway, no more is waited for.
                let full = bytes.len() - text.start > self.limit;
                return (flush >= Flush::Lines || full).then_some((text, next));
            };
            let line = without_return(bytes, next, end);
            if end - text.start > self.limit || !self.rule.continues(&mut state, &bytes[line.clone()]) {
                break;
            }
            text.end = line.end;
            next = end + 1;
        }
        Some((text, next))
    }

    /// An event of as much as is allowed, whole characters.
    fn cut(&self, bytes: &[u8], at: usize, next: usize) -> Step {
        let mut end = at + self.limit;
        // 0b10xxxxxx goes on with a character; more than three of them is no UTF-8 anyway.
        for _ in 0..3 {
            if bytes[end] & 0xc0 == 0x80 {
                end -= 1;
            }
        }
        Step::Event(Event { text: at..end, next, truncated: true, partial: false })
    }
}

/// Files of other systems end their lines with `\r\n`.
fn without_return(bytes: &[u8], start: usize, end: usize) -> Range<usize> {
    start..(end - usize::from(end > start && bytes[end - 1] == b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiline::Runtime;
    use proptest::prelude::*;

    fn framer(rule: Rule) -> Framer {
        Framer { limit: 20, rule }
    }

    /// Reads `bytes` as a file that grows by chunks of these sizes, and flushes at the end. Returns each event's text with a
    /// mark: `~` partial, `!` truncated.
    fn events(framer: &Framer, bytes: &[u8], chunks: &[usize]) -> Vec<String> {
        let (mut offset, mut available, mut carry, mut found) = (0, 0, Carry::Start, Vec::new());
        let mut sizes = chunks.iter();
        loop {
            let size = sizes.next().copied();
            available = size.map_or(bytes.len(), |size| (available + size).min(bytes.len()));
            let flush = if size.is_none() { Flush::All } else { Flush::No };
            let read = &bytes[offset..available];
            let mut at = 0;
            loop {
                match framer.step(read, at, flush, &mut carry) {
                    Step::Event(event) => {
                        let mark = if event.partial {
                            "~"
                        } else if event.truncated {
                            "!"
                        } else {
                            ""
                        };
                        let text = String::from_utf8_lossy(&read[event.text.clone()]);
                        found.push(format!("{text}{mark}"));
                        assert!(event.next > at, "no progress");
                        at = event.next;
                    }
                    Step::Skip(next) => {
                        assert!(next > at, "no progress");
                        at = next;
                    }
                    Step::Wait => break,
                }
            }
            offset += at;
            if size.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn lines_end_where_they_end() {
        let all = |text: &[u8]| events(&framer(Rule::Single), text, &[]);
        assert_eq!(all(b"a\nb\r\n\nc\n"), ["a", "b", "c"]);
        assert_eq!(all(b"a\nb"), ["a", "b~"]);
        assert_eq!(all(b"\0\0\0\0a\n\0\0b\n\0\0\0"), ["a", "b"]);
        assert_eq!(all(b"0123456789012345678901234\nb\n"), ["01234567890123456789!", "b"]);
        assert_eq!(all("0123456789012345678é\nb\n".as_bytes()), ["0123456789012345678!", "b"]);
    }

    #[test]
    fn line_that_is_cut_before_its_end_came_is_passed_over_to_its_end() {
        let text = b"0123456789012345678901234567890123456789\nb\n";
        assert_eq!(events(&framer(Rule::Single), text, &[25, 5, 3]), ["01234567890123456789!", "b"]);
    }

    #[test]
    fn partial_line_goes_on_marked() {
        let (framer, mut carry) = (framer(Rule::Single), Carry::Start);
        let step = framer.step(b"half", 0, Flush::All, &mut carry);
        assert!(matches!(step, Step::Event(Event { partial: true, next: 4, .. })), "{step:?}");
        let step = framer.step(b" done\nnext\n", 0, Flush::No, &mut carry);
        assert!(matches!(step, Step::Event(Event { partial: true, next: 6, .. })), "{step:?}");
        let step = framer.step(b" done\nnext\n", 6, Flush::No, &mut carry);
        assert!(matches!(step, Step::Event(Event { partial: false, next: 11, .. })), "{step:?}");
    }

    #[test]
    fn event_of_several_lines_waits_for_the_line_after_it() {
        let (framer, mut carry) = (framer(Rule::Traces(Runtime::Java)), Carry::Start);
        assert_eq!(framer.step(b"a\n\tb\n", 0, Flush::No, &mut carry), Step::Wait);
        assert_eq!(events(&framer, b"a\n\tb\nc\n", &[2, 2, 2]), ["a\n\tb", "c"]);
        // Too long an event ends early: the rest is an event too, and not lost.
        assert_eq!(
            events(&framer, b"a\n\t234567\n\t234567\n\t234\n", &[]),
            ["a\n\t234567\n\t234567", "\t234"]
        );
    }

    proptest! {
        #[test]
        fn how_a_file_grows_makes_no_difference(
            lines in prop::collection::vec("[ \tab]{0,30}", 0..20),
            chunks in prop::collection::vec(1_usize..40, 0..40),
            traces in any::<bool>(),
        ) {
            let rule = || if traces { Rule::Traces(Runtime::Java) } else { Rule::Single };
            let text = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
            let whole = events(&framer(rule()), text.as_bytes(), &[]);
            prop_assert_eq!(events(&framer(rule()), text.as_bytes(), &chunks), whole);
        }

        #[test]
        fn any_bytes_are_framed(bytes in prop::collection::vec(prop::sample::select(b"\0\na\xff\xc3\xa9 \r".to_vec()), 0..200), chunks in prop::collection::vec(1_usize..40, 0..10)) {
            events(&framer(Rule::Single), &bytes, &chunks);
            events(&framer(Rule::Traces(Runtime::Go)), &bytes, &chunks);
        }
    }
}
