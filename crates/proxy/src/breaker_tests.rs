//! The breaker beside a model that remembers everything and reckons anew each time.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(1);
/// Neither longer nor shorter.
const NO_JITTER: f64 = 0.5;

fn settings() -> Settings {
    Settings {
        consecutive_failures: 5,
        failure_ratio: 500,
        window: 10 * SECOND,
        min_requests: 20,
        slow: None,
        open_for: 5 * SECOND,
        max_open_for: 60 * SECOND,
        max_concurrent: 1,
        successes: 2,
    }
}

/// Lets one request through and ends it so.
fn one(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
    let permit = breaker.ask(now).expect("let through");
    breaker.report(permit, outcome, QUICK, now, NO_JITTER);
}

fn opened(now: Instant) -> Breaker {
    let mut breaker = Breaker::new(settings(), now);
    (0..5).for_each(|_| one(&mut breaker, Outcome::Failure, now));
    assert_eq!((breaker.state(), breaker.cause()), (State::Open, Cause::ConsecutiveFailures));
    breaker
}

#[test]
fn one_error_when_idle_does_not_open_it() {
    let now = Instant::now();
    let mut breaker = Breaker::new(settings(), now);
    one(&mut breaker, Outcome::Failure, now);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_of_twenty_opens_it_and_half_of_nineteen_does_not() {
    let now = Instant::now();
    let mut breaker = Breaker::new(settings(), now);
    for number in 0..19 {
        one(&mut breaker, if number % 2 == 0 { Outcome::Failure } else { Outcome::Success }, now);
    }
    assert_eq!(breaker.state(), State::Closed);
    one(&mut breaker, Outcome::Failure, now);
    assert_eq!((breaker.state(), breaker.cause()), (State::Open, Cause::FailureRatio));
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let now = Instant::now();
    let mut breaker = Breaker::new(settings(), now);
    for number in 0..19 {
        one(&mut breaker, if number % 2 == 0 { Outcome::Failure } else { Outcome::Success }, now);
    }
    one(&mut breaker, Outcome::Failure, now + 11 * SECOND);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn slow_calls_open_it_where_they_are_to() {
    let now = Instant::now();
    let mut breaker = Breaker::new(Settings { slow: Some((SECOND, 800)), ..settings() }, now);
    for number in 0..20 {
        let permit = breaker.ask(now).unwrap();
        let took = if number < 4 { QUICK } else { 2 * SECOND };
        breaker.report(permit, Outcome::Success, took, now, NO_JITTER);
    }
    assert_eq!((breaker.state(), breaker.cause()), (State::Open, Cause::SlowRatio));
}

#[test]
fn open_it_says_when_to_come_again_and_then_lets_one_try_at_a_time() {
    let now = Instant::now();
    let mut breaker = opened(now);
    assert_eq!(breaker.ask(now + SECOND), Err(4 * SECOND));
    let later = now + 5 * SECOND;
    let first = breaker.ask(later).unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.ask(later).is_err(), "one at a time");
    breaker.report(first, Outcome::Success, QUICK, later, NO_JITTER);
    one(&mut breaker, Outcome::Success, later);
    assert_eq!((breaker.state(), breaker.cause()), (State::Closed, Cause::Recovered));
}

/// linkerd2's gate did not reset when the request that tried was cancelled.
#[test]
fn a_trial_that_is_cancelled_gives_its_place_back() {
    let now = Instant::now();
    let mut breaker = opened(now);
    let later = now + 5 * SECOND;
    for _ in 0..3 {
        one(&mut breaker, Outcome::Nothing, later);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

/// A trial that was answered 429 opened it for twice as long, though a 429 is no failure; later it gave its place back, and all requests
/// went through, one after the other, to an upstream that had asked to be left alone.
#[test]
fn a_trial_that_is_throttled_opens_it_again_for_no_longer() {
    let mut now = Instant::now();
    let mut breaker = opened(now);
    now += 5 * SECOND;
    for _ in 0..3 {
        one(&mut breaker, Outcome::Throttled, now);
        assert_eq!((breaker.state(), breaker.cause()), (State::Open, Cause::TrialThrottled));
        assert_eq!(breaker.ask(now), Err(5 * SECOND));
        now += 5 * SECOND;
    }
    // With `Retry-After`.
    one(&mut breaker, Outcome::Throttled, now);
    breaker.rest(30 * SECOND, now);
    assert_eq!(breaker.ask(now), Err(30 * SECOND));
    now += 30 * SECOND;
    // The first failure since doubles, as if none had been throttled.
    one(&mut breaker, Outcome::Failure, now);
    assert_eq!(breaker.ask(now), Err(10 * SECOND));
    now += 10 * SECOND;
    (0..2).for_each(|_| one(&mut breaker, Outcome::Success, now));
    assert_eq!((breaker.state(), breaker.cause()), (State::Closed, Cause::Recovered));
}

/// Without `timeouts.request`, one that hung kept a recovered upstream shut for ever.
#[test]
fn a_trial_that_is_never_answered_leaves_its_place_after_a_while() {
    let now = Instant::now();
    let mut breaker = opened(now);
    let later = now + 5 * SECOND;
    let hangs = breaker.ask(later).unwrap();
    assert!(breaker.ask(later + 4 * SECOND).is_err(), "one at a time");
    let after = later + 5 * SECOND;
    one(&mut breaker, Outcome::Success, after);
    assert_eq!(breaker.state(), State::HalfOpen);
    // Its place is another's by now, and is not given back twice.
    let other = breaker.ask(after).unwrap();
    breaker.report(hangs, Outcome::Nothing, QUICK, after, NO_JITTER);
    assert!(breaker.ask(after).is_err(), "the other one's place");
    breaker.report(other, Outcome::Success, QUICK, after, NO_JITTER);
    assert_eq!((breaker.state(), breaker.cause()), (State::Closed, Cause::Recovered));
}

#[test]
fn each_failed_trial_doubles_the_time_up_to_the_longest() {
    let mut now = Instant::now();
    let mut breaker = opened(now);
    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(breaker.ask(now), Err(seconds * SECOND));
        now += seconds * SECOND;
        one(&mut breaker, Outcome::Failure, now);
        assert_eq!((breaker.state(), breaker.cause()), (State::Open, Cause::TrialFailed));
    }
    // Once it has closed, it begins anew.
    now += 60 * SECOND;
    (0..2).for_each(|_| one(&mut breaker, Outcome::Success, now));
    (0..5).for_each(|_| one(&mut breaker, Outcome::Failure, now));
    assert_eq!(breaker.ask(now), Err(5 * SECOND));
}

#[test]
fn chance_makes_the_time_a_fifth_longer_or_shorter() {
    for (chance, wanted) in [(0.0, 4 * SECOND), (1.0, 6 * SECOND)] {
        let now = Instant::now();
        let mut breaker = Breaker::new(Settings { consecutive_failures: 1, ..settings() }, now);
        let permit = breaker.ask(now).unwrap();
        breaker.report(permit, Outcome::Failure, QUICK, now, chance);
        assert_eq!(breaker.ask(now), Err(wanted));
    }
}

#[test]
fn what_began_before_it_opened_says_nothing_afterwards() {
    let now = Instant::now();
    let mut breaker = Breaker::new(settings(), now);
    let late = breaker.ask(now).unwrap();
    (0..5).for_each(|_| one(&mut breaker, Outcome::Failure, now));
    let later = now + 5 * SECOND;
    let _trial = breaker.ask(later).unwrap();
    breaker.report(late, Outcome::Failure, QUICK, later, NO_JITTER);
    assert_eq!(breaker.state(), State::HalfOpen);
}

/// All that happened, and the same rules said once more without a window, an epoch or a count that is kept.
#[derive(Debug)]
struct Model {
    settings: Settings,
    /// The outcomes in this state, each with the tenth of the window in which it came, and whether it was slow.
    ended: Vec<(u128, Outcome, bool)>,
    began: Instant,
    /// Until when it is open, and how often in a row failures have opened it.
    open: Option<(Instant, u32)>,
    half_open: bool,
    /// When those began that are trying, and that have not ended.
    trying: Vec<Instant>,
}

impl Model {
    fn tenth(&self, now: Instant) -> u128 {
        (now - self.began).as_nanos() / (self.settings.window / 10).as_nanos()
    }

    fn change(&mut self, now: Instant, open: Option<(Instant, u32)>, half_open: bool) {
        (self.ended, self.began) = (Vec::new(), now);
        (self.open, self.half_open, self.trying) = (open, half_open, Vec::new());
    }

    fn length(&self, times: u32) -> Duration {
        (self.settings.open_for * 2_u32.pow((times - 1).min(10))).min(self.settings.max_open_for)
    }

    fn rests(&mut self, time: Duration, now: Instant) {
        if let Some((until, _)) = self.open.as_mut().filter(|_| !self.half_open) {
            *until = (*until).max(now + time.min(self.settings.max_open_for));
        }
    }

    fn lets_through(&mut self, now: Instant) -> bool {
        if let Some((until, _)) = self.open.filter(|_| !self.half_open) {
            if now < until {
                return false;
            }
            self.change(now, self.open, true);
        }
        let young = |began: &&Instant| **began + self.settings.open_for > now;
        let free = !self.half_open
            || self.trying.iter().filter(young).count() < self.settings.max_concurrent as usize;
        if free {
            self.trying.push(now);
        }
        free
    }

    fn ends(&mut self, began: Instant, outcome: Outcome, slow: bool, now: Instant) {
        let place = self.trying.iter().position(|trying| *trying == began).expect("it was let through");
        self.trying.remove(place);
        self.ended.push((self.tenth(now), outcome, slow));
        let tail = self.ended.iter().rev().map(|(_, outcome, _)| *outcome);
        if self.half_open {
            let times = self.open.map_or(0, |(_, times)| times);
            let successes = tail.filter(|outcome| *outcome == Outcome::Success).count();
            let failed = outcome == Outcome::Failure || slow && outcome == Outcome::Success;
            match outcome {
                _ if failed => self.change(now, Some((now + self.length(times + 1), times + 1)), false),
                Outcome::Throttled => self.change(now, Some((now + self.settings.open_for, times)), false),
                _ if successes >= self.settings.successes as usize => self.change(now, None, false),
                _ => {}
            }
            return;
        }
        // What says nothing changes nothing, also where what was good has become too old meanwhile.
        if outcome == Outcome::Nothing {
            return;
        }
        let in_a_row = tail
            .filter(|outcome| matches!(outcome, Outcome::Success | Outcome::Failure))
            .take_while(|outcome| *outcome == Outcome::Failure)
            .count();
        let oldest = self.tenth(now).saturating_sub(9);
        let recent: Vec<_> = self
            .ended
            .iter()
            .filter(|(at, outcome, _)| *at >= oldest && *outcome != Outcome::Nothing)
            .collect();
        let exceeds = |part: usize, ratio: u16| {
            recent.len() >= self.settings.min_requests as usize
                && part * 1000 >= recent.len() * usize::from(ratio)
        };
        let bad = recent.iter().filter(|(_, outcome, _)| *outcome != Outcome::Success).count();
        let slow = recent.iter().filter(|(_, _, slow)| *slow).count();
        let too_many_slow = self.settings.slow.is_some_and(|(_, ratio)| exceeds(slow, ratio));
        if in_a_row >= self.settings.consecutive_failures as usize
            || exceeds(bad, self.settings.failure_ratio)
            || too_many_slow
        {
            self.change(now, Some((now + self.length(1), 1)), false);
        }
    }

    fn state(&self) -> State {
        match (self.open, self.half_open) {
            (None, _) => State::Closed,
            (Some(_), false) => State::Open,
            (Some(_), true) => State::HalfOpen,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    /// Which, how, whether slow, and the `Retry-After` in seconds.
    End(usize, Outcome, bool, Option<u32>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Throttled),
        1 => Just(Outcome::Nothing),
    ];
    let step = prop_oneof![
        5 => Just(Step::Ask),
        5 => (any::<usize>(), outcome, proptest::bool::weighted(0.3), proptest::option::weighted(0.2, 0_u32..9))
            .prop_map(|(which, outcome, slow, rest)| Step::End(which, outcome, slow, rest)),
        2 => (1_u64..4000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(
        steps in steps(),
        consecutive_failures in 2_u32..8,
        failure_ratio in 300_u16..1000,
        min_requests in 1_u32..12,
        max_concurrent in 1_u32..4,
        successes in 1_u32..4,
        slow_ratio in proptest::option::of(300_u16..1000),
    ) {
        let settings = Settings {
            consecutive_failures, failure_ratio, min_requests, max_concurrent, successes,
            window: 2 * SECOND, open_for: SECOND, max_open_for: 4 * SECOND,
            slow: slow_ratio.map(|ratio| (SECOND, ratio)),
        };
        let mut now = Instant::now();
        let mut breaker = Breaker::new(settings.clone(), now);
        let mut model =
            Model { settings, ended: Vec::new(), began: now, open: None, half_open: false, trying: Vec::new() };
        let mut under_way = Vec::new();
        for step in steps {
            match step {
                Step::Ask => {
                    let permit = breaker.ask(now);
                    prop_assert_eq!(permit.is_ok(), model.lets_through(now));
                    under_way.extend(permit.ok());
                }
                Step::End(which, outcome, slow, rest) if !under_way.is_empty() => {
                    let permit: Permit = under_way.swap_remove(which % under_way.len());
                    let rest = rest.filter(|_| permit.epoch == breaker.epoch).map(|seconds| seconds * SECOND);
                    if permit.epoch == breaker.epoch {
                        model.ends(permit.given, outcome, slow && slow_ratio.is_some(), now);
                    }
                    let took = if slow { 2 * SECOND } else { QUICK };
                    breaker.report(permit, outcome, took, now, NO_JITTER);
                    if let Some(rest) = rest {
                        model.rests(rest, now);
                        breaker.rest(rest, now);
                    }
                }
                Step::End(..) => {}
                Step::Wait(millis) => now += Duration::from_millis(millis),
            }
            prop_assert_eq!(breaker.state(), model.state());
        }
    }
}

#[test]
fn an_upstream_that_asks_to_be_left_alone_is_up_to_the_longest_time() {
    let now = Instant::now();
    let mut breaker = opened(now);
    breaker.rest(SECOND, now);
    assert_eq!(breaker.ask(now), Err(5 * SECOND), "no shorter than by itself");
    breaker.rest(20 * SECOND, now);
    assert_eq!(breaker.ask(now), Err(20 * SECOND));
    breaker.rest(1_000_000 * SECOND, now);
    assert_eq!(breaker.ask(now), Err(60 * SECOND));
    let mut closed = Breaker::new(settings(), now);
    closed.rest(20 * SECOND, now);
    assert!(closed.ask(now).is_ok(), "asked of one that works");
}
