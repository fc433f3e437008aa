//! The vocabulary of Outrigger: what users write, what the injector leaves on a pod, what a sidecar reads.
//!
//! Types, defaults and validation only: no I/O, no async runtime, no Kubernetes client.

pub mod auth;
pub mod cidr;
pub mod circuit_breaker;
pub mod config;
pub mod grpc;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod origination;
pub mod overrides;
pub mod port;
pub mod probe;
pub mod profile;
pub mod quantity;
pub mod reason;
pub mod retries;
pub mod shared_volume;
pub mod skip;
pub mod span;
pub mod sync;
mod sync_limits;
pub mod sync_path;
pub mod tap;
pub mod tls;
pub mod traffic;
pub mod upstream;

mod external;
mod faults;
#[cfg(feature = "crd")]
mod schema;
#[cfg(feature = "crd")]
mod status;

pub use faults::Fault;
pub use reason::Reason;
