//! Durations in buckets that are narrow enough for percentiles, and can be added up over pods and subtracted over time.

use std::time::Duration;

use serde::Serialize;

use crate::counter::Counter;

/// Buckets in each doubling: a bucket is an eighth of its lower bound wide, so a percentile is right to some 6 %.
const PARTS: usize = 8;
/// The first bucket ends at 2 to the power of this, in nanoseconds: 16 µs.
const FIRST: usize = 14;
/// Doublings from there, up to 69 s.
const DOUBLINGS: usize = 22;
/// And one for everything above.
const LEN: usize = DOUBLINGS * PARTS + 2;

/// Counts the worker writes and the admin thread reads.
#[derive(Debug)]
pub(crate) struct Quantiles {
    buckets: Box<[Counter]>,
    nanoseconds: Counter,
    longest: Counter,
}

/// What was counted up to one time.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    buckets: Vec<u64>,
    sum: Duration,
    longest: Duration,
}

/// As `/stats` tells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DurationStats {
    count: u64,
    sum_seconds: f64,
    max_seconds: f64,
    /// Absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_seconds: Option<f64>,
    /// Upper bound in microseconds and count, of those that are not empty, in order.
    buckets: Vec<(u64, u64)>,
}

impl Default for Quantiles {
    fn default() -> Self {
        let buckets = std::iter::repeat_with(Counter::default).take(LEN).collect();
        Self { buckets, nanoseconds: Counter::default(), longest: Counter::default() }
    }
}

impl Quantiles {
    pub(crate) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanoseconds)].add(1);
        self.nanoseconds.add(nanoseconds);
        self.longest.raise(nanoseconds);
    }

    pub(crate) fn snapshot(&self) -> Counted {
        Counted {
            buckets: self.buckets.iter().map(Counter::get).collect(),
            sum: Duration::from_nanos(self.nanoseconds.get()),
            longest: Duration::from_nanos(self.longest.get()),
        }
    }
}

/// By the position of the highest bit and the three below it.
fn bucket(nanoseconds: u64) -> usize {
    let Some(doubling) = (nanoseconds >> FIRST).checked_ilog2() else { return 0 };
    let doubling = doubling as usize;
    let part = (nanoseconds >> (FIRST + doubling - PARTS.ilog2() as usize)) % PARTS as u64;
    #[expect(clippy::cast_possible_truncation, reason = "below PARTS")]
    let part = part as usize;
    (1 + doubling * PARTS + part).min(LEN - 1)
}

/// In nanoseconds, and not included.
fn upper_bound(bucket: usize) -> u64 {
    let (doubling, part) = (bucket / PARTS, bucket % PARTS);
    ((PARTS + part) as u64) << (FIRST + doubling - PARTS.ilog2() as usize)
}

impl Default for Counted {
    fn default() -> Self {
        Self { buckets: vec![0; LEN], sum: Duration::ZERO, longest: Duration::ZERO }
    }
}

impl Counted {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }

    /// The duration in seconds below which the share `quantile` (0 to 1) of the values lies, if they are evenly spread in
    /// their bucket. Never more than the longest. `None` without values.
    #[allow(clippy::cast_precision_loss)] // counts and nanoseconds are below 2^52, which is 52 days
    fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (number, count) in self.buckets.iter().enumerate() {
            let (upper, in_bucket) = (upper_bound(number) as f64 / 1e9, *count as f64);
            if in_bucket > 0.0 && below + in_bucket >= rank {
                let within = lower + (upper - lower) * ((rank - below) / in_bucket);
                return Some(within.min(self.longest.as_secs_f64()));
            }
            below += in_bucket;
            lower = upper;
        }
        None
    }

    pub(crate) fn stats(&self) -> DurationStats {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        DurationStats {
            count: self.count(),
            sum_seconds: self.sum.as_secs_f64(),
            max_seconds: self.longest.as_secs_f64(),
            p50_seconds: self.quantile(0.5),
            p95_seconds: self.quantile(0.95),
            p99_seconds: self.quantile(0.99),
            buckets: filled.map(|(number, count)| (upper_bound(number) / 1_000, *count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_between_the_bounds_of_its_bucket() {
        for nanoseconds in (0..68_000_000_000_u64).step_by(999_983) {
            let bucket = bucket(nanoseconds);
            assert!(nanoseconds < upper_bound(bucket), "{nanoseconds} in {bucket}");
            assert!(bucket == 0 || nanoseconds >= upper_bound(bucket - 1), "{nanoseconds} in {bucket}");
        }
        assert_eq!((bucket(0), bucket(16_383), bucket(16_384), bucket(u64::MAX)), (0, 0, 1, LEN - 1));
    }

    #[test]
    fn percentiles_are_right_to_an_eighth_and_never_beyond_the_longest() {
        let quantiles = Quantiles::default();
        assert_eq!(quantiles.snapshot().quantile(0.5), None);
        for milliseconds in 1..=1000 {
            quantiles.observe(Duration::from_millis(milliseconds));
        }
        let counted = quantiles.snapshot();
        for (quantile, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (1.0, 1.0)] {
            let told = counted.quantile(quantile).unwrap();
            assert!((told / exact - 1.0).abs() < 0.07, "{told} for {exact}");
        }
        assert_eq!(counted.quantile(1.0), Some(1.0));
    }

    /// The proxy before this one told 228.33 ms of five samples of 100 ms, and always 0 as the least.
    #[test]
    fn five_samples_of_100_ms_are_100_ms() {
        let quantiles = Quantiles::default();
        for _ in 0..5 {
            quantiles.observe(Duration::from_millis(100));
        }
        let mut twice = quantiles.snapshot();
        twice.add(&quantiles.snapshot());
        for counted in [quantiles.snapshot(), twice] {
            let stats = counted.stats();
            let average = stats.sum_seconds / f64::from(u32::try_from(stats.count).unwrap());
            assert!((average - 0.1).abs() < 1e-9, "{average}");
            for told in [stats.p50_seconds, stats.p99_seconds, Some(stats.max_seconds)] {
                assert!((told.unwrap() - 0.1).abs() < 0.007, "{told:?}");
            }
            assert_eq!(stats.buckets.len(), 1);
        }
    }
}
