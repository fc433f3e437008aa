//! `outrigger explain`: what becomes of a pod, why, and what to change.

mod hint;
mod policies;
mod text;

use std::path::PathBuf;

use outrigger_inject::manifest::workloads;
use outrigger_inject::{Decision, Explanation, Report, Standing};
use serde::Serialize;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterArgs};
use crate::error::{Hinted, Verdict};
use crate::flag;
use crate::inject::Install;
use crate::input::{Input, add_profiles};
use crate::judge::Judge;
use crate::output::{self, Format, str_at};
use crate::owner::Owner;
use crate::runtime;
use crate::strangers::strangers;
use crate::target::{self, Target};

/// Says whether a pod is injected: by which label, with which profile, what is added, and if not, what to change
///
/// Of a workload it explains the pods that it would make now, and says where those stand that it has: current, outdated,
/// without the sidecar that they should have. Nothing is changed; you need the right to read what you ask about. What you
/// may not see is supposed to be as the flags under "Installation" say, and that is noted.
///
/// Exit code: 0 explained; 1 a pod would be refused; 2 it could not be explained.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger explain deploy/web --namespace shop
  outrigger explain pod/web-5d9f-x2x4z sts/db
  outrigger explain ns/shop                     every workload of a namespace
  outrigger explain -l app=web                  pods by their labels
  outrigger explain -f app.yaml                 what would become of it in this cluster
  outrigger explain -f app.yaml --offline       the same without a cluster
  outrigger explain deploy/web -o json | jq -r '.workloads[] | [.workload, .outcome, .reason] | @tsv'")]
pub(crate) struct Args {
    /// Workloads, as deploy/web: deploy, sts, ds, rs, rc, cj, job, po; or ns/shop for all of a namespace
    #[arg(value_name = "KIND/NAME", required_unless_present_any = ["filename", "selector"])]
    targets: Vec<Target>,

    /// Pods with these labels, as app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["targets", "filename"])]
    selector: Option<String>,

    /// Manifests, YAML or JSON; - for standard input. Namespaces and `SidecarProfiles` in them count as if applied
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "targets")]
    filename: Vec<PathBuf>,

    /// Ask no cluster: what the files and the flags under "Installation" say is all there is. Workloads count as opted in
    /// only where a label of theirs, or of a Namespace in the files, says so
    #[arg(long, requires = "filename")]
    offline: bool,

    /// Namespace of the workloads. Default: that of the context
    #[arg(short, long, value_name = "NAMESPACE", value_parser = flag::namespace)]
    namespace: Option<String>,

    /// With -l: pods of every namespace
    #[arg(short = 'A', long, requires = "selector", conflicts_with = "namespace")]
    all_namespaces: bool,

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
struct Explained {
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    workloads: Vec<Subject>,
}

/// One workload.
#[derive(Serialize)]
struct Subject {
    /// As `deployment/web`.
    workload: String,
    namespace: String,
    #[serde(flatten)]
    explanation: Explanation,
    /// Its pods that run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pods: Vec<Running>,
    /// Commands that bring it to where it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commands: Vec<String>,
}

/// A pod that runs.
#[derive(Serialize)]
struct Running {
    pod: String,
    /// Version of the Outrigger that injected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// `outside`, `refused`, `missing`, `current`, `reconfigurable` or `outdated`.
    stands: &'static str,
    /// What differs from what it would get now, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    /// Its patch holds the token for the sidecar's `/stats`, and so it is not printed.
    #[serde(skip)]
    standing: Standing,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    // Beside a KIND/NAME, clap does not ask for what a flag requires.
    if args.offline && args.filename.is_empty() {
        return Err(Hinted::new(
            "--offline explains files, and none is given",
            "outrigger explain --offline -f app.yaml",
        )
        .into());
    }
    if args.all_namespaces && args.selector.is_none() {
        return Err(Hinted::new("-A takes labels to go by", "outrigger explain -A -l app=web").into());
    }
    let explained = if args.offline { offline(args)? } else { runtime::block_on(online(args))? };
    output::print(args.output, &explained, text::render)?;
    let refused = |subject: &Subject| matches!(subject.explanation.decision, Decision::Rejected { .. });
    Ok(Verdict::findings(explained.workloads.iter().any(refused)))
}

fn offline(args: &Args) -> anyhow::Result<Explained> {
    let namespace = args.namespace.as_deref().unwrap_or("default");
    let input = Input::read(&args.filename, namespace)?;
    let mut judge = Judge::offline(args.install.clone(), args.install.profiles(&input.profiles)?);
    judge.namespaces.clone_from(&input.namespaces);
    files(&mut judge, input, namespace)
}

