//! How the decision about a pod was reached, for people and for tools.

use outrigger_api::Reason;
use outrigger_api::config::SidecarConfig;
use outrigger_api::names::{ENABLED, INJECT_LABEL, PREFIX, PROFILE_ANNOTATION};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::Refusal;
use crate::overrides::{self, KNOBS};
use crate::place::{self, Place};
use crate::plan::{self, Planned};
use crate::pod::Pod;
use crate::{Context, Report, interception, profile_name, status, uninject};

/// The steps to a decision about one pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether the pod carries sidecars already. Everything else here is about the pod without them.
    pub injected: bool,
    /// The label that decides; none where neither the pod nor its namespace has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_in: Option<OptIn>,
    /// The profile.
    pub profile: ProfileChoice,
    /// Annotations that override single values of the profile.
    pub overrides: Vec<Override>,
    /// How traffic would reach the proxy; none where there is no sound profile to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interception: Option<Choice>,
    /// What becomes of the pod.
    #[serde(flatten)]
    pub decision: Decision,
    /// What would become of it if a label opted it in; none where one does. So nobody labels a pod only to meet the next
    /// obstacle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub once_opted_in: Option<Decision>,
}

/// The label that opts in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptIn {
    /// Its key, [`INJECT_LABEL`].
    pub label: &'static str,
    /// Its value.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// Which profile, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileChoice {
    /// Its name.
    pub name: String,
    /// Where the annotation stands that names it; none for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_by: Option<Place>,
    /// The profile found, as `namespace/name`; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// An annotation that overrides one value of the profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Its key.
    pub annotation: String,
    /// Its value, sound or not.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// Something chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// What was chosen.
    pub value: String,
    /// Why, as a sentence.
    pub why: String,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Decision {
    /// It gets sidecars.
    Injected {
        /// What is added and replaced.
        report: Box<Report>,
        /// What the user should know.
        warnings: Vec<String>,
        /// What the sidecars run by, the profile's policies with all defaults among it. Without the token.
        config: Box<SidecarConfig>,
    },
    /// It stays without.
    Skipped {
        /// Why.
        reason: Reason,
        /// The case at hand.
        message: String,
        /// What to change.
        remedy: &'static str,
    },
    /// It is refused.
    Rejected {
        /// Why.
        reason: Reason,
        /// Every fault, one sentence each.
        errors: Vec<String>,
        /// What to change.
        remedy: &'static str,
    },
}

/// Explains the decision about a pod, or about the template of one. Sidecars that it has are thought away, so that the
/// explanation of a running pod says what it got and why.
pub fn explain(pod: &Value, context: &Context) -> Explanation {
    let mut bare = pod.clone();
    let status = status::read(pod).ok();
    if let Some(status) = &status {
        uninject::take_out(&mut bare, status);
    }
    let view = Pod::unchecked(&bare);
    let profile = profile_choice(&bare, context);
    let decision = decision(&bare, context);
    Explanation {
        injected: status.is_some(),
        opt_in: opt_in(view, context),
        interception: interception(view, &profile, context),
        overrides: KNOBS.iter().filter_map(|knob| given(view, context, knob)).collect(),
        profile,
        once_opted_in: is_not_opted_in(&decision).then(|| once_opted_in(bare.clone(), context)),
        decision,
    }
}

fn is_not_opted_in(decision: &Decision) -> bool {
    let by_label = [Reason::NotOptedIn, Reason::OptedOut, Reason::InvalidLabel];
    matches!(decision, Decision::Skipped { reason, .. } if by_label.contains(reason))
}

fn once_opted_in(mut pod: Value, context: &Context) -> Decision {
    if let Some(labels) = pod.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(INJECT_LABEL);
    }
    let mut namespace = context.namespace.clone();
    namespace.labels.insert(INJECT_LABEL.to_owned(), ENABLED.to_owned());
    decision(&pod, &Context { namespace: &namespace, ..*context })
}

fn opt_in(pod: Pod, context: &Context) -> Option<OptIn> {
    let of_namespace =
        |value: &String| OptIn { label: INJECT_LABEL, value: value.clone(), place: Place::Namespace };
    let on_pod = pod.at("/metadata/labels/outrigger.dev~1inject");
    let on_pod = on_pod.map(|value| OptIn {
        label: INJECT_LABEL,
        // What is no text shows itself as JSON does.
        value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        place: Place::Pod,
    });
    on_pod.or_else(|| context.namespace.labels.get(INJECT_LABEL).map(of_namespace))
}

fn profile_choice(pod: &Value, context: &Context) -> ProfileChoice {
    let name = profile_name(pod, context.namespace);
    let found = context.profiles.find(&context.namespace.name, name);
    ProfileChoice {
        name: name.to_owned(),
        named_by: place::annotation(Pod::unchecked(pod), context.namespace, PROFILE_ANNOTATION)
            .map(|(_, place)| place),
        id: found.map(|found| format!("{}/{name}", found.namespace)),
    }
}

fn given(pod: Pod, context: &Context, knob: &str) -> Option<Override> {
    let annotation = format!("{PREFIX}{knob}");
    let (value, place) = place::annotation(pod, context.namespace, &annotation)?;
    Some(Override { value: value.to_owned(), annotation, place })
}

fn interception(pod: Pod, profile: &ProfileChoice, context: &Context) -> Option<Choice> {
    let found = context.profiles.find(&context.namespace.name, &profile.name)?;
    let spec = found.parsed.as_ref().ok()?;
    let effective = overrides::apply(spec.clone(), pod, context.namespace).ok()?;
    let wanted = effective.profile.interception;
    Some(interception::choose(wanted, pod, context.namespace, context.settings.cluster).choice())
}

fn decision(pod: &Value, context: &Context) -> Decision {
    match plan::plan(pod, context, Vec::new()) {
        Ok(Planned { mut report, mut config, .. }) => {
            let warnings = std::mem::take(&mut report.warnings);
            config.token.clear();
            Decision::Injected { report: Box::new(report), warnings, config: Box::new(config) }
        }
        Err(Refusal::Skipped { reason, message }) => {
            Decision::Skipped { reason, message, remedy: reason.remedy() }
        }
        Err(Refusal::Rejected { reason, errors }) => {
            Decision::Rejected { reason, errors, remedy: reason.remedy() }
        }
    }
}
