//! `outrigger check`: whether a cluster is ready for Outrigger, whether injection works, and which pods were missed.

mod before;
mod certificate;
mod crd;
mod line;
mod pods;
mod proof;
mod registration;
mod rights;
mod webhook;

use std::time::{Duration, Instant};

use outrigger_inject::Version;
use outrigger_runtime::duration;

use crate::cluster::{AskError, Cluster, ClusterArgs};
use crate::error::{Hinted, Verdict};
use crate::flag;
use crate::installation;
use crate::judge::Judge;
use crate::output::{self, Format};
use crate::runtime;
use line::Lines;

/// What there is to say about an installation.
const AFTER: [&str; 11] = [
    "Registration",
    "OtherWebhooks",
    "CustomResourceDefinition",
    "Profiles",
    "Replicas",
    "Version",
    "WebhookRights",
    "Certificate",
    "Injection",
    "MissedPods",
    "OutdatedPods",
];

/// Looks for what is wrong with an installation, with each finding the command that mends it
///
/// Injection is proved by a labelled pod that is created as a dry run: the API server has to reach the webhook, accept its
/// certificate, and get the sidecar back. Nothing is left behind, and nothing is changed.
///
/// What you have no right to look at is skipped, and named at the end, with all that goes by it.
///
/// Exit code: 0 all that could be looked at is good; 1 something was found; 2 it could not be looked at.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger check --pre                             before `helm install`: is the cluster ready, and may you?
  outrigger check                                   everything, in every namespace
  outrigger check --namespace shop --timeout 60s    one namespace, and patience with a webhook that is starting
  outrigger check -o json | jq '.checks[] | select(.result != \"good\")'")]
pub(crate) struct Args {
    /// Before the installation: versions, your rights, and names that are taken
    #[arg(long)]
    pre: bool,

    /// Namespace to try a pod in, and the only one whose pods are looked at. Default: that of the context, and pods of all.
    /// It must not be the webhook's own or one that the chart excludes
    #[arg(short, long, value_name = "NAMESPACE", value_parser = flag::namespace)]
    namespace: Option<String>,

    /// How long to go on trying to reach the API server, and a pod: right after an installation it may not know the webhook yet
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,

    /// With --pre: the name that the release is to have
    #[arg(long, value_name = "NAME", default_value = "outrigger")]
    release: String,

    /// With --pre: the namespace that the release is to have
    #[arg(long, value_name = "NAMESPACE", value_parser = flag::namespace, default_value = "outrigger-system")]
    release_namespace: String,

    /// How to print what is found
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    let lines = runtime::block_on(async {
        let cluster = args.cluster.connect().await?;
        let mut lines = Lines::new(args.output);
        let version = api_server(&cluster, args.timeout, &mut lines).await.map_err(Hinted::from)?;
        if args.pre {
            before::check(&cluster, &args.release, &args.release_namespace, &mut lines).await;
        } else {
            after(&cluster, args, version, &mut lines).await;
        }
        lines.end_progress();
        anyhow::Ok(lines)
    })?;
    output::print(args.output, &lines, Lines::text)?;
    Ok(lines.verdict())
}

/// The API server's version, an error where there is none: nothing else would have an answer. Asked again until `patience` has
/// passed, because a pod that has just started, as the chart's check, may have no network yet.
async fn api_server(
    cluster: &Cluster,
    patience: Duration,
    lines: &mut Lines,
) -> Result<Option<Version>, AskError> {
    lines.progress("the API server");
    let deadline = Instant::now() + patience;
    loop {
        match installation::server_version(cluster).await {
            Err(AskError::Unreachable { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(version) => {
                before::api_version(&version, lines);
                return Ok(version.parse().ok());
            }
            error @ Err(AskError::Forbidden { .. }) => {
                lines.answer(before::API, error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Everything about an installation that is there.
async fn after(cluster: &Cluster, args: &Args, server: Option<Version>, lines: &mut Lines) {
    let installation = registration::check(cluster, lines).await;
    crd::check(cluster, true, lines).await;
    let mut settings = None;
    if let Some(installation) = &installation {
        let deployment = webhook::replicas(cluster, installation, lines).await;
        if let Some(deployment) = &deployment {
            settings = webhook::version(cluster, installation, deployment, lines).await;
        }
        rights::of_the_webhook(cluster, installation, deployment.as_ref(), lines).await;
        if let Some(deployment) = &deployment {
            certificate::check(cluster, installation, deployment, lines).await;
        }
    }
    if lines.has_failed("Registration") {
        // Not installed: a pod can't be injected, and none is missed.
        return;
    }
    let namespace = args.namespace.as_deref().unwrap_or(&cluster.namespace);
    proof::check(cluster, installation.as_ref(), namespace, args.timeout, lines).await;
    if let Some(installation) = installation {
        let mut judge = Judge::knowing(installation, settings, server);
        pods::check(cluster, &mut judge, args.namespace.as_deref(), lines).await;
    }
    lines.skip_silent(&AFTER);
}
