//! An `AdmissionReview` in and out: what we read of it, and what API servers expect back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_inject::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision;

/// The only version that we speak, and that API servers have spoken since 1.16.
const API_VERSION: &str = "admission.k8s.io/v1";
/// API servers cut warnings off here, in characters.
const WARNING_LIMIT: usize = 256;
/// Status of a refused pod: the pod as written is invalid. 403 would send people looking for missing rights.
const INVALID: u16 = 422;

/// Why a body is no review that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not the shape of a review.
    #[error("failed to parse admission review: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Another kind or version.
    #[error(
        "apiVersion {api_version:?} kind {kind:?} is not understood: it takes {API_VERSION} AdmissionReview"
    )]
    Version {
        /// What it says.
        api_version: String,
        /// What it says.
        kind: String,
    },
    /// Without it there is nothing to answer to.
    #[error("{0} is missing or empty in the admission review")]
    Missing(&'static str),
}

/// The question.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What the answer has to repeat.
    #[serde(default)]
    pub uid: String,
    /// Kind of the object.
    #[serde(default)]
    pub kind: GroupVersionKind,
    /// Namespace of the request. The object's own may be empty.
    #[serde(default)]
    pub namespace: String,
    /// Empty where the API server generates the name later.
    #[serde(default)]
    pub name: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub operation: String,
    /// As in `pods/ephemeralcontainers`; empty for the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// Whether nothing is to be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The object, raw.
    #[serde(default)]
    pub object: Value,
}

/// Kind of an object.
#[derive(Debug, Default, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// As `v1`.
    #[serde(default)]
    pub version: String,
    /// As `Pod`.
    #[serde(default)]
    pub kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

impl Request {
    /// Reads the body of a request. Fields that we don't use, such as `oldObject`, are passed over, not kept.
    pub fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let Review { api_version, kind, request } = serde_json::from_slice(body)?;
        if api_version != API_VERSION || kind != "AdmissionReview" {
            return Err(ReviewError::Version { api_version, kind });
        }
        let request = request.ok_or(ReviewError::Missing("request"))?;
        if request.uid.is_empty() {
            return Err(ReviewError::Missing("request.uid"));
        }
        Ok(request)
    }

    /// Why this is not for us; none if it is the creation of a pod.
    pub fn out_of_scope(&self) -> Option<String> {
        let GroupVersionKind { group, version, kind } = &self.kind;
        let what = if !(group.is_empty() && version == "v1" && kind == "Pod") {
            format!("kind {kind:?} in {group}/{version}")
        } else if !self.sub_resource.is_empty() {
            format!("subresource {:?}", self.sub_resource)
        } else if self.operation != "CREATE" {
            format!("operation {:?}", self.operation)
        } else {
            return None;
        };
        Some(format!("outrigger: {what} left alone: only the creation of pods is looked at"))
    }

    /// What people call the pod: its name, or what its name will begin with.
    pub fn pod_name(&self) -> &str {
        let metadata = |field| self.object["metadata"][field].as_str().filter(|name| !name.is_empty());
        let own = (!self.name.is_empty()).then_some(self.name.as_str());
        own.or_else(|| metadata("name")).or_else(|| metadata("generateName")).unwrap_or("")
    }
}

/// The answer, as it goes over the wire.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct AuditAnnotations<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: &'a Response<'a>,
}

impl<'a> Response<'a> {
    /// Leaves the object as it is and tells the user why.
    pub fn left_alone(uid: &'a str, reason: &'a str, warning: &str) -> Self {
        Self { warnings: vec![fit(warning)], ..Self::allowed(uid, reason) }
    }

    /// What injection has decided.
    pub fn decided(uid: &'a str, outcome: &'a Outcome) -> Result<Self, serde_json::Error> {
        Ok(match outcome {
            Outcome::Injected { patch, report } => Self {
                patch_type: Some("JSONPatch"),
                patch: Some(STANDARD.encode(serde_json::to_vec(patch)?)),
                warnings: report.warnings.iter().map(|text| fit(&format!("outrigger: {text}"))).collect(),
                audit_annotations: Some(AuditAnnotations {
                    reason: decision::INJECTED,
                    profile: Some(&report.profile),
                }),
                ..Self::allowed(uid, decision::INJECTED)
            },
            Outcome::Skipped { reason, message } => Self {
                warnings: (!decision::expected(*reason))
                    .then(|| fit(&format!("outrigger: not injected: {reason}: {message}")))
                    .into_iter()
                    .collect(),
                ..Self::allowed(uid, reason.code())
            },
            Outcome::Rejected { reason, errors } => Self {
                allowed: false,
                status: Some(Status {
                    code: INVALID,
                    reason: "Invalid",
                    message: format!("{reason}: {}", errors.join("; ")),
                }),
                ..Self::allowed(uid, reason.code())
            },
        })
    }

    /// The whole body.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Answer { api_version: API_VERSION, kind: "AdmissionReview", response: self })
    }

    fn allowed(uid: &'a str, reason: &'a str) -> Self {
        Self {
            uid,
            allowed: true,
            patch_type: None,
            patch: None,
            warnings: Vec::new(),
            audit_annotations: Some(AuditAnnotations { reason, profile: None }),
            status: None,
        }
    }
}

/// One line of at most [`WARNING_LIMIT`] characters: a warning travels in a header.
fn fit(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= WARNING_LIMIT {
        return line.collect();
    }
    line.take(WARNING_LIMIT - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fit_a_header() {
        assert_eq!(fit("two\nlines\r"), "two lines ");
        let long = fit(&"é".repeat(400));
        assert_eq!(long.chars().count(), WARNING_LIMIT);
        assert!(long.ends_with('…'));
        assert_eq!(fit(&"é".repeat(WARNING_LIMIT)), "é".repeat(WARNING_LIMIT));
    }
}
