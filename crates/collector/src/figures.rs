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

/// One step of the history. Small, for there are many: 20 bytes, and NaN where nothing was counted.
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

impl Point {
    /// A step in which nobody answered.
    const GAP: Self = Self { rate: f32::NAN, errors: f32::NAN, p50: f32::NAN, p95: f32::NAN, p99: f32::NAN };
}

/// The last quarter of an hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Point>);

impl History {
    /// One step more; none where there are no figures.
    #[allow(clippy::cast_possible_truncation)] // a curve of some pixels
    pub(crate) fn push(&mut self, figures: Option<&Figures>) {
        let quantile =
            |figures: &Figures, at| figures.durations.quantile(at).map_or(f32::NAN, |ms| ms as f32);
        let point = figures.map_or(Point::GAP, |figures| Point {
            rate: figures.rate as f32,
            errors: figures.error_rate as f32,
            p50: quantile(figures, 0.5),
            p95: quantile(figures, 0.95),
            p99: quantile(figures, 0.99),
        });
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// The newest `most` points, the oldest first.
    pub(crate) fn last(&self, most: usize) -> impl Iterator<Item = Point> {
        self.0.iter().skip(self.0.len().saturating_sub(most)).copied()
    }
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
}
