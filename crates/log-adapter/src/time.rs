//! Times, as every logger writes them, in one form.
//!
//! A time without a zone is taken to be in the zone of the profile, which is UTC by default, as in most images. A time without
//! a year or a date gets the one that brings it nearest before now, because a line was written before it is read.

use crate::cursor::Cursor;

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    pub seconds: i64,
    /// Nanoseconds after that.
    pub nanos: u32,
    /// How many digits of a second were written, 0 to 9: they are written out again, and no more.
    pub digits: u8,
}

/// What is needed to understand a time that leaves something out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Seconds east of UTC where no zone is written.
    pub utc_offset: i32,
    /// Seconds since the Unix epoch, now.
    pub now: i64,
}

const DAY: i64 = 86_400;
/// How far in the future a time may lie before its year, or its day, is taken to be the last one: clocks differ.
const SKEW: i64 = 3600;
/// Year 10000: what lies beyond has no RFC 3339 form.
const LAST: i64 = 253_402_300_800;
/// Year 0.
const FIRST: i64 = -62_167_219_200;

impl Timestamp {
    pub(crate) fn new(seconds: i64, nanos: u32, digits: u8) -> Option<Self> {
        (FIRST..LAST).contains(&seconds).then_some(Self { seconds, nanos, digits })
    }

    /// Writes it as RFC 3339 in UTC: `2026-11-21T12:00:00.123Z`.
    pub fn write(self, out: &mut Vec<u8>) {
        let (year, month, day) = civil(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let mut text = *b"0000-00-00T00:00:00";
        for (at, width, value) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, second / 3600),
            (14, 2, second / 60 % 60),
            (17, 2, second % 60),
        ] {
            put(&mut text[at..at + width], value);
        }
        out.extend_from_slice(&text);
        if self.digits > 0 {
            let mut fraction = *b".000000000";
            put(&mut fraction[1..], i64::from(self.nanos));
            out.extend_from_slice(&fraction[..=usize::from(self.digits)]);
        }
        out.push(b'Z');
    }
}

/// Decimal digits, from the right.
fn put(text: &mut [u8], value: i64) {
    // Every line has some twenty digits; of 32 bits and without a sign they take half the time.
    let mut value = u32::try_from(value).unwrap_or_default();
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

/// Year, month and day of a day since the epoch. Howard Hinnant's `civil_from_days`, for the proleptic Gregorian calendar:
/// <https://howardhinnant.github.io/date_algorithms.html>
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let moon = (5 * of_year + 2) / 153;
    let month = if moon < 10 { moon + 3 } else { moon - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * moon + 2) / 5 + 1)
}

/// The way back, `days_from_civil`; none for a day that the calendar does not have.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

