//! `outrigger webhook`: the admission server.

use anyhow::Context as _;
use kube::Client;
use outrigger_runtime::{log, shutdown};
use outrigger_webhook::Options;

use crate::error::Verdict;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: Options) -> anyhow::Result<Verdict> {
    let log = log::init(&options.log_level, options.log_format)?;
    // One thread: a decision takes some 100 µs of CPU, and a second thread would cost more in memory than it gains.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        shutdown::on_signal(trigger).context("failed to catch signals")?;
        let client = Client::try_default().await.context("failed to find the cluster")?;
        outrigger_webhook::run(options, client, log, shutdown).await?;
        Ok(Verdict::Good)
    })
}
