//! How long to wait until the repository is asked again.

use std::time::Duration;

/// The longest wait of one who fails, unless the interval is longer.
const LONGEST: Duration = Duration::from_mins(5);
/// The first wait of an app that has nothing to start with.
const IMPATIENT: Duration = Duration::from_secs(1);

/// The wait after so many failures in a row. `chance`, from 0 to 1, spreads it by a tenth to both sides: the pods of a
/// Deployment start together and must not ask together for ever.
pub fn after(interval: Duration, failures: u32, has_content: bool, chance: f64) -> Duration {
    let first = if failures > 0 && !has_content { interval.min(IMPATIENT) } else { interval };
    let doubled =
        first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(u32::from(!has_content))));
    doubled.min(interval.max(LONGEST)).mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_a_bound() {
        let seconds = |failures, has_content| {
            // Half a second more, so that what is multiplied by fractions is not cut to the second before.
            let half = Duration::from_millis(500);
            (after(Duration::from_secs(30), failures, has_content, 0.5) + half).as_secs()
        };
        assert_eq!([0, 1, 2, 3, 4, 99].map(|failures| seconds(failures, true)), [30, 60, 120, 240, 300, 300]);
        assert_eq!([0, 1, 2, 3, 9, 99].map(|failures| seconds(failures, false)), [30, 1, 2, 4, 256, 300]);
    }

    #[test]
    fn chance_spreads_by_a_tenth() {
        let wait = |chance| after(Duration::from_secs(10), 0, true, chance);
        assert_eq!(wait(0.0), Duration::from_secs(9));
        assert!(wait(1.0) <= Duration::from_millis(11_001) && wait(1.0) > Duration::from_millis(10_900));
        assert_eq!(wait(f64::INFINITY), wait(1.0));
        let hour = Duration::from_hours(1);
        assert!(after(hour, 5, true, 0.5) <= hour.mul_f64(1.01));
    }
}
