//! `outrigger collector`: watches all sidecars and serves the dashboard.

use anyhow::Context as _;
use kube::Client;
use outrigger_collector::{Options, Source};
use outrigger_runtime::{log, shutdown};
use tokio::task::LocalSet;

use crate::error::Verdict;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: Options) -> anyhow::Result<Verdict> {
    let log = log::init(&options.log_level, options.log_format)?;
    // One thread: a poll takes some 50 µs of CPU.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let collector = async {
        let (trigger, shutdown) = shutdown::channel();
        shutdown::on_signal(trigger).context("failed to catch signals")?;
        let source = match &options.pods {
            Some(file) => Source::File(file.clone()),
            None => Source::Cluster(Client::try_default().await.context("failed to find the cluster")?),
        };
        outrigger_collector::run(options, source, log, shutdown).await?;
        Ok(Verdict::Good)
    };
    LocalSet::new().block_on(&runtime, collector)
}
