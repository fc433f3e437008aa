//! Counts over the time that is just past. Time is an argument.

use std::time::{Duration, Instant};

/// A window is counted in so many parts: what is older than nine to ten of them is forgotten.
const PARTS: usize = 10;

/// What happened of late.
#[derive(Debug)]
pub(crate) struct Window {
    start: Instant,
    part: Duration,
    parts: [Part; PARTS],
    /// The part that is written now, counted from the start.
    current: u128,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) requests: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
}

impl Window {
    pub(crate) fn new(length: Duration, now: Instant) -> Self {
        let part = (length / 10).max(Duration::from_millis(1));
        Self { start: now, part, parts: [Part::default(); PARTS], current: 0 }
    }

    /// One more, now.
    pub(crate) fn add(&mut self, now: Instant, failed: bool, slow: bool) {
        self.advance(now);
        let part = &mut self.parts[place(self.current)];
        part.requests += 1;
        part.failed += u32::from(failed);
        part.slow += u32::from(slow);
    }

    /// Forgets what is too old by now.
    pub(crate) fn advance(&mut self, now: Instant) {
        let current = now.saturating_duration_since(self.start).as_nanos() / self.part.as_nanos();
        let passed = current.saturating_sub(self.current);
        for part in (self.current + 1..=self.current + passed).take(PARTS) {
            self.parts[place(part)] = Part::default();
        }
        if passed > PARTS as u128 {
            self.parts = [Part::default(); PARTS];
        }
        self.current += passed;
    }

    pub(crate) fn totals(&self) -> Part {
        self.parts.iter().fold(Part::default(), |all, part| Part {
            requests: all.requests + part.requests,
            failed: all.failed + part.failed,
            slow: all.slow + part.slow,
        })
    }
}

fn place(part: u128) -> usize {
    usize::try_from(part % PARTS as u128).unwrap_or_default()
}
