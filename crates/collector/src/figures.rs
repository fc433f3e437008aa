//! Rates of a time: of a pod now, of all pods of a service, and of the last quarter of an hour.

use std::collections::VecDeque;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::stats::Totals;

/// From one point of the history to the next.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// Points of a quarter of an hour.
pub(crate) const POINTS: usize = 180;

/// What happened in a time. Of several pods together it is the sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Requests a second that were answered with 500 or above.
    pub(crate) error_rate: f64,
    /// Bytes a second that came.
    pub(crate) bytes_in: f64,
    /// Bytes a second that went.
    pub(crate) bytes_out: f64,
    /// Connections of TCP ports made a second.
    pub(crate) connection_rate: f64,
    /// Requests counted.
    pub(crate) requests: u64,
    /// Of them, those that failed.
    pub(crate) errors: u64,
    /// How long they took together.
    pub(crate) seconds: f64,
    /// How long each took.
    pub(crate) durations: Histogram,
}

impl Figures {
    /// What these counts, which came in this time, mean a second.
    #[allow(clippy::cast_precision_loss)] // counts of seconds
    pub(crate) fn of(totals: Totals, time: Duration) -> Self {
        let a_second = |count: u64| count as f64 / time.as_secs_f64().max(0.001);
        Self {
            rate: a_second(totals.requests),
            error_rate: a_second(totals.errors),
            bytes_in: a_second(totals.bytes_in),
            bytes_out: a_second(totals.bytes_out),
            connection_rate: a_second(totals.connections),
            requests: totals.requests,
            errors: totals.errors,
            seconds: totals.seconds,
            durations: totals.durations,
        }
    }

    /// Those of two pods together.
    #[must_use]
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            rate: self.rate + other.rate,
            error_rate: self.error_rate + other.error_rate,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            connection_rate: self.connection_rate + other.connection_rate,
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            seconds: self.seconds + other.seconds,
            durations: self.durations.and(&other.durations),
        }
    }

    /// Share of the requests that failed, 0 to 1.
    #[allow(clippy::cast_precision_loss)] // counts of seconds
    pub(crate) fn error_share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { (self.errors as f64 / self.requests as f64).min(1.0) }
    }

    /// In milliseconds; none without requests.
    #[allow(clippy::cast_precision_loss)] // counts of seconds
    pub(crate) fn average(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.seconds * 1000.0 / self.requests as f64)
    }
}

/// One step of the history; NaN where nothing was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Requests a second.
    pub(crate) rate: f32,
    /// Failed ones a second.
    pub(crate) errors: f32,
    /// Milliseconds.
    pub(crate) p50: f32,
    /// Milliseconds.
    pub(crate) p95: f32,
    /// Milliseconds.
    pub(crate) p99: f32,
}

/// The last quarter of an hour, the newest point last.
///
/// Packed, since each pod has one: of a number that is not negative the upper half without its sign, which is right to 0.2 %.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<[u16; 5]>);

impl History {
    /// One step more; none where there are no figures.
    #[allow(clippy::cast_possible_truncation)] // a curve of some pixels
    pub(crate) fn push(&mut self, figures: Option<&Figures>) {
        let quantile =
            |figures: &Figures, at| figures.durations.quantile(at).map_or(f32::NAN, |ms| ms as f32);
        // A step in which nobody answered is a gap.
        let point = figures.map_or([f32::NAN; 5], |figures| {
            let (p50, p95, p99) = (quantile(figures, 0.5), quantile(figures, 0.95), quantile(figures, 0.99));
            [figures.rate as f32, figures.error_rate as f32, p50, p95, p99]
        });
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        // Not doubled, as it would be: it grows to its full length once and stays.
        self.0.reserve_exact(usize::from(self.0.is_empty()) * POINTS);
        self.0.push_back(point.map(packed));
    }

    /// The newest `most` points, the oldest first.
    pub(crate) fn last(&self, most: usize) -> impl Iterator<Item = Point> {
        self.0.iter().skip(self.0.len().saturating_sub(most)).map(|point| {
            let [rate, errors, p50, p95, p99] = point.map(|half| f32::from_bits(u32::from(half) << 15));
            Point { rate, errors, p50, p95, p99 }
        })
    }
}

fn packed(value: f32) -> u16 {
    let rounded = value.abs().to_bits() + (1 << 14);
    u16::try_from(rounded >> 15).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_never_grows_beyond_a_quarter_of_an_hour() {
        let mut history = History::default();
        for _ in 0..POINTS * 3 {
            history.push(Some(&Figures { rate: 1.0, ..Figures::default() }));
        }
        history.push(None);
        let rates: Vec<_> = history.last(usize::MAX).map(|point| point.rate).collect();
        assert_eq!(rates.len(), POINTS);
        assert!(rates[POINTS - 1].is_nan() && rates[0] > 0.0);
    }

    #[test]
    fn a_packed_number_is_right_to_a_fifth_of_a_percent() {
        for value in [0.0, 0.013, 1.0, 7.3, 50.0, 12_345.6, 9e9] {
            let mut history = History::default();
            history.push(Some(&Figures { rate: value, ..Figures::default() }));
            let told = f64::from(history.last(1).next().unwrap().rate);
            assert!((told - value).abs() <= value * 0.002, "{value} is told as {told}");
        }
    }
}
