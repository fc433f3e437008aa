//! What is known of all entries, for `/stats`, the metrics and the startup probe. The workers write, the admin thread reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use outrigger_runtime::readiness::Condition;
use serde::Serialize;

use crate::failure::{Failure, Reason};
use crate::state::{Bad, State};

/// The entries of this sidecar.
#[derive(Clone, Debug)]
pub struct Statuses {
    entries: Arc<Vec<Mutex<Entry>>>,
    content: Condition,
}

/// One entry.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// As in the profile.
    pub container: String,
    /// As in the profile.
    pub path: String,
    /// Whether the app has something to start with.
    pub has_content: bool,
    /// The tag or branch that is served; none before the first, and while it is the fallback.
    pub version: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Whether the app has yet to show that it can live with it.
    pub on_trial: bool,
    /// What is wrong now.
    pub failure: Option<Trouble>,
    /// The versions that are not taken again, the newest first.
    pub bad: Vec<BadVersion>,
    /// When the repository was asked last, and when it last answered.
    pub asked: Option<Timestamp>,
    /// See `asked`.
    pub answered: Option<Timestamp>,
    /// How often it was asked.
    pub polls: u64,
    /// How often another version was put in place.
    pub switches: u64,
    /// How often one was put back.
    pub rollbacks: u64,
    /// Failures by their codes.
    #[serde(skip)]
    pub failures: BTreeMap<Reason, u64>,
}

/// What is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// Its code.
    pub reason: Reason,
    /// In words.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// A version that is not taken again.
#[derive(Clone, Debug, Serialize)]
pub struct BadVersion {
    /// The tag or branch.
    pub version: String,
    /// The commit.
    pub commit: String,
    /// What was wrong with it.
    pub reason: String,
    /// When that was found.
    pub since: Option<Timestamp>,
}

impl Statuses {
    /// Those of entries of these containers and paths. `content` holds as soon as each of them has some.
    pub fn new(entries: impl Iterator<Item = (String, String)>, content: Condition) -> Self {
        let entry = |(container, path)| Mutex::new(Entry { container, path, ..Entry::default() });
        let statuses = Self { entries: Arc::new(entries.map(entry).collect()), content };
        statuses.look();
        statuses
    }

    /// All of them.
    pub fn all(&self) -> Vec<Entry> {
        self.entries.iter().map(|entry| locked(entry).clone()).collect()
    }

    /// Changes one of them.
    pub fn change(&self, at: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get(at) {
            change(&mut locked(entry));
        }
        self.look();
    }

    fn look(&self) {
        self.content.set(self.entries.iter().all(|entry| locked(entry).has_content));
    }
}

fn locked(entry: &Mutex<Entry>) -> MutexGuard<'_, Entry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    /// Takes over what is known of the versions.
    pub fn show(&mut self, state: &State, has_content: bool) {
        let current = state.current.as_ref();
        self.has_content = has_content;
        self.version = current.map(|version| version.offer.name.clone());
        self.commit = current.map(|version| version.offer.commit.clone());
        self.since = current.and_then(|version| Timestamp::from_second(version.since).ok());
        self.on_trial = state.on_trial;
        self.bad = state.bad.iter().map(BadVersion::from).collect();
    }

    /// Takes over how a round ended. Says whether that is news.
    pub fn ended(&mut self, result: &Result<(), Failure>) -> bool {
        let Err(failure) = result else { return self.failure.take().is_some() };
        let (reason, message) = (failure.reason(), failure.to_string());
        *self.failures.entry(reason).or_default() += 1;
        let is_known = self.failure.as_ref().is_some_and(|known| known.message == message);
        if !is_known {
            self.failure = Some(Trouble { reason, message, since: Timestamp::now() });
        }
        !is_known
    }
}

impl From<&Bad> for BadVersion {
    fn from(bad: &Bad) -> Self {
        Self {
            version: bad.offer.name.clone(),
            commit: bad.offer.commit.clone(),
            reason: bad.reason.clone(),
            since: Timestamp::from_second(bad.at).ok(),
        }
    }
}
