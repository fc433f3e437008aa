//! Whether a pod is slow or failing: beside its peers, and by itself.

use serde::Serialize;

use crate::figures::Figures;
use crate::stats::Breaker;
use crate::sync::Synced;

/// Requests in the window below which nothing is said of durations: two slow ones at the start are no news.
const ENOUGH: u64 = 5;
/// Errors that make a pod failing, if they are so large a share.
const MANY_ERRORS: u64 = 3;
const FAILING_SHARE: f64 = 0.05;
/// Milliseconds of p95 from which it is told, and from which it counts as slow, whatever the peers.
const ELEVATED: f64 = 100.0;
const SLOW: f64 = 500.0;
/// How many times the usual p50 or p95 is slow, and by how many milliseconds at least: 3 ms beside 1 ms is nothing to look at.
const TIMES_USUAL_P50: f64 = 2.0;
const ABOVE_USUAL_P50: f64 = 10.0;
const TIMES_USUAL_P95: f64 = 3.0;
const ABOVE_USUAL_P95: f64 = 50.0;
/// Share of its limit from which memory is told.
const NEAR_LIMIT: f64 = 0.9;
/// Bytes of log files not yet written out that are told.
const LOG_LAG: u64 = 1 << 20;

/// From the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// Nothing to look at.
    #[default]
    Good,
    /// Nothing known yet.
    Waiting,
    /// Worth knowing: p95 from 100 ms, single errors, memory near its limit, logs that lag, files that stay old.
    Elevated,
    /// Slow beside its peers, or from 500 ms on.
    Slow,
    /// Requests fail, or the app has no files.
    Failing,
    /// No answer, or deleted.
    Gone,
}

/// What is to be looked at, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) state: State,
    /// A sentence with the figures.
    pub(crate) text: String,
}

impl Finding {
    /// One of this state.
    pub(crate) fn new(state: State, text: impl Into<String>) -> Self {
        Self { state, text: text.into() }
    }
}

/// The worst of them.
pub(crate) fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or_default()
}

/// The p50 and p95 of the pod in the middle, in milliseconds: what a pod of a service is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    p50: f64,
    p95: f64,
}

impl Usual {
    /// Of all pods of a service. None with fewer than three that have requests: which of two is the odd one?
    pub(crate) fn of<'a>(pods: impl Iterator<Item = &'a Figures>) -> Option<Self> {
        let (p50s, p95s): (Vec<_>, Vec<_>) = pods.filter_map(p50_and_p95).unzip();
        (p50s.len() >= 3).then(|| Self { p50: median(p50s), p95: median(p95s) })
    }
}

/// Of a pod's traffic, beside what is usual; of a whole service's, by itself.
pub(crate) fn traffic(own: &Figures, usual: Option<Usual>) -> Vec<Finding> {
    errors(own).into_iter().chain(durations(own, usual)).collect()
}

fn errors(own: &Figures) -> Option<Finding> {
    let share = own.error_share();
    let text = format!("{} of {} requests failed ({:.1} %)", own.errors, own.requests, share * 100.0);
    match own.errors {
        0 => None,
        errors if errors >= MANY_ERRORS && share >= FAILING_SHARE => Some(Finding::new(State::Failing, text)),
        _ => Some(Finding::new(State::Elevated, text)),
    }
}

fn durations(own: &Figures, usual: Option<Usual>) -> Option<Finding> {
    let (p50, p95) = p50_and_p95(own)?;
    let slow = |what: &str, own: f64, usual: f64| {
        Some(Finding::new(State::Slow, format!("{what} {}, its peers' is {}", shown(own), shown(usual))))
    };
    if let Some(usual) = usual {
        if p50 >= (usual.p50 * TIMES_USUAL_P50).max(usual.p50 + ABOVE_USUAL_P50) {
            return slow("p50", p50, usual.p50);
        }
        if p95 >= (usual.p95 * TIMES_USUAL_P95).max(usual.p95 + ABOVE_USUAL_P95) {
            return slow("p95", p95, usual.p95);
        }
    }
    let state = if p95 >= SLOW { State::Slow } else { State::Elevated };
    (p95 >= ELEVATED).then(|| Finding::new(state, format!("p95 {}", shown(p95))))
}