impl Cursor<'_> {
    /// Exactly this many digits.
    fn number(&mut self, width: usize) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + width)?;
        let mut value = 0;
        for digit in digits {
            value = value * 10 + i64::from(digit.wrapping_sub(b'0'));
            if !digit.is_ascii_digit() {
                return None;
            }
        }
        self.at += width;
        Some(value)
    }

    /// `12:00:00` and what follows of a second: its seconds in the day, its nanoseconds and how many digits they had. A leap
    /// second is the one after.
    fn clock(&mut self) -> Option<(i64, u32, u8)> {
        let hour = self.number(2)?;
        self.eat(b":")?;
        let minute = self.number(2)?;
        self.eat(b":")?;
        let second = self.number(2)?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (nanos, digits) = self.fraction();
        Some((hour * 3600 + minute * 60 + second, nanos, digits))
    }

    fn fraction(&mut self) -> (u32, u8) {
        let separated = matches!(self.peek(), Some(b'.' | b','));
        if !separated || !self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            return (0, 0);
        }
        self.at += 1;
        let (mut nanos, mut digits) = (0, 0);
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            if digits < 9 {
                nanos = nanos * 10 + u32::from(digit - b'0');
                digits += 1;
            }
            self.at += 1;
        }
        (nanos * 10_u32.pow(9 - u32::from(digits)), digits)
    }

    /// `Z`, `+02:00`, `+0200` or `+02`: seconds east of UTC, less than a day (RFC 3339 section 5.6).
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.peek()? {
            b'Z' | b'z' => {
                self.at += 1;
                return Some(0);
            }
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let before = self.at;
        self.at += 1;
        let Some(hours) = self.number(2) else {
            self.at = before;
            return None;
        };
        let _ = self.eat(b":");
        let minutes = self.number(2).unwrap_or(0);
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }

    /// `2026-11-21T12:00:00.123+01:00`, also with a blank or slashes, a comma, without a zone or with a blank before it.
    pub(crate) fn iso_time(&mut self, clock: Clock) -> Option<Timestamp> {
        let year = self.number(4)?;
        let separator = self.peek().filter(|byte| matches!(byte, b'-' | b'/'))?;
        self.at += 1;
        let month = self.number(2)?;
        self.eat(&[separator])?;
        let day = self.number(2)?;
        self.peek().filter(|byte| matches!(byte, b'T' | b't' | b' '))?;
        self.at += 1;
        let (second, nanos, digits) = self.clock()?;
        let before = self.at;
        let _ = self.eat(b" ");
        let zone = self.zone().unwrap_or_else(|| {
            self.at = before;
            i64::from(clock.utc_offset)
        });
        Timestamp::new(days(year, month, day)? * DAY + second - zone, nanos, digits)
    }

    /// `10/Oct/2000:13:55:36 -0700`, of access logs.
    pub(crate) fn access_time(&mut self) -> Option<Timestamp> {
        let day = self.number(2)?;
        self.eat(b"/")?;
        let month = self.month()?;
        self.eat(b"/")?;
        let year = self.number(4)?;
        self.eat(b":")?;
        let (second, nanos, digits) = self.clock()?;
        self.eat(b" ")?;
        let zone = self.zone()?;
        Timestamp::new(days(year, month, day)? * DAY + second - zone, nanos, digits)
    }

    /// `Oct  1 13:55:36`, of BSD syslog (RFC 3164 section 4.1.2).
    pub(crate) fn bsd_time(&mut self, clock: Clock) -> Option<Timestamp> {
        let month = self.month()?;
        self.eat(b" ")?;
        let day = if self.eat(b" ").is_some() { self.number(1)? } else { self.number(2)? };
        self.eat(b" ")?;
        self.yearless(month, day, clock)
    }

    /// `1121 12:00:00.000000`, of klog.
    pub(crate) fn klog_time(&mut self, clock: Clock) -> Option<Timestamp> {
        let (month, day) = (self.number(2)?, self.number(2)?);
        self.eat(b" ")?;
        self.yearless(month, day, clock)
    }

    fn yearless(&mut self, month: i64, day: i64, clock: Clock) -> Option<Timestamp> {
        let (second, nanos, digits) = self.clock()?;
        let offset = i64::from(clock.utc_offset);
        let (year, ..) = civil((clock.now + offset).div_euclid(DAY));
        let in_year = |year| Some(days(year, month, day)? * DAY + second - offset);
        // From the next one, which the writer's clock may have reached first; eight, since February 29 may be as rare.
        let years = (year - 8..=year + 1).rev();
        let seconds = years.filter_map(in_year).find(|seconds| *seconds <= clock.now + DAY)?;
        Timestamp::new(seconds, nanos, digits)
    }

    /// `12:00:00.123` alone, of Logback.
    pub(crate) fn time_of_day(&mut self, clock: Clock) -> Option<Timestamp> {
        let (second, nanos, digits) = self.clock()?;
        let offset = i64::from(clock.utc_offset);
        let today = (clock.now + offset).div_euclid(DAY);
        // From tomorrow, which the writer's clock may have reached first.
        let days = [today + 1, today, today - 1].into_iter();
        let seconds = days.map(|day| day * DAY + second - offset).find(|time| *time <= clock.now + SKEW)?;
        Timestamp::new(seconds, nanos, digits)
    }

    fn month(&mut self) -> Option<i64> {
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let name = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.chunks_exact(3).position(|month| month == name)?;
        self.at += 3;
        i64::try_from(index + 1).ok()
    }
}

/// A time in whichever of the forms above, nothing after it.
pub(crate) fn parse_any(text: &[u8], clock: Clock) -> Option<Timestamp> {
    type Form = fn(&mut Cursor, Clock) -> Option<Timestamp>;
    let forms: [Form; 4] = [
        |at, clock| at.iso_time(clock),
        |at, _| at.access_time(),
        |at, clock| at.bsd_time(clock),
        |at, clock| at.time_of_day(clock),
    ];
    let read = |form: Form| {
        let mut cursor = Cursor::new(text);
        form(&mut cursor, clock).filter(|_| cursor.rest().is_empty())
    };
    forms.into_iter().find_map(read).or_else(|| parse_epoch(text))
}

