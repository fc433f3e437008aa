//! What every server of Outrigger shares: logging, metrics, the admin server, shutdown and drain.
//!
//! Small on purpose: a sidecar links all of it, and idles beside every pod of a cluster.

pub mod accept;
pub mod admin;
pub mod bearer;
pub mod bind;
pub mod duration;
pub mod log;
pub mod metrics;
mod process;
pub mod readiness;
pub mod shutdown;
