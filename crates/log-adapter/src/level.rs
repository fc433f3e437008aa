//! Severities, as every logger calls them, in six words.

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below debugging.
    Trace,
    /// For debugging.
    Debug,
    /// What happens in order.
    Info,
    /// What should not happen.
    Warn,
    /// What failed.
    Error,
    /// What ends the program, or should wake somebody.
    Fatal,
}

/// What loggers write, in lower case. Sorted by level for the reader.
const NAMES: [(&str, Level); 33] = [
    ("trace", Level::Trace),
    ("trc", Level::Trace),
    ("finest", Level::Trace),
    ("finer", Level::Trace),
    ("verbose", Level::Trace),
    ("debug", Level::Debug),
    ("dbg", Level::Debug),
    ("fine", Level::Debug),
    ("config", Level::Debug),
    ("d", Level::Debug),
    ("info", Level::Info),
    ("inf", Level::Info),
    ("information", Level::Info),
    ("informational", Level::Info),
    ("notice", Level::Info),
    ("i", Level::Info),
    ("warn", Level::Warn),
    ("wrn", Level::Warn),
    ("warning", Level::Warn),
    ("w", Level::Warn),
    ("error", Level::Error),
    ("err", Level::Error),
    ("severe", Level::Error),
    ("e", Level::Error),
    ("fatal", Level::Fatal),
    ("ftl", Level::Fatal),
    ("critical", Level::Fatal),
    ("crit", Level::Fatal),
    ("alert", Level::Fatal),
    ("emerg", Level::Fatal),
    ("panic", Level::Fatal),
    ("dpanic", Level::Fatal),
    ("f", Level::Fatal),
];

impl Level {
    /// The level of that name, whatever its case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        // None is longer; most texts that are no level end here.
        if name.len() > 13 {
            return None;
        }
        let known = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map(|(_, level)| *level)
    }

    /// The level of a number, as pino and bunyan write it: 10 for trace to 60 for fatal.
    pub fn from_number(number: &[u8]) -> Option<Self> {
        match number {
            b"10" => Some(Self::Trace),
            b"20" => Some(Self::Debug),
            b"30" => Some(Self::Info),
            b"40" => Some(Self::Warn),
            b"50" => Some(Self::Error),
            b"60" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// The level of a syslog severity, 0 to 7 (RFC 5424 section 6.2.1).
    pub fn from_syslog(severity: u32) -> Self {
        match severity {
            0..=2 => Self::Fatal,
            3 => Self::Error,
            4 => Self::Warn,
            5 | 6 => Self::Info,
            _ => Self::Debug,
        }
    }

    /// The level of an answer's status: a 5xx is an error of ours, all else happens in order.
    pub fn from_status(status: &[u8]) -> Self {
        if status.first() == Some(&b'5') { Self::Error } else { Self::Info }
    }

    /// Its name, and its `SeverityNumber` in OpenTelemetry.
    pub const fn words(self) -> (&'static str, u8) {
        match self {
            Self::Trace => ("trace", 1),
            Self::Debug => ("debug", 5),
            Self::Info => ("info", 9),
            Self::Warn => ("warn", 13),
            Self::Error => ("error", 17),
            Self::Fatal => ("fatal", 21),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_loggers_are_six_levels() {
        for (name, wanted) in [
            ("WARNING", Some(Level::Warn)),
            ("SEVERE", Some(Level::Error)),
            ("Information", Some(Level::Info)),
            ("CRITICAL", Some(Level::Fatal)),
            ("loud", None),
            ("", None),
        ] {
            assert_eq!(Level::parse(name.as_bytes()), wanted, "{name}");
        }
    }
}
