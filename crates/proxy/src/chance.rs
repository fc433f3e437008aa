//! Chance, for what should not happen to many proxies at the same time.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Marsaglia's xorshift: it need not be more random than to keep proxies apart.
#[derive(Debug)]
pub(crate) struct Chance(Cell<u64>);

impl Chance {
    pub(crate) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0) | 1))
    }

    /// From 0 to 1.
    pub(crate) fn next(&self) -> f64 {
        let mut random = self.0.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.0.set(random);
        #[allow(clippy::cast_precision_loss)] // 53 bits have a place
        let chance = (random >> 11) as f64 / (1_u64 << 53) as f64;
        chance
    }
}
