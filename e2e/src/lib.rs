//! What the end-to-end tests are written in: namespaces that come and go, manifests, the real helm, and waiting.
//!
//! Nothing here knows what a test wants to show; nothing in `tests/` talks to Kubernetes by another way than this.
// Everything here is part of a test: its panic is the report.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod cluster;
pub mod eventually;
pub mod injected;
pub mod left_over;
pub mod manifest;
pub mod metrics;
pub mod namespace;
pub mod prometheus;
pub mod release;
pub mod served;

pub use eventually::eventually;
pub use namespace::{Namespace, with_namespace};
pub use release::Release;
