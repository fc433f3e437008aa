//! How many requests in a time: a bucket of tokens. Time is an argument.

use std::time::{Duration, Instant};

/// Tokens come evenly, as many as there is room for; each request takes one.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Between two tokens.
    each: Duration,
    /// How long it takes from empty to full.
    room: Duration,
    /// When it was, or will be, empty. A full bucket is empty at most `room` ago: this one number is all its state.
    empty: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(requests: u32, per: Duration, burst: u32, now: Instant) -> Self {
        let each = (per / requests.max(1)).max(Duration::from_nanos(1));
        let room = each.saturating_mul(burst.max(1));
        Self { each, room, empty: now.checked_sub(room).unwrap_or(now) }
    }

    /// Takes a token. Where there is none: after how long there will be.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let oldest = now.checked_sub(self.room).unwrap_or(self.empty);
        let next = self.empty.max(oldest) + self.each;
        if next > now {
            return Err(next - now);
        }
        self.empty = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        (0..1000).take_while(|_| bucket.take(now).is_ok()).count()
    }

    #[test]
    fn tokens_come_evenly_and_no_more_than_there_is_room_for() {
        let start = Instant::now() + 1000 * SECOND;
        let mut bucket = Bucket::new(10, SECOND, 20, start);
        assert_eq!(taken(&mut bucket, start), 20);
        assert_eq!(bucket.take(start), Err(SECOND / 10));
        assert_eq!(taken(&mut bucket, start + SECOND / 2), 5);
        assert_eq!(taken(&mut bucket, start + SECOND), 5);
        assert_eq!(taken(&mut bucket, start + 100 * SECOND), 20);
    }

    #[test]
    fn one_a_minute_is_one_a_minute() {
        let start = Instant::now() + 1000 * SECOND;
        let mut bucket = Bucket::new(1, 60 * SECOND, 1, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start + SECOND), Err(59 * SECOND));
        assert_eq!(bucket.take(start + 60 * SECOND), Ok(()));
    }
}
