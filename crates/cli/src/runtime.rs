//! The async runtime of commands that speak to a cluster.

use anyhow::Context as _;

/// Runs a command to its end, on one thread.
pub(crate) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the async runtime")?.block_on(command)
}
