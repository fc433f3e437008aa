//! A histogram of durations that one thread writes and another reads.

use std::time::Duration;

use crate::counter::Counter;

/// How many upper bounds a histogram has.
const LEN: usize = 14;

/// Upper bounds of a histogram's buckets, in microseconds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bounds([u64; LEN]);

/// Of requests. They start at half a millisecond: OpenTelemetry's start at 5 ms, and most apps behind a sidecar answer
/// faster than that.
pub(crate) static REQUEST: Bounds = Bounds([
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
]);

/// Of what is ours of a request's time: a small part of a millisecond.
pub(crate) static OWN_TIME: Bounds =
    Bounds([10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000]);

/// Durations by bucket. Not `prometheus_client`'s histogram, which takes a lock for each value.
#[derive(Debug)]
pub(crate) struct Latency {
    bounds: &'static Bounds,
    /// One for each bound and one for everything above.
    buckets: [Counter; LEN + 1],
    nanoseconds: Counter,
}

/// What a [`Latency`] held at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    bounds: &'static Bounds,
    buckets: [u64; LEN + 1],
    pub(crate) sum_seconds: f64,
}

impl Latency {
    pub(crate) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: Default::default(), nanoseconds: Counter::default() }
    }

    pub(crate) fn observe(&self, duration: Duration) {
        // Wraps after 584 years of waiting.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.0.iter().position(|bound| nanoseconds <= bound * 1_000).unwrap_or(LEN);
        self.buckets[bucket].add(1);
        self.nanoseconds.add(nanoseconds);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            bounds: self.bounds,
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].get()),
            sum_seconds: Duration::from_nanos(self.nanoseconds.get()).as_secs_f64(),
        }
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }
}

impl Snapshot {
    /// One without values.
    pub(crate) fn empty(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: [0; LEN + 1], sum_seconds: 0.0 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Takes in the values of another with the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum_seconds += other.sum_seconds;
    }

    /// The values of each bucket with its upper bound in seconds; the last one's is infinite.
    #[allow(clippy::cast_precision_loss)] // ten million at most
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.0.iter().map(|microseconds| *microseconds as f64 / 1e6);
        bounds.chain([f64::INFINITY]).zip(self.buckets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let latency = Latency::new(&REQUEST);
        latency.observe(Duration::from_micros(500));
        latency.observe(Duration::from_micros(501));
        latency.observe(Duration::from_mins(1));
        let snapshot = latency.snapshot();
        assert_eq!((snapshot.buckets[0], snapshot.buckets[1], snapshot.buckets[14]), (1, 1, 1));
        assert_eq!(snapshot.count(), 3);
        assert!((snapshot.sum_seconds - 60.001_001).abs() < 1e-9);
    }

    #[test]
    fn bounds_in_seconds_are_the_round_numbers_that_queries_name() {
        let bounds =
            |bounds| Snapshot::empty(bounds).buckets().iter().map(|(le, _)| le.to_string()).collect();
        let (request, own): (Vec<_>, Vec<_>) = (bounds(&REQUEST), bounds(&OWN_TIME));
        assert_eq!(
            request.join(" "),
            "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 inf"
        );
        assert_eq!(own[..3], ["0.00001", "0.000025", "0.00005"]);
    }
}
