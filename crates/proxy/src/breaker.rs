//! When a failing upstream is no longer called, and when it is again: decisions only. Time and chance are arguments.
//!
//! Closed, it counts failures in a row and shares over a window; open, it lets nothing through for a while; half-open, it lets a few
//! requests try, whose success closes it and whose failure opens it for longer; one that is throttled, for as long as at first.

use std::time::{Duration, Instant};

use crate::window::{Part, Window};

/// When to open and to close.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// 0: not by these.
    pub(crate) consecutive_failures: u32,
    /// In thousandths; 0: not by these.
    pub(crate) failure_ratio: u16,
    pub(crate) window: Duration,
    pub(crate) min_requests: u32,
    /// What is slow, and the share of it in thousandths.
    pub(crate) slow: Option<(Duration, u16)>,
    pub(crate) open_for: Duration,
    pub(crate) max_open_for: Duration,
    pub(crate) max_concurrent: u32,
    pub(crate) successes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Open,
    HalfOpen,
}

/// Why the state changed last: the `cause` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It opened: failures in a row.
    ConsecutiveFailures,
    /// It opened: their share.
    FailureRatio,
    /// It opened: the share of slow ones.
    SlowRatio,
    /// It opened: one that tried failed.
    TrialFailed,
    /// It opened: one that tried was throttled.
    TrialThrottled,
    /// It is half-open: the time was over.
    Elapsed,
    /// It closed: those that tried succeeded.
    Recovered,
}

impl Cause {
    /// Each at its own number.
    pub(crate) const ALL: [Self; 7] = [
        Self::ConsecutiveFailures,
        Self::FailureRatio,
        Self::SlowRatio,
        Self::TrialFailed,
        Self::TrialThrottled,
        Self::Elapsed,
        Self::Recovered,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRatio => "failure_ratio",
            Self::SlowRatio => "slow_ratio",
            Self::TrialFailed => "trial_failed",
            Self::TrialThrottled => "trial_throttled",
            Self::Elapsed => "elapsed",
            Self::Recovered => "recovered",
        }
    }

    /// The state that it leads to: the `to` label.
    pub(crate) const fn leads_to(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures
            | Self::FailureRatio
            | Self::SlowRatio
            | Self::TrialFailed
            | Self::TrialThrottled => "open",
            Self::Elapsed => "half_open",
            Self::Recovered => "closed",
        }
    }
}

/// How a request ended, as the breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    /// The upstream is asked for too much (429): no failure, but it is to be left alone.
    Throttled,
    /// It says nothing of the upstream: the client left, or we refused the request.
    Nothing,
}

/// What a request that was let through hands in again with its outcome. That of an earlier state says nothing of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    epoch: u64,
    /// Those of one state that were given at the same time are one as good as the other.
    given: Instant,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    settings: Settings,
    phase: Phase,
    /// Counts the phases.
    epoch: u64,
    cause: Cause,
}

#[derive(Debug)]
enum Phase {
    Closed {
        in_a_row: u32,
        window: Window,
    },
    /// `times`: how often in a row it has opened by failures.
    Open {
        until: Instant,
        times: u32,
    },
    /// `trying`: when each of those that have a place began.
    HalfOpen {
        trying: Vec<Instant>,
        succeeded: u32,
        times: u32,
    },
}

impl Breaker {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let window = Window::new(settings.window, now);
        Self { settings, phase: Phase::Closed { in_a_row: 0, window }, epoch: 0, cause: Cause::Recovered }
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Why it came into the state that it is in.
    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether a request may go to the upstream. If not: after how long it is worth trying again.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<Permit, Duration> {
        if let Phase::Open { until, times } = self.phase {
            if now < until {
                return Err(until - now);
            }
            self.enter(Phase::HalfOpen { trying: Vec::new(), succeeded: 0, times }, Cause::Elapsed);
        }
        if let Phase::HalfOpen { trying, .. } = &mut self.phase {
            // One that hangs would otherwise keep its place for ever where requests have no time limit, and an upstream that has recovered
            // stay shut. It is no failure: nothing says that it is late. Its outcome counts if it comes while this state lasts.
            trying.retain(|began| now.saturating_duration_since(*began) < self.settings.open_for);
            if trying.len() >= self.settings.max_concurrent as usize {
                return Err(Duration::from_secs(1));
            }
            trying.push(now);
        }
        Ok(Permit { epoch: self.epoch, given: now })
    }

