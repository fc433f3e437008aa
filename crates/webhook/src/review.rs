//! An `AdmissionReview` as it comes in: what we read of it.

use serde::Deserialize;
use serde_json::Value;

/// The only version that we speak, and that API servers have spoken since 1.16.
pub(crate) const API_VERSION: &str = "admission.k8s.io/v1";
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
