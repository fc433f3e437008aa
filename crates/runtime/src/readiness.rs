//! Whether a server should get traffic, and if not, what it waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named conditions that must all hold. Clones share them.
///
/// With no condition declared it is ready: declare them before the admin server starts.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    conditions: BTreeMap<&'static str, bool>,
    draining: bool,
}

/// One condition of a [`Readiness`].
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Declares a condition, which doesn't hold yet. The name is what `/ready` says is missing: `certificate`.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.state().conditions.entry(name).or_insert(false);
        Condition { name, readiness: self.clone() }
    }

    /// Not ready from now on, whatever the conditions say: the process is about to go.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// What is missing, by name; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let state = self.state();
        if state.draining {
            return vec!["draining"];
        }
        let unmet = state.conditions.iter().filter(|(_, holds)| !**holds);
        unmet.map(|(name, _)| *name).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code path leaves a half-written state, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// Says whether it holds.
    pub fn set(&self, holds: bool) {
        self.readiness.state().conditions.insert(self.name, holds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_holds_and_never_while_draining() {
        let readiness = Readiness::default();
        let (certificate, profiles) = (readiness.condition("certificate"), readiness.condition("profiles"));
        assert_eq!(readiness.missing(), ["certificate", "profiles"]);
        certificate.set(true);
        profiles.set(true);
        assert!(readiness.missing().is_empty());
        readiness.drain();
        assert_eq!(readiness.missing(), ["draining"]);
    }
}
