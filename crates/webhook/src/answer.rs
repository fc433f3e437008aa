//! The `AdmissionReview` that goes back, as API servers expect it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_inject::Outcome;
use serde::Serialize;

use crate::decision;
use crate::review::API_VERSION;

/// API servers cut warnings off here, in characters.
const WARNING_LIMIT: usize = 256;
/// Status of a refused pod: the pod as written is invalid. 403 would send people looking for missing rights.
const INVALID: u16 = 422;

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
