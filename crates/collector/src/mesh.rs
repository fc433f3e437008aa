//! All pods that are watched, and their services.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::figures::{Figures, History};
use crate::pod::{Key, Pod};
use crate::stats::Stats;
use crate::sync::Synced;
use crate::watched::Watched;

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    pods: BTreeMap<Key, Watched>,
    services: BTreeMap<Key, History>,
    /// Pods that are not watched because there are too many.
    pub(crate) left_out: usize,
}

impl Mesh {
    /// This pod is there, for the first time or with another object.
    pub(crate) fn put(&mut self, pod: Arc<Pod>, now: Instant) {
        match self.pods.get_mut(&pod.key) {
            Some(watched) => watched.replace(pod),
            None => {
                self.pods.insert(pod.key.clone(), Watched::new(pod, now));
            }
        }
    }

    /// This pod is no more. It is shown for a while.
    pub(crate) fn delete(&mut self, key: &Key, now: Instant) {
        if let Some(watched) = self.pods.get_mut(key) {
            watched.delete(now);
        }
    }

    /// A pod answered.
    pub(crate) fn answered(&mut self, key: &Key, stats: Stats, now: Instant) {
        if let Some(watched) = self.pods.get_mut(key) {
            watched.answered(stats, now);
        }
    }

    /// A pod did not.
    pub(crate) fn failed(&mut self, key: &Key, why: &str) {
        if let Some(watched) = self.pods.get_mut(key) {
            watched.failed(why);
        }
    }

    /// So many bytes of its logs wait.
    pub(crate) fn log_lag(&mut self, key: &Key, bytes: Option<u64>) {
        if let Some(watched) = self.pods.get_mut(key) {
            watched.log_lag = bytes;
        }
    }

    /// Its content sync told of its files, or did not answer.
    pub(crate) fn synced(&mut self, key: &Key, entries: Option<Vec<Synced>>) {
        if let Some(watched) = self.pods.get_mut(key) {
            watched.synced = entries;
        }
    }

    /// A step of the history has passed.
    pub(crate) fn step(&mut self, now: Instant) {
        self.pods.retain(|_, watched| !watched.is_over(now));
        let mut services = BTreeMap::<Key, Option<Figures>>::new();
        for watched in self.pods.values_mut() {
            let figures = watched.step();
            let all = services.entry(watched.pod.service()).or_default();
            if let Some(figures) = figures {
                *all = Some(all.take().map_or(figures.clone(), |all| all.and(&figures)));
            }
        }
        self.services.retain(|key, _| services.contains_key(key));
        for (key, figures) in services {
            self.services.entry(key).or_default().push(figures.as_ref());
        }
    }

    /// All pods, by namespace and name.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Watched> {
        self.pods.values()
    }

    /// One pod.
    pub(crate) fn pod(&self, key: &Key) -> Option<&Watched> {
        self.pods.get(key)
    }

    /// The pods of each service.
    pub(crate) fn by_service(&self) -> BTreeMap<Key, Vec<&Watched>> {
        let mut services = BTreeMap::<_, Vec<_>>::new();
        for watched in self.pods.values() {
            services.entry(watched.pod.service()).or_default().push(watched);
        }
        services
    }

    /// The last quarter of an hour of a service.
    pub(crate) fn history(&self, service: &Key) -> Option<&History> {
        self.services.get(service)
    }
}
