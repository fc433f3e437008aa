//! A histogram of durations that one thread writes and another reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds. They start at half a millisecond: OpenTelemetry's start at 5 ms, and most
/// apps behind a sidecar answer faster than that.
pub(crate) const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Durations by bucket. Not `prometheus_client`'s histogram: that takes a lock for each value, and hides its buckets
/// from `/stats`.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// One for each bound and one for everything above.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What a [`Latency`] held at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) sum_seconds: f64,
}

impl Latency {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        // Wraps after 584 years of waiting.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            sum_seconds: Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64(),
        }
    }
}

impl Snapshot {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum_seconds += other.sum_seconds;
    }

    /// The duration in seconds below which the share `quantile` (0 to 1) of the values lies, as Prometheus'
    /// `histogram_quantile` estimates it: evenly spread within a bucket, and the last bound for all that lies above.
    /// `None` without values.
    #[allow(clippy::cast_precision_loss)] // counts are far below 2^52
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = quantile * count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, in_bucket) in BOUNDS.iter().zip(self.buckets) {
            let in_bucket = in_bucket as f64;
            if in_bucket > 0.0 && below + in_bucket >= rank {
                return Some(lower + (bound - lower) * ((rank - below) / in_bucket));
            }
            below += in_bucket;
            lower = *bound;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let latency = Latency::default();
        latency.observe(Duration::from_micros(500));
        latency.observe(Duration::from_micros(501));
        latency.observe(Duration::from_mins(1));
        let snapshot = latency.snapshot();
        assert_eq!((snapshot.buckets[0], snapshot.buckets[1], snapshot.buckets[14]), (1, 1, 1));
        assert_eq!(snapshot.count(), 3);
        assert!((snapshot.sum_seconds - 60.001_001).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_interpolated_and_never_above_the_last_bound() {
        let latency = Latency::default();
        assert_eq!(latency.snapshot().quantile(0.5), None);
        for _ in 0..100 {
            latency.observe(Duration::from_millis(80));
        }
        let median = latency.snapshot().quantile(0.5).unwrap();
        assert!((median - 0.075).abs() < 1e-9, "halfway between 0.05 and 0.1: {median}");
        let slow = Latency::default();
        slow.observe(Duration::from_secs(99));
        assert_eq!(slow.snapshot().quantile(0.99), Some(10.0));
    }
}
