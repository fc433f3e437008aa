//! Where a pod that exists stands, beside what it would get if it were created now.

use json_patch::{Patch, PatchOperation, TestOperation};
use outrigger_api::Reason;
use outrigger_api::names::{CONFIG_ANNOTATION, PROXY_CONTAINER};
use serde::Serialize;
use serde_json::Value;

use crate::edit::{escape, pointer};
use crate::outcome::Refusal;
use crate::pod::Pod;
use crate::renewal::{Renewal, carries_sidecars, renew};
use crate::{Context, UninjectError, plan, status, uninject};

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "standing", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Standing {
    /// Without sidecars, and rightly so.
    Outside {
        /// Why.
        reason: Reason,
        /// A sentence that tells the user what to do.
        message: String,
    },
    /// It would be refused if it were created now.
    Refused {
        /// Why.
        reason: Reason,
        /// Every fault, one sentence each.
        errors: Vec<String>,
    },
    /// It would be injected and is not: it was created before its label, or while the webhook was down.
    Missing,
    /// Its sidecars are those that it would get now.
    Current,
    /// Only its sidecar config differs, which a running sidecar takes as it runs.
    Reconfigurable {
        /// Writes config and status; the pod keeps its token. Refused by the API server where the config annotation has
        /// changed since.
        patch: Patch,
        /// What differs, one sentence each.
        differences: Vec<String>,
    },
    /// It takes a new pod to get what it would get now.
    Outdated {
        /// What differs, one sentence each.
        differences: Vec<String>,
    },
}

impl Standing {
    /// It in one word, as in the JSON: `missing`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "outside",
            Self::Refused { .. } => "refused",
            Self::Missing => "missing",
            Self::Current => "current",
            Self::Reconfigurable { .. } => "reconfigurable",
            Self::Outdated { .. } => "outdated",
        }
    }
}

/// Whether a pod runs or is about to: it has not ended, and nobody has deleted it.
pub fn is_live(pod: &Value) -> bool {
    let ended = pod["status"]["phase"].as_str().is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase));
    !ended && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Compares a pod with what it would get now. It looks at what injection owns and at nothing else, so that defaults that
/// the API server filled in, a mounted token or a container of another injector make no difference.
///
/// Whether the pod still runs is not asked: of a pod that has completed, nobody wants to know.
pub fn standing(pod: &Value, context: &Context) -> Standing {
    let status = match status::read(pod) {
        // Annotations are copied with a template, and the pods of it may have come while no webhook answered.
        Ok(status) if !carries_sidecars(pod, &status) => {
            let mut bare = pod.clone();
            uninject::take_out(&mut bare, &status);
            return without_sidecars(&bare, context);
        }
        Ok(status) => status,
        Err(UninjectError::NotInjected) => return without_sidecars(pod, context),
        Err(_) if Pod::unchecked(pod).container(PROXY_CONTAINER).is_none() => {
            return without_sidecars(pod, context);
        }
        // A status that can't be read can't be renewed either; the webhook says the same of such a pod.
        Err(error) => return Standing::Outdated { differences: vec![error.to_string()] },
    };
    match renew(pod, &status, context) {
        Ok(renewal) => compared(pod, renewal),
        Err(Refusal::Skipped { reason: reason @ Reason::MirrorPod, message }) => {
            Standing::Outside { reason, message }
        }
        Err(Refusal::Skipped { reason, message }) => Standing::Outdated {
            differences: vec![format!("would get no sidecars now: {reason}: {message}")],
        },
        Err(Refusal::Rejected { reason, errors }) => Standing::Refused { reason, errors },
    }
}

fn without_sidecars(pod: &Value, context: &Context) -> Standing {
    match plan::plan(pod, context, Vec::new()) {
        Ok(_) => Standing::Missing,
        Err(Refusal::Skipped { reason, message }) => Standing::Outside { reason, message },
        Err(Refusal::Rejected { reason, errors }) => Standing::Refused { reason, errors },
    }
}

fn compared(pod: &Value, renewal: Renewal) -> Standing {
    let Renewal { patch, structural, live, .. } = renewal;
    if !structural.is_empty() {
        return Standing::Outdated { differences: [structural, live].concat() };
    }
    if live.is_empty() {
        return Standing::Current;
    }
    let before = pod["metadata"]["annotations"].get(CONFIG_ANNOTATION).map(|config| {
        let path = pointer(&format!("/metadata/annotations/{}", escape(CONFIG_ANNOTATION)));
        PatchOperation::Test(TestOperation { path, value: config.clone() })
    });
    Standing::Reconfigurable { patch: Patch(before.into_iter().chain(patch.0).collect()), differences: live }
}
