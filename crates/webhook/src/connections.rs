//! The open connections, and which of them goes when there are too many.
//!
//! Waiting for a free place would let any client that opens enough connections, and says nothing on them, stop every
//! admission. So a new one always gets a place: that of the connection without progress for longest. Progress is a
//! request begun or an answer given; a byte dripped now and then is none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Clones share the places.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    open: Arc<Mutex<BTreeMap<u64, Arc<State>>>>,
    /// Counts progress, so that no two connections have the same.
    clock: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    progress: AtomicU64,
    closed: Notify,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    state: Arc<State>,
    connections: Connections,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), open: Arc::default(), clock: Arc::default() }
    }

    /// A place for one more, and whether another connection had to go for it.
    pub(crate) async fn enter(&self) -> (Place, bool) {
        let (permit, evicted) = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => (permit, false),
            // The one that is told to go drops its permit as soon as its task runs.
            Err(_) => (self.evict_and_wait().await, true),
        };
        let id = self.tick();
        let state = Arc::new(State { progress: AtomicU64::new(id), closed: Notify::new() });
        self.open().insert(id, Arc::clone(&state));
        (Place { id, state, connections: self.clone(), _permit: permit }, evicted)
    }

    async fn evict_and_wait(&self) -> OwnedSemaphorePermit {
        // Hundreds at most, and looked through only while the places are full.
        let stuck = self.open().values().min_by_key(|state| state.progress.load(Ordering::Relaxed)).cloned();
        if let Some(state) = stuck {
            state.closed.notify_one();
        }
        Arc::clone(&self.places).acquire_owned().await.expect("nobody closes this semaphore")
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<State>>> {
        // A panic elsewhere leaves no half-made entry behind.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection has begun a request or answered one.
    pub(crate) fn progress(&self) {
        self.state.progress.store(self.connections.tick(), Ordering::Relaxed);
    }

    /// Waits until another connection needs the place.
    pub(crate) async fn needed(&self) {
        self.state.closed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn connection_without_progress_for_longest_makes_room() {
        let connections = Connections::new(3);
        let (first, second, third) =
            (connections.enter().await.0, connections.enter().await.0, connections.enter().await.0);
        first.progress();
        let fourth = connections.enter();
        tokio::pin!(fourth);
        assert!(fourth.as_mut().now_or_never().is_none(), "the place is not free yet");
        assert!(
            second.needed().now_or_never().is_some(),
            "it came before the third and has done nothing since"
        );
        assert!(first.needed().now_or_never().is_none() && third.needed().now_or_never().is_none());
        drop(second);
        let (fourth, evicted) = fourth.await;
        assert!(evicted);
        drop(fourth);
        assert!(!connections.enter().await.1, "there is a place again");
    }
}