/// None where there are too few requests to say.
fn p50_and_p95(figures: &Figures) -> Option<(f64, f64)> {
    let durations = Some(&figures.durations).filter(|durations| durations.count() >= ENOUGH)?;
    Some((durations.quantile(0.5)?, durations.quantile(0.95)?))
}

/// Of its limit, in bytes.
#[allow(clippy::cast_precision_loss)] // bytes of a pod
pub(crate) fn memory(used: u64, limit: u64) -> Option<Finding> {
    let share = used as f64 / limit.max(1) as f64;
    (share >= NEAR_LIMIT)
        .then(|| Finding::new(State::Elevated, format!("memory at {:.0} % of its limit", share * 100.0)))
}

/// Of bytes that wait to be written out.
pub(crate) fn logs(lag: u64) -> Option<Finding> {
    (lag >= LOG_LAG).then(|| Finding::new(State::Elevated, format!("its logs lag by {} MiB", lag >> 20)))
}

/// Of files that come from a repository.
pub(crate) fn files(entry: &Synced) -> Option<Finding> {
    let failure = entry.failure.as_ref()?;
    let (state, stays) = match &entry.version {
        Some(version) => (State::Elevated, format!("stay at {version}")),
        None if entry.has_content => (State::Elevated, "are those it falls back to".to_owned()),
        None => (State::Failing, "are missing".to_owned()),
    };
    Some(Finding::new(
        state,
        format!("its files in {} {stays}: {}: {}", entry.path, failure.reason, failure.message),
    ))
}

/// Of a circuit breaker.
pub(crate) fn breaker(upstream: &str, breaker: &Breaker) -> Option<Finding> {
    let found = || Finding::new(State::Elevated, format!("the circuit to {upstream} is {}", breaker.state));
    breaker.is_open().then(found)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn shown(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    /// `count` requests of so many milliseconds each.
    fn pod(milliseconds: u64, count: u64, errors: u64) -> Figures {
        let durations = Histogram::of(&[(milliseconds * 1000, count)]);
        Figures { requests: count, errors, durations, ..Figures::default() }
    }

    fn states(pods: &[Figures]) -> Vec<State> {
        let usual = Usual::of(pods.iter());
        pods.iter().map(|own| worst(&traffic(own, usual))).collect()
    }

    #[test]
    fn of_four_pods_the_slow_one_is_slow() {
        use State::{Good, Slow};
        let pods = [pod(12, 100, 0), pod(11, 100, 0), pod(80, 30, 0), pod(13, 100, 0)];
        assert_eq!(states(&pods), [Good, Good, Slow, Good], "80 ms is slow where the others take 12");
    }

    /// A page once left 100 to 500 ms without a colour.
    #[test]
    fn all_alike_but_not_fast_is_told() {
        let states_at = |ms| states(&[pod(ms, 100, 0), pod(ms, 100, 0), pod(ms, 100, 0)]);
        assert_eq!(states_at(20), [State::Good; 3]);
        assert_eq!(states_at(120), [State::Elevated; 3]);
        assert_eq!(states_at(400), [State::Elevated; 3]);
        assert_eq!(states_at(900), [State::Slow; 3]);
    }

    #[test]
    fn differences_that_nobody_feels_are_none() {
        assert_eq!(states(&[pod(1, 100, 0), pod(1, 100, 0), pod(8, 100, 0)]), [State::Good; 3]);
        assert_eq!(
            states(&[pod(1, 100, 0), pod(1, 100, 0), pod(90, 4, 0)])[2],
            State::Good,
            "too few requests"
        );
        assert_eq!(
            states(&[pod(1, 100, 0), pod(90, 100, 0)]),
            [State::Good; 2],
            "which of two is the odd one?"
        );
    }

    #[test]
    fn errors_count_by_number_and_share() {
        assert_eq!(
            states(&[pod(1, 100, 0), pod(1, 100, 2), pod(1, 100, 30)]),
            [State::Good, State::Elevated, State::Failing]
        );
        assert_eq!(states(&[pod(1, 2, 2)]), [State::Elevated], "two requests are no trend");
        assert_eq!(states(&[pod(1, 10_000, 20)]), [State::Elevated]);
    }
}
