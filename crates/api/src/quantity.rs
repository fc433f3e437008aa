//! Resource quantities (`10m`, `64Mi`), checked before the API server does.

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(feature = "crd")]
use crate::schema::rule;

/// A non-negative resource quantity in the form of Kubernetes, kept as it was written.
///
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "String")]
pub struct Quantity(String);

/// Why a text is no quantity.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no resource quantity: a number with a unit, as 10m, 0.5, 64Mi or 1G")]
pub struct QuantityError(String);

/// Units in thousandths (`m`) of one, so that every CPU and memory value compares as a whole number.
const UNITS: [(&str, u128); 14] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

impl Quantity {
    /// Parses a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        thousandths(text).map(|_| Self(text.to_owned())).ok_or_else(|| QuantityError(format!("{text:?}")))
    }

    /// The text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is more than the other, whatever the units: `1Gi` exceeds `1000Mi`.
    pub fn exceeds(&self, other: &Self) -> bool {
        thousandths(&self.0) > thousandths(&other.0)
    }

    /// The value, rounded up: bytes where it is one of memory.
    pub fn bytes(&self) -> u64 {
        let thousandths = thousandths(&self.0).unwrap_or(0);
        u64::try_from(thousandths.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

/// The value in thousandths, rounded up. Exponents (`1e3`) are legal in Kubernetes and rare: they are not taken here.
fn thousandths(text: &str) -> Option<u128> {
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || number.len() > 15 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((mantissa * unit).div_ceil(scale))
}

impl TryFrom<serde_json::Value> for Quantity {
    type Error = QuantityError;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        match value {
            serde_json::Value::String(text) => Self::parse(&text),
            // `cpu: 1` is as good as `cpu: "1"`.
            other => Self::parse(&other.to_string()),
        }
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // As `Quantity::parse`, which leaves out the exponents and signs of `isQuantity`.
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "nullable": false,
            "maxLength": 63,
            "x-kubernetes-validations": [rule(
                "type(self) == int ? self >= 0 && self < 1000000000000000 : \
                 self.matches('^([0-9]{1,15}|[0-9]{0,13}[.][0-9]{1,13}|[0-9]{1,13}[.])(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$')",
                "it takes a number with a unit, as 10m, 0.5, 64Mi or 1G",
            )],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compare_across_units() {
        let q = |text| Quantity::parse(text).unwrap();
        assert!(q("1Gi").exceeds(&q("1000Mi")));
        assert!(q("0.2").exceeds(&q("100m")));
        assert!(q("1Gi").exceeds(&q("1G")));
        assert!(!q("1024Mi").exceeds(&q("1Gi")) && !q("1Gi").exceeds(&q("1024Mi")));
    }

    #[test]
    fn a_quantity_of_memory_is_so_many_bytes() {
        for (text, bytes) in
            [("64Mi", 64 << 20), ("1.5k", 1500), ("7", 7), ("1m", 1), ("999999999999999Ei", u64::MAX)]
        {
            assert_eq!(Quantity::parse(text).unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn what_the_api_server_would_refuse_is_no_quantity() {
        for text in ["", "m", "-1", "10 Mi", "10MB", "ten", ".", "1.2.3", "0x10"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_a_quantity() {
        assert_eq!(serde_json::from_str::<Quantity>("1").unwrap().as_str(), "1");
        assert_eq!(serde_json::from_str::<Quantity>("0.5").unwrap().as_str(), "0.5");
    }
}
