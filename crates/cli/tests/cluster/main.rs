//! The commands that speak to a cluster, as a user meets them: the real program against a stand-in of an API server.
// A panic is a test's report, in the parts around the tests too; clippy's own exception sees only the test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod api;
mod check;
mod explain;
mod installed;
mod reconfigure;
