//! Durations in the buckets of the proxy's `/stats`, which can be added up over pods and subtracted over time.

use std::collections::BTreeMap;

/// Buckets in each doubling, and where the first ends: at 2 to the power of this, in nanoseconds. As in the proxy.
const PARTS: u64 = 8;
const FIRST: u32 = 14;
/// The proxy has 178; more is somebody else's document.
const LEN: u64 = 178;

/// How many lasted how long, by bucket. Only those that are not empty, in order: most endpoints fill a dozen of 178.
///
/// Written as bytes, a bucket's number and then its count in groups of seven bits, the lowest first, of which all but the last have
/// the highest bit: three bytes a bucket in the place of nine, and this is most of what is kept of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram(Box<[u8]>);

impl Histogram {
    /// From `/stats`: upper bounds in microseconds with their counts. No document, however wrong, makes it larger than the
    /// proxy's own would be.
    pub(crate) fn of(buckets: &[(u64, u64)]) -> Self {
        let mut counts = BTreeMap::<u8, u64>::new();
        for (upper_microseconds, count) in buckets {
            let counted = counts.entry(bucket(*upper_microseconds)).or_default();
            *counted = counted.saturating_add(*count);
        }
        counts.into_iter().collect()
    }

    /// Each bucket that is not empty, in order, with how many are in it.
    fn counts(&self) -> impl Iterator<Item = (u8, u64)> {
        let mut bytes = self.0.iter();
        std::iter::from_fn(move || {
            let bucket = *bytes.next()?;
            let (mut count, mut shift) = (0, 0);
            for byte in bytes.by_ref() {
                count |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            Some((bucket, count))
        })
    }

    /// How many buckets are not empty.
    pub(crate) fn buckets(&self) -> usize {
        self.counts().count()
    }

    /// How many are in it.
    pub(crate) fn count(&self) -> u64 {
        self.counts().map(|(_, count)| count).fold(0, u64::saturating_add)
    }

    /// What came since `before`. Empty in each bucket that has fewer now, as after a restart.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut before = before.counts().peekable();
        let more = self.counts().filter_map(|(bucket, count)| {
            while before.next_if(|(earlier, _)| *earlier < bucket).is_some() {}
            let known = before.next_if(|(same, _)| *same == bucket).map_or(0, |(_, count)| count);
            Some((bucket, count.saturating_sub(known))).filter(|(_, more)| *more > 0)
        });
        more.collect()
    }

    /// Both together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut counts: BTreeMap<u8, u64> = self.counts().collect();
        for (bucket, more) in other.counts() {
            let count = counts.entry(bucket).or_default();
            *count = count.saturating_add(more);
        }
        counts.into_iter().collect()
    }

    /// The milliseconds below which the share `quantile` (0 to 1) lies, if they are evenly spread in their bucket; right to
    /// some 6 %. `None` without values.
    #[allow(clippy::cast_precision_loss)] // counts of seconds, and nanoseconds below 2^52
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count() as f64;
        let mut below = 0.0;
        for (bucket, count) in self.counts() {
            let count = count as f64;
            if below + count >= rank {
                let (lower, upper) = (lower_bound(bucket) as f64, upper_bound(bucket) as f64);
                return Some((lower + (upper - lower) * ((rank - below) / count)) / 1e6);
            }
            below += count;
        }
        None
    }
}

impl FromIterator<(u8, u64)> for Histogram {
    /// In the order of the buckets.
    fn from_iter<T: IntoIterator<Item = (u8, u64)>>(counts: T) -> Self {
        let mut bytes = Vec::new();
        for (bucket, mut count) in counts {
            bytes.push(bucket);
            while count >= 0x80 {
                bytes.push(count.to_le_bytes()[0] | 0x80);
                count >>= 7;
            }
            bytes.push(count.to_le_bytes()[0]);
        }
        Self(bytes.into())
    }
}

/// The bucket that ends there. The bound was rounded down to a microsecond, so it lies within its own bucket.
fn bucket(upper_microseconds: u64) -> u8 {
    let nanoseconds = upper_microseconds.saturating_mul(1000);
    let Some(doubling) = (nanoseconds >> FIRST).checked_ilog2() else { return 0 };
    let part = (nanoseconds >> (FIRST + doubling - PARTS.ilog2())) % PARTS;
    let number = (1 + u64::from(doubling) * PARTS + part).min(LEN - 1);
    u8::try_from(number).expect("below LEN")
}

/// In nanoseconds.
fn upper_bound(bucket: u8) -> u64 {
    let (doubling, part) = (u32::from(bucket) / 8, u64::from(bucket) % PARTS);
    (PARTS + part) << (FIRST + doubling - PARTS.ilog2())
}

fn lower_bound(bucket: u8) -> u64 {
    bucket.checked_sub(1).map_or(0, upper_bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the proxy tells its bounds: in whole microseconds.
    fn told(bucket: u8) -> u64 {
        upper_bound(bucket) / 1000
    }

    #[test]
    fn every_bound_of_the_proxy_is_found_again() {
        for number in 0..u8::try_from(LEN - 1).unwrap() {
            assert_eq!(bucket(told(number)), number);
        }
        assert_eq!(u64::from(bucket(u64::MAX)), LEN - 1);
    }

    #[test]
    fn what_came_since_and_what_was_before_are_all() {
        let before = Histogram::of(&[(told(3), 5), (told(90), 1)]);
        let now = Histogram::of(&[(told(3), 9), (told(90), 1), (told(91), 2)]);
        let since = now.since(&before);
        assert_eq!(since, Histogram::of(&[(told(3), 4), (told(91), 2)]));
        assert_eq!(since.and(&before), now);
        assert_eq!(before.since(&now).count(), 0, "a restart has no negative counts");
    }

    #[test]
    fn counts_of_any_size_are_kept() {
        let counts = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX) + 1, u64::MAX];
        let counts: Vec<_> = (0_u8..).zip(counts).collect();
        let histogram: Histogram = counts.iter().copied().collect();
        assert_eq!(histogram.counts().collect::<Vec<_>>(), counts);
        assert_eq!(histogram.buckets(), counts.len());
    }

    #[test]
    fn percentiles_are_those_of_the_bucket_they_fall_into() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        let fast_and_slow = Histogram::of(&[(10_000, 90), (300_000, 10)]);
        let p50 = fast_and_slow.quantile(0.5).unwrap();
        let p99 = fast_and_slow.quantile(0.99).unwrap();
        assert!((8.0..=11.0).contains(&p50) && (260.0..=320.0).contains(&p99), "{p50} {p99}");
    }
}
