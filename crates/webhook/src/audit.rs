//! Where the pods that run stand, beside what they would get if they were created now.
//!
//! Everything here is calculated; [`crate::overseer`] asks the API server and acts.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use json_patch::Patch;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ObjectReference;
use outrigger_api::names::{ENABLED, INJECT_LABEL, INJECTED_LABEL, STATUS_ANNOTATION};
use outrigger_inject::{Context, Namespace, Report, Standing, is_asked, is_live, may_be_asked, standing};
use serde_json::{Value, json};

use crate::events::owner;
use crate::known::Known;
use crate::pages::{Page, Place};

/// Namespaces with series of their own in the metric. The pods of the others are summed up as [`OTHER`].
const NAMESPACES: usize = 200;
/// The namespace of that sum. No namespace has an underscore in its name.
const OTHER: &str = "_other";
/// The most namespaces whose pods are listed one namespace after the other. From there on one list of the whole cluster, which has
/// fewer round trips, though pods in it are not ours.
const LISTS: usize = 50;
/// What [`INJECTED_LABEL`] says of each pod that has sidecars.
const INJECTED: &str = "true";
/// The standing of a pod at which the judgement panicked.
pub(crate) const UNKNOWN: &str = "unknown";
/// One pod that runs, and is ours to look at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) owner: Option<ObjectReference>,
    /// The profile of its sidecars, as `namespace/name`, where it has sidecars.
    pub(crate) profile: Option<String>,
    pub(crate) standing: &'static str,
    pub(crate) differences: Vec<String>,
    /// What brings it up to date as it runs.
    pub(crate) patch: Option<Patch>,
}

/// The pods that are looked at: every one of a namespace that asks for injection, those that ask for it themselves, and
/// those that have it.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    asking: BTreeSet<String>,
    /// The webhook configuration's.
    entries: Arc<[Value]>,
}

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pods: BTreeMap<(String, &'static str), i64>,
    /// Pods by the profile that they use.
    pub(crate) profiles: BTreeMap<String, i64>,
}

impl Scope {
    /// By the namespaces' labels, without the namespaces for which no API server calls us by this configuration.
    pub(crate) fn new(known: &Known, configuration: &MutatingWebhookConfiguration) -> Self {
        let entries = configuration.webhooks.iter().flatten().map(|entry| {
            json!({"namespaceSelector": entry.namespace_selector, "objectSelector": entry.object_selector})
        });
        let entries: Arc<[Value]> = entries.collect();
        let caches = known.read();
        let asks = |namespace: &&Namespace| {
            namespace.labels.get(INJECT_LABEL).is_some_and(|value| value == ENABLED)
                && may_be_asked(&entries, namespace)
        };
        let asking = caches.namespaces.values().filter(asks).map(|namespace| namespace.name.clone());
        Self { asking: asking.collect(), entries: Arc::clone(&entries) }
    }

    /// Where to list, so that no pod is seen twice by [`Scope::contains`].
    pub(crate) fn places(&self) -> Vec<Place> {
        if self.asking.len() > LISTS {
            return vec![Place::Everywhere];
        }
        let labels = [Place::Label(INJECT_LABEL, ENABLED), Place::Label(INJECTED_LABEL, INJECTED)];
        self.asking.iter().cloned().map(Place::Namespace).chain(labels).collect()
    }

    /// Whether the pod counts where it was listed.
    fn contains(&self, pod: &Value, place: &Place) -> bool {
        let (namespace, labels) = (text(pod, "/metadata/namespace"), &pod["metadata"]["labels"]);
        let (asks, asked_for) = (labels[INJECT_LABEL] == ENABLED, self.asking.contains(namespace));
        match place {
            Place::Namespace(_) => true,
            Place::Label(key, _) => !asked_for && (*key == INJECT_LABEL || !asks),
            Place::Everywhere => asked_for || asks || labels[INJECTED_LABEL] == INJECTED,
        }
    }

    /// Judges the pods of a page by `look`, and says how to go on. A pod at which that panics costs itself alone.
    pub(crate) fn judge(
        &self,
        page: &Page,
        place: &Place,
        look: impl Fn(&Value) -> Option<Found>,
    ) -> Result<(Vec<Found>, Option<String>), serde_json::Error> {
        let mut found = Vec::new();
        let next = page.each(|pod| {
            if is_live(&pod) && self.contains(&pod, place) {
                // Nothing is left half done: `look` changes nothing.
                let judged = catch_unwind(AssertUnwindSafe(|| look(&pod)));
                found.extend(judged.unwrap_or_else(|_| Some(Found::new(&pod, UNKNOWN))));
            }
        })?;
        Ok((found, next))
    }
}

impl Found {
    fn new(pod: &Value, standing: &'static str) -> Self {
        let namespace = text(pod, "/metadata/namespace");
        let status = pod["metadata"]["annotations"][STATUS_ANNOTATION].as_str();
        let report = status.and_then(|status| serde_json::from_str::<Report>(status).ok());
        Self {
            namespace: namespace.to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            owner: owner(pod, namespace),
            profile: report.map(|report| report.profile),
            standing,
            differences: Vec::new(),
            patch: None,
        }
    }
}