async fn online(args: &Args) -> anyhow::Result<Explained> {
    let cluster = args.cluster.connect().await?;
    let namespace = args.namespace.as_deref().unwrap_or(&cluster.namespace);
    let mut judge = Judge::of(&cluster, args.install.clone()).await.map_err(Hinted::from)?;
    if !args.filename.is_empty() {
        let mut input = Input::read(&args.filename, namespace)?;
        for name in places(&mut input, namespace) {
            judge.learn(&cluster, &name).await.map_err(Hinted::from)?;
        }
        judge.namespaces.extend(input.namespaces.clone());
        add_profiles(&mut judge.profiles, &input.profiles)?;
        return files(&mut judge, input, namespace);
    }
    let objects = match &args.selector {
        Some(selector) => {
            let place = (!args.all_namespaces).then_some(namespace);
            target::live_pods(&cluster, place, selector).await.map_err(Hinted::from)?
        }
        None => find(&cluster, &args.targets, namespace).await?,
    };
    let mut all = Vec::new();
    for object in objects {
        all.push(running(&cluster, &mut judge, object, namespace).await?);
    }
    Ok(Explained { notes: judge.notes, workloads: all })
}

/// The objects that the targets name.
async fn find(cluster: &Cluster, targets: &[Target], namespace: &str) -> Result<Vec<Value>, Hinted> {
    let mut objects = Vec::new();
    for target in targets {
        if let Some(namespace) = target.as_namespace() {
            // Who may not see it is told of the lists below.
            if let Ok(None) = target.find(cluster, namespace).await {
                return Err(target.missing(namespace));
            }
            objects.extend(target::all_of(cluster, namespace).await?);
            continue;
        }
        let object = target.find(cluster, namespace).await?.ok_or_else(|| target.missing(namespace))?;
        objects.push(object);
    }
    Ok(objects)
}

/// The namespaces of the workloads in the files.
fn places(input: &mut Input, default: &str) -> Vec<String> {
    let documents = input.files.iter_mut().flat_map(|file| &mut file.documents);
    let found = documents
        .flat_map(workloads)
        .map(|workload| workload.namespace.unwrap_or_else(|| default.to_owned()));
    let mut places: Vec<_> = found.collect();
    places.sort();
    places.dedup();
    places
}

fn files(judge: &mut Judge, mut input: Input, default: &str) -> anyhow::Result<Explained> {
    let mut explained = Vec::new();
    for document in input.files.iter_mut().flat_map(|file| &mut file.documents) {
        for stranger in strangers(document) {
            judge
                .notes
                .push(format!("{}: {} is no kind that this command knows", stranger.name, stranger.kind));
        }
        for workload in workloads(document) {
            let namespace = workload.namespace.as_deref().unwrap_or(default).to_owned();
            let explanation = judge.explain(workload.pod, &namespace);
            let name = format!("{}/{}", workload.kind, workload.name);
            judge.notes.extend(workload.warning.map(|warning| format!("{name}: {warning}")));
            let commands = hint::commands(&name, &namespace, &explanation, &[]);
            explained.push(Subject { workload: name, namespace, explanation, pods: Vec::new(), commands });
        }
    }
    if explained.is_empty() && judge.notes.is_empty() {
        return Err(Hinted::new(
            "there is no workload in the files",
            "it explains Pods, and what makes Pods",
        )
        .into());
    }
    Ok(Explained { notes: std::mem::take(&mut judge.notes), workloads: explained })
}

/// A workload of the cluster, and its pods.
async fn running(
    cluster: &Cluster,
    judge: &mut Judge,
    mut object: Value,
    default: &str,
) -> anyhow::Result<Subject> {
    let own = str_at(&object, "/metadata/namespace");
    let namespace = if own.is_empty() { default } else { own }.to_owned();
    judge.learn(cluster, &namespace).await.map_err(Hinted::from)?;
    let pods = target::pods_of(cluster, &namespace, &object).await.map_err(Hinted::from)?;
    let standings: Vec<_> = pods.iter().map(|pod| Running::of(pod, judge, &namespace)).collect();
    let owners: Vec<_> = pods.iter().map(Owner::of).collect();
    let owner = Owner::of(&object);
    let found = workloads(&mut object).into_iter().next();
    let workload = found.ok_or_else(|| anyhow::anyhow!("the API server's object is no workload"))?;
    let name = format!("{}/{}", workload.kind, workload.name);
    judge.notes.extend(workload.warning.map(|warning| format!("{name}: {warning}")));
    let explanation = judge.explain(workload.pod, &namespace);
    let pairs: Vec<_> = owners.iter().zip(&standings).collect();
    // What is changed on a pod that something makes is gone with it.
    let maker = if workload.kind == "pod" { owner.to_string() } else { name.clone() };
    let commands = hint::commands(&maker, &namespace, &explanation, &pairs);
    Ok(Subject { workload: name, namespace, explanation, pods: standings, commands })
}

impl Running {
    fn of(pod: &Value, judge: &Judge, namespace: &str) -> Self {
        let status = str_at(pod, "/metadata/annotations/outrigger.dev~1status");
        let version = serde_json::from_str::<Report>(status).ok().map(|report| report.version);
        let standing = judge.standing(pod, namespace);
        let differences = match &standing {
            Standing::Refused { errors, .. } => errors.clone(),
            Standing::Reconfigurable { differences, .. } | Standing::Outdated { differences } => {
                differences.clone()
            }
            Standing::Outside { .. } | Standing::Missing | Standing::Current => Vec::new(),
        };
        let stands = standing.word();
        Self { pod: str_at(pod, "/metadata/name").to_owned(), version, stands, differences, standing }
    }
}
