//! What the watches have told us about the cluster, as far as injection looks at it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kube::core::ObjectMeta;
use outrigger_api::names;
use outrigger_inject::{Namespace, Profiles, Settings};
use tokio::sync::Notify;

/// Namespaces, profiles and versions. Clones share them.
///
/// A lock rather than a copy on each change: readers hold it for one decision, and all run on one thread.
#[derive(Clone, Debug)]
pub struct Known {
    caches: Arc<RwLock<Caches>>,
    changed: Arc<Notify>,
}

/// What an admission goes by.
#[derive(Debug)]
pub struct Caches {
    /// By name.
    pub namespaces: HashMap<String, Namespace>,
    /// All profiles of the cluster.
    pub profiles: Profiles,
    /// How this installation injects, and into what kind of cluster.
    pub settings: Settings,
}

impl Known {
    /// Knows nothing of the cluster yet.
    pub fn new(release_namespace: &str, settings: Settings) -> Self {
        let profiles = Profiles::new(release_namespace);
        let caches = RwLock::new(Caches { namespaces: HashMap::new(), profiles, settings });
        Self { caches: Arc::new(caches), changed: Arc::default() }
    }

    /// For one decision; never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Caches> {
        // A panic elsewhere leaves no half-written entry behind.
        self.caches.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, which says whether it was one: that wakes who waits for [`Known::changed`]. Watches also tell of what an
    /// admission never looks at, such as the status that we write ourselves.
    pub fn change(&self, change: impl FnOnce(&mut Caches) -> bool) {
        if change(&mut self.caches.write().unwrap_or_else(PoisonError::into_inner)) {
            self.changed.notify_one();
        }
    }

    /// Waits for a change since the last wait. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A namespace by its metadata: its labels, and of its annotations ours and OpenShift's user ids. Others can be large (kubectl
/// keeps whole manifests there) and no rule reads them.
pub fn namespace(metadata: ObjectMeta) -> Namespace {
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.retain(|key, _| key.starts_with(names::PREFIX) || key == names::OPENSHIFT_UID_RANGE);
    Namespace {
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations,
    }
}