    /// A request that was let through has ended, after this time. `chance`, from 0 to 1, makes the time for which it opens shorter or
    /// longer, so that many proxies do not try at once.
    pub(crate) fn report(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        took: Duration,
        now: Instant,
        chance: f64,
    ) {
        if !self.is_current(permit) {
            return;
        }
        let slow = self.settings.slow.is_some_and(|(threshold, _)| took > threshold);
        match &mut self.phase {
            Phase::Closed { in_a_row, window } => {
                *in_a_row = match outcome {
                    Outcome::Success => 0,
                    Outcome::Failure => *in_a_row + 1,
                    Outcome::Throttled | Outcome::Nothing => *in_a_row,
                };
                if outcome != Outcome::Nothing {
                    window.add(now, outcome != Outcome::Success, slow);
                }
                if let Some(cause) = self.settings.too_bad(*in_a_row, window.totals()) {
                    let length = self.settings.open_for(1);
                    self.open(length, 1, cause, now, chance);
                }
            }
            Phase::HalfOpen { trying, succeeded, times } => {
                // Unless it has been given away meanwhile.
                if let Some(place) = trying.iter().position(|began| *began == permit.given) {
                    trying.swap_remove(place);
                }
                match outcome {
                    Outcome::Nothing => {}
                    // Not for longer each time: it is there. Its place to the next at once would be all requests, one after the other, for one that
                    // asks for fewer.
                    Outcome::Throttled => {
                        let (length, times) = (self.settings.open_for(1), *times);
                        self.open(length, times, Cause::TrialThrottled, now, chance);
                    }
                    Outcome::Success if !slow => {
                        *succeeded += 1;
                        if *succeeded >= self.settings.successes {
                            let window = Window::new(self.settings.window, now);
                            self.enter(Phase::Closed { in_a_row: 0, window }, Cause::Recovered);
                        }
                    }
                    _ => {
                        let times = *times + 1;
                        let length = self.settings.open_for(times);
                        self.open(length, times, Cause::TrialFailed, now, chance);
                    }
                }
            }
            // None is let through while it is open.
            Phase::Open { .. } => {}
        }
    }

    /// Whether its outcome says something of the state that it is in now.
    pub(crate) fn is_current(&self, permit: Permit) -> bool {
        permit.epoch == self.epoch
    }

    /// The upstream asks to be left alone for so long. Open, it stays so, but no longer than it may at the most: who answers could
    /// otherwise keep it open for good.
    pub(crate) fn rest(&mut self, time: Duration, now: Instant) {
        let asked = now + time.min(self.settings.max_open_for);
        if let Phase::Open { until, .. } = &mut self.phase {
            *until = asked.max(*until);
        }
    }

    fn open(&mut self, length: Duration, times: u32, cause: Cause, now: Instant, chance: f64) {
        let until = now + length.mul_f64(0.8 + 0.4 * chance);
        self.enter(Phase::Open { until, times }, cause);
    }

    fn enter(&mut self, phase: Phase, cause: Cause) {
        (self.phase, self.cause) = (phase, cause);
        self.epoch += 1;
    }
}

impl Settings {
    /// For how long it opens, as often as it has in a row.
    fn open_for(&self, times: u32) -> Duration {
        self.open_for.saturating_mul(1 << (times - 1).min(20)).min(self.max_open_for)
    }

    fn too_bad(&self, in_a_row: u32, totals: Part) -> Option<Cause> {
        let exceeds = |part: u32, ratio: u16| {
            ratio > 0
                && totals.requests >= self.min_requests
                && u64::from(part) * 1000 >= u64::from(totals.requests) * u64::from(ratio)
        };
        if self.consecutive_failures > 0 && in_a_row >= self.consecutive_failures {
            return Some(Cause::ConsecutiveFailures);
        }
        if exceeds(totals.failed, self.failure_ratio) {
            return Some(Cause::FailureRatio);
        }
        let (_, ratio) = self.slow?;
        exceeds(totals.slow, ratio).then_some(Cause::SlowRatio)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
