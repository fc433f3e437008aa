//! The end-to-end tests. One program and not one for each file, so that cases that want the chart installed in the same way share
//! an install. The test runner goes by name: what has the release to itself comes first, then everything else on one install.

// Every function here is part of a test: its panic is the report.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alone;
mod command;
mod shared;

use outrigger_api::names;

/// The label of namespaces and pods that are to be injected.
const ENABLED: (&str, &str) = (names::INJECT_LABEL, names::ENABLED);