impl Census {
    pub(crate) fn count(&mut self, found: &Found) {
        *self.pods.entry((found.namespace.clone(), found.standing)).or_default() += 1;
        if let Some(profile) = &found.profile {
            *self.profiles.entry(profile.clone()).or_default() += 1;
        }
    }

    /// By namespace and standing, as the metric gives them.
    pub(crate) fn series(&self) -> BTreeMap<(&str, &'static str), i64> {
        let names: BTreeSet<_> = self.pods.keys().map(|(namespace, _)| namespace.as_str()).collect();
        let own: BTreeSet<_> = names.into_iter().take(NAMESPACES).collect();
        let mut series = BTreeMap::new();
        for ((namespace, standing), count) in &self.pods {
            let namespace = own.get(namespace.as_str()).copied().unwrap_or(OTHER);
            *series.entry((namespace, *standing)).or_default() += count;
        }
        series
    }

    /// By standing.
    pub(crate) fn totals(&self) -> BTreeMap<&'static str, i64> {
        let mut totals = BTreeMap::new();
        for ((_, standing), count) in &self.pods {
            *totals.entry(*standing).or_default() += count;
        }
        totals
    }
}

/// None for a pod that is rightly without sidecars, as one about which no API server asks us.
pub(crate) fn look(pod: &Value, known: &Known, scope: &Scope) -> Option<Found> {
    let namespace = text(pod, "/metadata/namespace");
    let judged = {
        // For one pod, so that a watch that has news never waits for a page.
        let caches = known.read();
        let (profiles, settings) = (&caches.profiles, &caches.settings);
        let namespace = caches.namespaces.get(namespace)?;
        let judged = standing(pod, &Context { namespace, profiles, settings, token: "" });
        let left_out = matches!(judged, Standing::Missing | Standing::Refused { .. });
        if left_out && !is_asked(&scope.entries, namespace, &pod["metadata"]["labels"]) {
            return None;
        }
        judged
    };
    let (standing, differences, patch) = match judged {
        Standing::Outside { .. } => return None,
        Standing::Missing => ("missing", Vec::new(), None),
        Standing::Current => ("current", Vec::new(), None),
        Standing::Refused { reason, errors } => {
            ("refused", errors.into_iter().map(|error| format!("{reason}: {error}")).collect(), None)
        }
        Standing::Reconfigurable { patch, differences } => ("reconfigurable", differences, Some(patch)),
        Standing::Outdated { differences } => ("outdated", differences, None),
    };
    Some(Found { differences, patch, ..Found::new(pod, standing) })
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(namespace: &str, standing: &'static str) -> Found {
        Found {
            namespace: namespace.into(),
            name: "web".into(),
            owner: None,
            profile: Some("outrigger/default".into()),
            standing,
            differences: Vec::new(),
            patch: None,
        }
    }

    #[test]
    fn series_are_bounded_and_no_pod_is_lost() {
        let mut census = Census::default();
        for number in 0..NAMESPACES + 50 {
            census.count(&found(&format!("team-{number:04}"), "current"));
            census.count(&found(&format!("team-{number:04}"), "missing"));
        }
        let series = census.series();
        assert_eq!(series.len(), 2 * NAMESPACES + 2);
        assert_eq!(series[&(OTHER, "missing")], 50);
        assert_eq!(series[&("team-0000", "missing")], 1);
        assert_eq!(census.totals()["current"], 250);
        assert_eq!(census.profiles["outrigger/default"], 500);
    }

    /// One such pod ended every audit of its cluster.
    #[test]
    fn a_pod_that_panics_the_judgement_costs_itself_alone() {
        let scope = Scope { asking: BTreeSet::from(["shop".to_owned()]), entries: Arc::default() };
        let pod = |name: &str| json!({"metadata": {"namespace": "shop", "name": name}});
        let page = Page::new(json!({"items": [pod("web-1"), pod("bad"), pod("web-2")]}).to_string());
        let look = |pod: &Value| {
            assert!(pod["metadata"]["name"] != "bad", "a bug");
            Some(Found::new(pod, "current"))
        };
        let (found, next) = scope.judge(&page, &Place::Namespace("shop".into()), look).unwrap();
        let found: Vec<_> = found.iter().map(|pod| (pod.name.as_str(), pod.standing)).collect();
        assert_eq!(found, [("web-1", "current"), ("bad", UNKNOWN), ("web-2", "current")]);
        assert_eq!(next, None);
    }

    #[test]
    fn pods_that_have_ended_or_are_going_do_not_run() {
        assert!(is_live(&json!({"metadata": {}, "status": {"phase": "Running"}})));
        assert!(is_live(&json!({"metadata": {}})));
        assert!(!is_live(&json!({"metadata": {}, "status": {"phase": "Succeeded"}})));
        assert!(!is_live(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    }
}
