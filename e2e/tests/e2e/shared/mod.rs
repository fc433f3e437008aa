//! Cases that run side by side, each in a namespace of its own, on one install of the chart with its default values.

mod circuit_breaker;
mod cli;
mod corpus;
mod dashboard;
mod guard;
mod interception;
mod lifecycle;
mod logs;
mod pods;
mod policies;
mod profiles;
mod rollout;
mod sync;

use outrigger_e2e::{Namespace, Release, with_namespace};

/// A namespace on a cluster where the chart is installed.
async fn in_namespace<Test, Running>(labels: &[(&str, &str)], test: Test)
where
    Test: FnOnce(Namespace) -> Running,
    Running: Future<Output = ()>,
{
    let _release = Release::shared().await;
    with_namespace(labels, test).await;
}
