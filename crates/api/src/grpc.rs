//! gRPC's own statuses, which tell how a call went where the HTTP status is 200 anyway.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What calls by gRPC end with, each at its number: <https://grpc.io/docs/guides/status-codes/>.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A status by which a call failed: one of [`NAMES`] but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// The failures of a server, as against those of a call.
    pub(crate) const OF_SERVERS: [Self; 4] = [Self(14), Self(13), Self(4), Self(15)];

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Serialize for GrpcCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(NAMES[usize::from(self.0)])
    }
}

impl<'de> Deserialize<'de> for GrpcCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let found = (1..).zip(&NAMES[1..]).find(|(_, name)| value == **name);
        match found {
            Some((number, _)) => Ok(Self(number)),
            // What stands in for a faulty element of a list, whose fault is told already.
            None if value == serde_json::json!({}) => Ok(Self(2)),
            None => {
                let known = NAMES[1..].join(", ");
                Err(serde::de::Error::custom(format!(
                    "{value} is no status of a failure: it takes one of {known}"
                )))
            }
        }
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for GrpcCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GrpcCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "enum": NAMES[1..]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_numbers_of_grpc() {
        for (name, number) in
            [("CANCELLED", 1), ("INTERNAL", 13), ("UNAVAILABLE", 14), ("UNAUTHENTICATED", 16)]
        {
            let code: GrpcCode = serde_json::from_value(name.into()).unwrap();
            assert_eq!((code.number(), serde_json::json!(code)), (number, name.into()));
        }
    }
}
