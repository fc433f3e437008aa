//! Durations as flags take them: one grammar for every program.

use std::time::Duration;

const DAY: u64 = 24 * 3600;
const LONGEST: u64 = 366 * DAY;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("it takes a whole number and a unit: 90s, 45m, 12h or 30d")]
    Syntax,
    /// So long that it must be a typing error, or would overflow a clock.
    #[error("it is longer than 366d")]
    TooLong,
}

/// Reads `25s`, `1m`, `12h` or `30d`; a number alone is seconds. Up to 366 days.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        _ => return Err(DurationError::Syntax),
    };
    // By hand, because `parse` would take `+25`.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Syntax);
    }
    // Only digits, so it can fail in one way: there are too many.
    let count: u64 = digits.parse().map_err(|_| DurationError::TooLong)?;
    let seconds = count.checked_mul(unit).filter(|seconds| *seconds <= LONGEST);
    seconds.map(Duration::from_secs).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        let cases = [
            ("25", Ok(25)),
            ("25s", Ok(25)),
            ("0", Ok(0)),
            ("1m", Ok(60)),
            ("1h", Ok(3600)),
            ("30d", Ok(30 * DAY)),
            ("366d", Ok(LONGEST)),
            ("367d", Err(DurationError::TooLong)),
            ("18446744073709551615d", Err(DurationError::TooLong)),
            ("99999999999999999999", Err(DurationError::TooLong)),
            ("", Err(DurationError::Syntax)),
            ("d", Err(DurationError::Syntax)),
            ("-1s", Err(DurationError::Syntax)),
            ("+1s", Err(DurationError::Syntax)),
            ("1.5h", Err(DurationError::Syntax)),
            ("1 h", Err(DurationError::Syntax)),
            ("3w", Err(DurationError::Syntax)),
            ("3é", Err(DurationError::Syntax)),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), wanted.map(Duration::from_secs), "{text:?}");
        }
    }
}
