//! The profiles that pods can name, and where they are looked up.

use std::collections::BTreeMap;

use outrigger_api::Fault;
use outrigger_api::profile::SidecarProfileSpec;
use serde_json::Value;

/// Every profile of a cluster, sound or not. A faulty one is kept with its faults, so that a pod that names it is told
/// what is wrong and not that the profile does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    release_namespace: String,
    by_namespace: BTreeMap<String, BTreeMap<String, Parsed>>,
}

/// A profile as it was read.
pub(crate) type Parsed = Result<SidecarProfileSpec, Vec<Fault>>;

/// A profile found, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) parsed: &'a Parsed,
}

impl Profiles {
    /// No profiles yet. Those of `release_namespace` serve every namespace.
    pub fn new(release_namespace: impl Into<String>) -> Self {
        Self { release_namespace: release_namespace.into(), by_namespace: BTreeMap::new() }
    }

    /// Adds a profile, or replaces it. Whether that gives pods anything else than before.
    pub fn set(&mut self, namespace: &str, name: &str, spec: &Value) -> bool {
        let profiles = self.by_namespace.entry(namespace.to_owned()).or_default();
        let parsed = SidecarProfileSpec::parse(spec);
        let changed = profiles.get(name) != Some(&parsed);
        profiles.insert(name.to_owned(), parsed);
        changed
    }

    /// Takes a profile out; nothing happens if it is not there.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(profiles) = self.by_namespace.get_mut(namespace) {
            profiles.remove(name);
            if profiles.is_empty() {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// How many there are, in all namespaces.
    pub fn count(&self) -> usize {
        self.by_namespace.values().map(BTreeMap::len).sum()
    }

    /// Whether a pod of `namespace` that names this profile would find one.
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.find(namespace, name).is_some()
    }

    /// Looks in the pod's namespace, then in the release namespace.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Found<'_>> {
        self.places(namespace).find_map(|place| {
            let (namespace, profiles) = self.by_namespace.get_key_value(place)?;
            profiles.get(name).map(|parsed| Found { namespace, parsed })
        })
    }

    /// The profiles that a pod of `namespace` can name, as `namespace/name`.
    pub(crate) fn choices(&self, namespace: &str) -> Vec<String> {
        self.places(namespace)
            .filter_map(|place| self.by_namespace.get_key_value(place))
            .flat_map(|(place, profiles)| profiles.keys().map(move |name| format!("{place}/{name}")))
            .collect()
    }

    fn places<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        let release = (namespace != self.release_namespace).then_some(self.release_namespace.as_str());
        std::iter::once(namespace).chain(release)
    }
}
