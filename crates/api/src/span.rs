//! Lengths of time, as users write them: `500ms`, `5s`, `1m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(feature = "crd")]
use crate::schema::rule;

/// A length of time, from 1 ms to 24 h. Kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    text: String,
    length: Duration,
}

/// Why a text is no length of time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no length of time: it takes a number with ms, s, m or h, as 500ms or 5s, at most 24h")]
pub struct SpanError(String);

const MOST: Duration = Duration::from_hours(24);

impl Span {
    /// How long it is.
    pub const fn length(&self) -> Duration {
        self.length
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SpanError(text.to_owned());
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok().filter(|_| (1..=8).contains(&digits)).ok_or_else(error)?;
        let length = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number * 60),
            "h" => Duration::from_secs(number * 3600),
            _ => return Err(error()),
        };
        if length.is_zero() || length > MOST {
            return Err(error());
        }
        Ok(Self { text: text.to_owned(), length })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 10,
            "x-kubernetes-validations": [rule(
                "self.matches('^[0-9]{1,8}(ms|s|m|h)$') && duration(self) >= duration('1ms') && duration(self) <= duration('24h')",
                "it takes a number with ms, s, m or h, as 500ms or 5s, at most 24h",
            )],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_number_and_a_unit() {
        for (text, millis) in
            [("1ms", 1), ("005s", 5000), ("90s", 90_000), ("2m", 120_000), ("24h", 86_400_000)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.length().as_millis(), span.to_string().as_str()), (millis, text));
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "1 s", "5S", "25h", "1d", "123456789ms", "5s5"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
