//! The mesh, shared between those who ask sidecars and those who look.

use std::sync::{Arc, Mutex, PoisonError};

use crate::mesh::Mesh;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Mesh>>);

impl Shared {
    /// Changes it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Mesh) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T {
        self.change(|mesh| look(mesh))
    }
}
