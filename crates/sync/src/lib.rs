//! Outrigger's hot plug: a tag of a git repository becomes files beside an app, switched at once and checked before.
//!
//! `worker` is one entry's work from top to bottom. Each round of questions to the repository is a process of its own: `round` is what it
//! does, and `asking` the sidecar's side of it. There `tags` says which version is wanted and `state` what is done about it; neither
//! touches a file. `source` speaks to the repository, `checkout` writes a version out by the rules of `tree`, `checksums` and `signature`
//! judge it. In the sidecar again, `place` shows it to the app by one rename, and `app` tells the app and watches it.

pub mod admin;
pub mod app;
pub mod asking;
pub mod checkout;
pub mod checksums;
mod collector;
pub mod config;
pub mod failure;
pub mod pause;
pub mod place;
pub mod round;
pub mod signature;
pub mod source;
pub mod state;
pub mod status;
pub mod tags;
pub mod tree;
pub mod worker;
