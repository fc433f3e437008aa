//! Sends a pod's traffic through its proxy: one table of nftables rules in the pod's own network namespace.
//!
//! `rules` says what they are, `expressions` how the kernel is told, `message` how its messages are framed, `kernel` is the only
//! part that talks to it.

mod expressions;
pub mod kernel;
mod message;
pub mod rules;
mod text;
