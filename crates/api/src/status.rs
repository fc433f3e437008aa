//! What the webhook reports about a profile, in its `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// How a profile fares. Written by the webhook, as of its last look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarProfileStatus {
    /// The `metadata.generation` that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many pods use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<i32>,
    /// `Valid`: whether pods can use it. `False` with every fault in `message`, for a profile that was stored before the
    /// API server knew to refuse it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

impl SidecarProfileStatus {
    /// Type of the condition that tells whether pods can use the profile.
    pub const VALID: &str = "Valid";
}

/// The schema of a list of conditions. k8s-openapi could give it, with a feature that has every Kubernetes type derive one.
///
/// <https://kubernetes.io/docs/reference/kubernetes-api/definitions/condition-v1-meta/>
fn conditions(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What it is about."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation that it is about.",
                },
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Since when."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, for people."},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_that_says_nothing_is_empty() {
        assert_eq!(serde_json::to_value(SidecarProfileStatus::default()).unwrap(), json!({}));
    }
}
