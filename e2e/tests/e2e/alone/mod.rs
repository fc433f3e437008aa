//! Cases that disturb the release, or want it otherwise than it is by default: one at a time, each with the cluster's only release to
//! itself. Each says which values it needs, so their order does not matter; what it leaves otherwise than these say, it puts back or uninstalls.

mod autoscaling;
mod availability;
mod certificates;
mod monitoring;
mod operator;
mod overseer;
mod release;
mod talk;
