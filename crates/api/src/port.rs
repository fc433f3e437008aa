//! How a profile or annotation points at a container port: by name, by number, or all of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(feature = "crd")]
use crate::schema::rule;

/// A container port, as users write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortRef {
    /// `"*"`: every declared port, and with redirection those that no container declares too.
    #[default]
    All,
    /// The port of that number.
    Number(u16),
    /// The port of that name.
    Name(String),
}

/// Why a text names no port.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no port: a port name (at most 15 of a-z, 0-9 and -, with a letter), a number from 1 to 65535, or \"*\""
)]
pub struct PortRefError(String);

impl PortRef {
    /// Whether it points at the port of this name and number.
    pub fn matches(&self, name: Option<&str>, number: u16) -> bool {
        match self {
            Self::All => true,
            Self::Number(wanted) => *wanted == number,
            Self::Name(wanted) => Some(wanted.as_str()) == name,
        }
    }
}

impl FromStr for PortRef {
    type Err = PortRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.parse::<u16>() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ if is_port_name(text) => Ok(Self::Name(text.to_owned())),
            _ => Err(PortRefError(text.to_owned())),
        }
    }
}

/// Whether the text is an `IANA_SVC_NAME`, the form of port names in Kubernetes (RFC 6335 section 5.1).
pub fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u16(*number),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Both `port: 8080` and `port: "8080"` are common in manifests; a number out of range gets our message,
        // not serde's "did not match any variant".
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            // As the API server sees it: null is the same as absent, and absent is the default.
            serde_json::Value::Null => return Ok(Self::default()),
            other => return Err(serde::de::Error::custom(PortRefError(other.to_string()))),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for PortRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "nullable": false,
            // Of what is refused: what a rule costs is reckoned from it. As in `is_port_name`.
            "maxLength": 63,
            "x-kubernetes-validations": [rule(
                "type(self) == int ? self >= 1 && self <= 65535 : self == '*' \
                 || self.matches('^0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$') \
                 || (self.size() <= 15 && self.matches('^([0-9]+-?)*[a-z](-?[a-z0-9])*$'))",
                "it takes a port name (at most 15 of a-z, 0-9 and -, with a letter), a number from 1 to 65535, or \"*\"",
            )],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_the_star_are_ports() {
        assert_eq!("*".parse::<PortRef>().unwrap(), PortRef::All);
        assert_eq!("8080".parse::<PortRef>().unwrap(), PortRef::Number(8080));
        assert_eq!("http-web".parse::<PortRef>().unwrap(), PortRef::Name("http-web".into()));
    }

    #[test]
    fn what_is_neither_text_nor_number_is_no_port() {
        assert_eq!(serde_json::from_str::<PortRef>("null").unwrap(), PortRef::All);
        for json in ["true", "[]", "{}", "-1", "80.5"] {
            assert!(serde_json::from_str::<PortRef>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_kubernetes_would_refuse_is_no_port() {
        for text in ["", "0", "65536", "HTTP", "a--b", "-a", "a-", "123-", "sixteen-letters-", "http,https"] {
            assert!(text.parse::<PortRef>().is_err(), "{text}");
        }
    }
}
