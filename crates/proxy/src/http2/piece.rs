//! A piece of a body that stands in the proxy.

use bytes::{Buf, Bytes};

use crate::buffer::Held;

/// What each takes beside its bytes, in queues of ours and of `h2`.
const OVERHEAD: usize = 128;

/// Counts as memory in use until its last byte is written, or its stream is given up: `h2` drops it then.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    held: Held,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        let held = Held::new(bytes.len() + OVERHEAD);
        Self { bytes, held }
    }
}

impl Piece {
    /// Cuts off so much of its beginning.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let part = self.bytes.split_to(length).into();
        self.held = Held::new(self.bytes.len() + OVERHEAD);
        part
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, length: usize) {
        self.bytes.advance(length);
    }
}
