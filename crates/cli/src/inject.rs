//! `outrigger inject`: manifests in, injected manifests out. A pure text operation: no cluster is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outrigger_api::names::{DEFAULT_PROFILE, ENABLED, INJECT_LABEL};
use outrigger_inject::manifest::{namespaces, objects, workloads};
use outrigger_inject::{Context, Namespace, Outcome, Profiles, Report, Settings, inject};
use serde_json::json;

use crate::document::Documents;
use crate::error::Hinted;
use crate::files;
use crate::report::{Mark, Report as Lines};

/// Prints manifests with the sidecars in them, and one line a workload on stderr
///
/// Every workload counts as opted in, unless it, or a Namespace in the same input, carries the label
/// outrigger.dev/inject: disabled. Comments are lost, as with every tool that reads and writes YAML. The sidecars'
/// `/stats` stays shut, because a manifest is no place for its token; a pod that the webhook injects has one.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger inject -f app.yaml | kubectl apply -f -
  outrigger inject -f app.yaml | diff app.yaml -
  kubectl get deploy -o yaml | outrigger inject -f - --profile-file profile.yaml")]
pub(crate) struct Args {
    /// Manifests to inject, YAML or JSON; - for standard input. May be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,

    /// A file of `SidecarProfiles`, as the cluster would hold them. Without one there is only `default`, which takes
    /// over every named port. May be given more than once
    #[arg(long, value_name = "FILE")]
    profile_file: Vec<PathBuf>,

    /// Namespace of workloads that give none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Namespace where Outrigger is installed: profiles there serve every namespace
    #[arg(long, default_value = "outrigger-system")]
    release_namespace: String,

    /// Image of the sidecars
    #[arg(long, default_value = concat!("outrigger/sidecar:", env!("CARGO_PKG_VERSION")))]
    sidecar_image: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let profiles = read_profiles(args)?;
    let settings = Settings {
        sidecar_image: args.sidecar_image.clone(),
        image_pull_policy: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: outrigger_inject::Cluster::default(),
    };
    let mut files = args.filename.iter().map(|path| files::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let described = described_namespaces(&files);
    let mut lines = Lines::default();
    for mut workload in files.iter_mut().flat_map(|file| &mut file.documents).flat_map(workloads) {
        let namespace = workload.namespace.as_deref().unwrap_or(&args.namespace);
        let context = Context {
            namespace: &opted_in(namespace, &described),
            profiles: &profiles,
            settings: &settings,
            // A random one would change the pod template, and so restart the pods, each time the command runs.
            token: "",
        };
        let outcome = inject(workload.pod, &context);
        workload.apply(&outcome);
        tell(&mut lines, &format!("{}/{}", workload.kind, workload.name), &outcome);
    }
    lines.finish("mend what the lines marked × say, or set outrigger.dev/inject: disabled on their pods")?;
    files::print(&files)
}

/// The profiles of the files, beside the `default` that the chart brings.
fn read_profiles(args: &Args) -> anyhow::Result<Profiles> {
    let mut profiles = Profiles::new(args.release_namespace.as_str());
    profiles.set(&args.release_namespace, DEFAULT_PROFILE, &json!({}));
    for path in &args.profile_file {
        let file = files::read(path)?;
        for profile in file.documents.iter().flat_map(objects) {
            let name = profile["metadata"]["name"].as_str().filter(|_| profile["kind"] == "SidecarProfile");
            let Some(name) = name else {
                return Err(Hinted::new(
                    format!("{}: a document is no SidecarProfile with a name", path.display()),
                    "it takes kind: SidecarProfile and metadata: {name: ...}",
                )
                .into());
            };
            let namespace = profile["metadata"]["namespace"].as_str().unwrap_or(&args.release_namespace);
            profiles.set(namespace, name, &profile["spec"]);
        }
    }
    Ok(profiles)
}

fn described_namespaces(files: &[Documents]) -> BTreeMap<String, Namespace> {
    let all = files.iter().flat_map(|file| &file.documents).flat_map(namespaces);
    all.map(|namespace| (namespace.name.clone(), namespace)).collect()
}

/// The namespace as the input describes it, opted in: who runs this command asks for injection.
fn opted_in(name: &str, described: &BTreeMap<String, Namespace>) -> Namespace {
    let mut namespace = described
        .get(name)
        .cloned()
        .unwrap_or_else(|| Namespace { name: name.to_owned(), ..Namespace::default() });
    namespace.labels.entry(INJECT_LABEL.to_owned()).or_insert_with(|| ENABLED.to_owned());
    namespace
}

fn tell(lines: &mut Lines, workload: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Injected { report, .. } => {
            lines.line(Mark::Done, &format!("{workload} injected: {}", summary(report)));
            report.warnings.iter().for_each(|warning| lines.line(Mark::Warning, warning));
        }
        Outcome::Skipped { reason, message } => {
            lines.line(Mark::Skipped, &format!("{workload} skipped: {reason}: {message}"));
        }
        Outcome::Rejected { reason, errors } => {
            lines.line(Mark::Failed, &format!("{workload} rejected: {reason}: {}", errors.join("; ")));
        }
    }
}

/// What a pod got: `proxy (ports http, grpc), shared volume (app:/srv/www)`.
fn summary(report: &Report) -> String {
    let ports: Vec<_> = report.ports.iter().map(|port| port.name.as_str()).collect();
    let proxy =
        if ports.is_empty() { "proxy".to_owned() } else { format!("proxy (ports {})", ports.join(", ")) };
    match report.mounts.as_slice() {
        [] => proxy,
        mounts => format!("{proxy}, shared volume ({})", mounts.join(", ")),
    }
}
