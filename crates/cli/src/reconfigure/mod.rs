//! `outrigger reconfigure`: brings a changed profile to pods that run, where no new container is needed for it.

mod taken;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anstyle::AnsiColor;
use outrigger_api::names::PROXY_CONTAINER;
use outrigger_inject::Standing;
use outrigger_runtime::duration;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::{AskError, Cluster, ClusterArgs};
use crate::error::{Hinted, Verdict};
use crate::flag;
use crate::inject::Install;
use crate::judge::Judge;
use crate::output::{self, Format, notes, str_at};
use crate::owner::Owner;
use crate::runtime;
use crate::target::{self, Target};

/// Writes what a changed profile or annotation says to pods that run, and says which need a restart for it
///
/// A sidecar runs by the annotation outrigger.dev/config of its pod, and takes a new one while it runs. This writes it, with
/// your own right to patch pods: what a profile says now, for pods that were injected with what it said then. A pod
/// that needs another container or another resource for that is left as it is, and named with the command that restarts it.
///
/// The annotation reaches the sidecar by its volume, seconds later. The sidecar's metrics say by which config it runs; the
/// command waits for that, where you have the right to `get` `pods/proxy`.
///
/// Exit code: 0 all pods are current, or would be without --dry-run; 1 some need a restart, were not written, or did not take
/// it in time; 2 it could not be done.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger reconfigure deploy/web --namespace shop --dry-run
  outrigger reconfigure deploy/web --namespace shop
  outrigger reconfigure ns/shop
  outrigger reconfigure -l app=web -A")]
pub(crate) struct Args {
    /// Workloads, as deploy/web: deploy, sts, ds, rs, rc, job, po; or ns/shop for all pods of a namespace
    #[arg(value_name = "KIND/NAME", required_unless_present = "selector")]
    targets: Vec<Target>,

    /// Pods with these labels, as app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "targets")]
    selector: Option<String>,

    /// Namespace of the workloads. Default: that of the context
    #[arg(short, long, value_name = "NAMESPACE", value_parser = flag::namespace)]
    namespace: Option<String>,

    /// With -l: pods of every namespace
    #[arg(short = 'A', long, requires = "selector", conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// How long to wait until the sidecars run by what was written; 0s for not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    wait: Duration,

    /// How to print
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    install: Install,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Everything, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reconfigured {
    dry_run: bool,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    pods: Vec<Treated>,
}

/// One pod, and what was done.
#[derive(Serialize)]
struct Treated {
    namespace: String,
    pod: String,
    result: Done,
    /// What differed, or why nothing could be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    /// What brings it to where it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The pod as it was written, until its sidecar runs by it.
    #[serde(skip)]
    written: Option<Value>,
}

/// What was done with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Done {
    /// The new config is written; with `--dry-run`, it would be.
    Reconfigured,
    /// There was nothing to do.
    Current,
    /// No sidecar, and none asked for.
    Outside,
    RestartNeeded,
    /// It is written, and the sidecar did not say in time that it runs by it.
    NotTaken,
    /// The pod has another annotation than a moment ago, or the API server said no.
    Failed,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    let done = runtime::block_on(reconfigure(args))?;
    output::print(args.output, &done, text)?;
    Ok(Verdict::findings(
        done.pods.iter().any(|pod| !matches!(pod.result, Done::Reconfigured | Done::Current | Done::Outside)),
    ))
}

async fn reconfigure(args: &Args) -> anyhow::Result<Reconfigured> {
    let cluster = args.cluster.connect().await?;
    let mut judge = Judge::of(&cluster, args.install.clone()).await.map_err(Hinted::from)?;
    let found = find(&cluster, args).await?;
    // All of it before the first is written: from there on no error may hide what was done.
    for pod in &found {
        judge.learn(&cluster, str_at(pod, "/metadata/namespace")).await.map_err(Hinted::from)?;
    }
    let mut pods = Vec::new();
    for pod in &found {
        pods.push(one(&cluster, &judge, pod, args.dry_run).await);
    }
    wait(&cluster, &mut pods, args.wait, &mut judge.notes).await;
    Ok(Reconfigured { dry_run: args.dry_run, notes: judge.notes, pods })
}

/// Waits for the sidecars of all pods that were written: side by side, since each takes its seconds by itself.
async fn wait(cluster: &Cluster, pods: &mut [Treated], patience: Duration, notes: &mut Vec<String>) {
    let deadline = Instant::now() + patience;
    for pod in pods.iter_mut().filter(|_| !patience.is_zero()) {
        let Some(written) = pod.written.take() else { continue };
        match taken::wait(cluster, &written, deadline).await {
            Ok(true) => {}
            Ok(false) => {
                pod.result = Done::NotTaken;
                let logs =
                    format!("kubectl --namespace {} logs {} -c {PROXY_CONTAINER}", pod.namespace, pod.pod);
                pod.command = Some(logs);
            }
            Err(error) => {
                notes.push(format!("{error}: whether the sidecars run by it is not known"));
                return;
            }
        }
    }
}