/// A number since the epoch. Its size tells the unit: seconds have ten digits from 2001 to 2286, milliseconds 13,
/// microseconds 16, nanoseconds 19.
pub(crate) fn parse_epoch(number: &[u8]) -> Option<Timestamp> {
    let mut cursor = Cursor::new(number);
    let whole = cursor.digits()?;
    let (nanos, digits) = cursor.fraction();
    if !cursor.rest().is_empty() {
        return None;
    }
    let value: i64 = std::str::from_utf8(whole.of(number)).ok()?.parse().ok()?;
    let (a_second, decimals) = match whole.end {
        9 | 10 => return Timestamp::new(value, nanos, digits),
        12 | 13 => (1_000, 3),
        15 | 16 => (1_000_000, 6),
        18 | 19 => (1_000_000_000, 9),
        _ => return None,
    };
    let nanos = u32::try_from(value % a_second * (1_000_000_000 / a_second)).ok()?;
    Timestamp::new(value / a_second, nanos, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:00:00Z.
    const CLOCK: Clock = Clock { utc_offset: 0, now: 1_795_262_400 };

    fn written(text: &str, clock: Clock) -> String {
        let Some(time) = parse_any(text.as_bytes(), clock) else { return "none".to_owned() };
        let mut out = Vec::new();
        time.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_is_one_form() {
        for (text, wanted) in [
            ("2026-11-21T12:00:00.123456+01:00", "2026-11-21T11:00:00.123456Z"),
            ("2026-11-21 12:00:00,123", "2026-11-21T12:00:00.123Z"),
            ("2026-11-21 12:00:00 -0330", "2026-11-21T15:30:00Z"),
            ("2026/11/21 12:00:00", "2026-11-21T12:00:00Z"),
            ("10/Oct/2000:13:55:36 -0700", "2000-10-10T20:55:36Z"),
            ("Nov  1 01:02:03", "2026-11-01T01:02:03Z"),
            ("Dec 24 01:02:03", "2025-12-24T01:02:03Z"),
            ("11:59:59.5", "2026-11-21T11:59:59.5Z"),
            ("23:59:59", "2026-11-20T23:59:59Z"),
            ("1795262400", "2026-11-21T12:00:00Z"),
            ("1795262400.25", "2026-11-21T12:00:00.25Z"),
            ("1795262400123", "2026-11-21T12:00:00.123Z"),
            ("1795262400123456789", "2026-11-21T12:00:00.123456789Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("2026-13-21T12:00:00Z", "none"),
            ("2026-02-29T12:00:00Z", "none"),
            ("2100-02-29T12:00:00Z", "none"),
            ("2026-04-31T12:00:00Z", "none"),
            ("2000-02-29T12:00:00Z", "2000-02-29T12:00:00Z"),
            ("Feb 29 12:00:00", "2024-02-29T12:00:00Z"),
            ("2026-11-21T12:00:00+99:99", "none"),
            ("2026-11-21T12:00:00+24:00", "none"),
            ("2026-11-21T12:00:00+0060", "none"),
            ("2026-11-21T12:00:00-23:59", "2026-11-22T11:59:00Z"),
            ("2026-11-21T12:00:00Zebra", "none"),
            ("soon", "none"),
            ("", "none"),
        ] {
            assert_eq!(written(text, CLOCK), wanted, "{text}");
        }
    }

    #[test]
    fn zone_of_the_profile_holds_where_none_is_written() {
        let clock = Clock { utc_offset: 7200, ..CLOCK };
        assert_eq!(written("2026-11-21 12:00:00", clock), "2026-11-21T10:00:00Z");
        assert_eq!(written("2026-11-21 12:00:00Z", clock), "2026-11-21T12:00:00Z");
        assert_eq!(written("13:59:00", clock), "2026-11-21T11:59:00Z");
    }

    /// They were a year, or a day, off where the local date was ahead of that of UTC, or the writer's clock of the reader's.
    #[test]
    fn what_is_left_out_of_a_time_is_right_at_new_year() {
        // 2026-12-31T23:30:00Z.
        let ahead = Clock { utc_offset: 3600, now: 1_798_759_800 };
        assert_eq!(written("Jan  1 00:29:59", ahead), "2026-12-31T23:29:59Z");
        assert_eq!(written("Dec 31 23:59:59", ahead), "2026-12-31T22:59:59Z");
        assert_eq!(written("00:29:59", ahead), "2026-12-31T23:29:59Z");
        let behind = Clock { utc_offset: -3600, now: ahead.now + 3600 };
        assert_eq!(written("Dec 31 23:29:59", behind), "2027-01-01T00:29:59Z");
        let last_second = Clock { utc_offset: 0, now: 1_798_761_599 };
        assert_eq!(written("Jan  1 00:00:00", last_second), "2027-01-01T00:00:00Z");
        assert_eq!(written("00:00:00", last_second), "2027-01-01T00:00:00Z");
        let mut klog = Cursor::new(b"0101 00:00:00.5");
        assert_eq!(klog.klog_time(last_second).map(|time| time.seconds), Some(last_second.now + 1));
    }
}
