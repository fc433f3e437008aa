//! A request's body, read whole, with a bound on what all bodies in flight may take together.
//!
//! 512 connections with the largest body each would be 2 GiB, and the process has 128 MiB. So what is beyond a small
//! body's size comes out of one budget; where that is used up, the answer is a 429 at once. A small one asks nobody: a
//! client that sends large bodies can't keep pods of the usual size from being admitted.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest body. API servers take no request beyond 3 MiB, and etcd no object beyond 1.5 MiB; a review has its envelope
/// beside the object. A pod as JSON values takes up to some ten times its text, so this bounds the process too.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;
/// Bodies up to this size are outside the budget: some twenty times that of a usual pod, and 32 MiB on 512 connections.
const SMALL: usize = 64 * 1024;
/// What all larger bodies may take together.
const BUDGET: usize = 16 * 1024 * 1024;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More than any pod can have.
    #[error("body is too large: it takes at most {LIMIT} bytes")]
    TooLarge,
    /// Others use up the budget.
    #[error("failed to read body: larger ones in flight use up the memory; try again in a second")]
    Overloaded,
    /// It broke off.
    #[error("failed to read body: {0}")]
    Broken(axum::Error),
}

/// The budget; clones share it.
#[derive(Clone, Debug)]
pub struct Bodies(Arc<Semaphore>);

/// A body, and its part of the budget until it is dropped.
#[derive(Debug)]
pub struct Whole {
    /// What was sent.
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::within(BUDGET)
    }
}

impl Bodies {
    /// With this many bytes for all bodies that are not small.
    pub fn within(budget: usize) -> Self {
        Self(Arc::new(Semaphore::new(budget)))
    }

    /// Reads `body` to its end. Its share grows with what has come: a client that announces much and sends little takes
    /// little. One for which there is no room is read on and dropped, since a connection that is closed over unread bytes
    /// is reset, and the client may never see the answer.
    pub async fn read(&self, body: Body) -> Result<Whole, BodyError> {
        if body.size_hint().lower() > LIMIT as u64 {
            return Err(BodyError::TooLarge);
        }
        let (mut read, mut kept, mut share, mut room) = (0, BytesMut::new(), None, true);
        let mut frames = body.into_data_stream();
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(BodyError::Broken)?;
            read += frame.len();
            if read > LIMIT {
                return Err(BodyError::TooLarge);
            }
            if room && read > SMALL {
                room = self.grow(&mut share, read);
            }
            if room {
                kept.extend_from_slice(&frame);
            } else {
                (kept, share) = (BytesMut::new(), None);
            }
        }
        if room { Ok(Whole { bytes: kept.freeze(), _share: share }) } else { Err(BodyError::Overloaded) }
    }

    /// Makes the share `size` bytes; false if there is no room for that.
    fn grow(&self, share: &mut Option<OwnedSemaphorePermit>, size: usize) -> bool {
        let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(size - held).expect("no body is larger than its limit");
        let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(more) else { return false };
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    /// A body of `size` bytes in pieces, whose length is not announced.
    fn body(size: usize) -> Body {
        let piece = move |at: usize| Ok::<_, Infallible>(vec![b'x'; (size - at).min(16 * 1024)]);
        Body::from_stream(stream::iter((0..size).step_by(16 * 1024).map(piece)))
    }

    #[tokio::test]
    async fn large_bodies_share_the_budget_and_small_ones_pass() {
        let bodies = Bodies::within(300_000);
        let first = bodies.read(body(200_000)).await.unwrap();
        assert_eq!(first.bytes.len(), 200_000);
        assert!(matches!(bodies.read(body(200_000)).await, Err(BodyError::Overloaded)));
        let second = bodies.read(body(100_000)).await.unwrap();
        assert!(matches!(bodies.read(body(SMALL + 1)).await, Err(BodyError::Overloaded)));
        assert_eq!(bodies.read(body(SMALL)).await.unwrap().bytes.len(), SMALL);
        drop((first, second));
        bodies.read(body(300_000)).await.unwrap();
    }

    #[tokio::test]
    async fn body_beyond_the_limit_is_refused_whether_it_is_announced_or_not() {
        let bodies = Bodies::default();
        for body in [body(LIMIT + 1), Body::from(vec![b'x'; LIMIT + 1])] {
            assert!(matches!(bodies.read(body).await, Err(BodyError::TooLarge)));
        }
        assert_eq!(bodies.read(body(LIMIT)).await.unwrap().bytes.len(), LIMIT);
    }
}