async fn find(cluster: &Cluster, args: &Args) -> Result<Vec<Value>, Hinted> {
    let namespace = args.namespace.as_deref().unwrap_or(&cluster.namespace);
    if let Some(selector) = &args.selector {
        let place = (!args.all_namespaces).then_some(namespace);
        return Ok(target::live_pods(cluster, place, selector).await?);
    }
    let mut pods = Vec::new();
    for target in &args.targets {
        if let Some(namespace) = target.as_namespace() {
            pods.extend(target::live_pods(cluster, Some(namespace), "").await?);
        } else {
            let object = target.find(cluster, namespace).await?.ok_or_else(|| target.missing(namespace))?;
            if object["kind"] == "CronJob" {
                let hint = format!(
                    "kubectl --namespace {namespace} get jobs lists them: outrigger reconfigure job/NAME"
                );
                return Err(Hinted::new(format!("{target} has no pods of its own: its jobs have"), hint));
            }
            pods.extend(target::pods_of(cluster, namespace, &object).await?);
        }
    }
    // `deploy/web ns/shop` names some of them twice.
    let mut seen = HashSet::new();
    pods.retain(|pod| seen.insert(["namespace", "name"].map(|field| pod["metadata"][field].to_string())));
    Ok(pods)
}

async fn one(cluster: &Cluster, judge: &Judge, pod: &Value, dry_run: bool) -> Treated {
    let namespace = str_at(pod, "/metadata/namespace");
    let name = str_at(pod, "/metadata/name").to_owned();
    let owner = Owner::of(pod);
    let restart = || owner.restart(&[&name]);
    let mut written = None;
    let (result, differences, command) = match judge.standing(pod, namespace) {
        Standing::Current => (Done::Current, Vec::new(), None),
        Standing::Outside { reason, message } => (Done::Outside, vec![format!("{reason}: {message}")], None),
        Standing::Missing => (Done::RestartNeeded, vec!["it has no sidecar yet".to_owned()], restart()),
        Standing::Outdated { differences } => (Done::RestartNeeded, differences, restart()),
        Standing::Refused { errors, .. } => {
            (Done::Failed, errors, Some(format!("outrigger explain --namespace {namespace} pod/{name}")))
        }
        Standing::Reconfigurable { differences, .. } if dry_run => (Done::Reconfigured, differences, None),
        Standing::Reconfigurable { patch, differences } => {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            let operations = serde_json::to_value(&patch).unwrap_or_default();
            match cluster
                .patch(&path, &operations, &format!("patch pod {name} in namespace {namespace}"))
                .await
            {
                Ok(pod) => {
                    written = Some(pod);
                    (Done::Reconfigured, differences, None)
                }
                // The next one may stand in a namespace where it is allowed.
                Err(error @ AskError::Forbidden { .. }) => {
                    let may = format!("kubectl auth can-i patch pods --namespace {namespace}");
                    (Done::Failed, vec![error.to_string()], Some(may))
                }
                Err(error) => {
                    let again = format!("outrigger reconfigure --namespace {namespace} pod/{name}");
                    (Done::Failed, vec![error.to_string()], Some(again))
                }
            }
        }
    };
    Treated { namespace: namespace.to_owned(), pod: name, result, differences, command, written }
}

fn text(done: &Reconfigured) -> String {
    let mut text = notes(&done.notes);
    for pod in &done.pods {
        let (glyph, colour, word) = match pod.result {
            Done::Reconfigured if done.dry_run => ("√", AnsiColor::Green, "would be reconfigured"),
            Done::Reconfigured => ("√", AnsiColor::Green, "reconfigured"),
            Done::Current => ("√", AnsiColor::Green, "current"),
            Done::Outside => ("-", AnsiColor::Yellow, "without sidecar"),
            Done::RestartNeeded => ("‼", AnsiColor::Yellow, "restart needed"),
            Done::NotTaken => ("×", AnsiColor::Red, "written, and not taken by its sidecar in time"),
            Done::Failed => ("×", AnsiColor::Red, "failed"),
        };
        let style = colour.on_default();
        let _ = write!(text, "{style}{glyph}{style:#} pod/{} in namespace {} {word}", pod.pod, pod.namespace);
        let why = if pod.differences.is_empty() {
            String::new()
        } else {
            format!(": {}", pod.differences.join("; "))
        };
        let _ = writeln!(text, "{why}");
        if let Some(command) = &pod.command {
            let _ = writeln!(text, "    hint: {command}");
        }
    }
    if done.pods.is_empty() {
        text.push_str("there is no pod that runs\n");
    }
    text
}
