//! `outrigger inject`: manifests in, injected manifests out. A pure text operation: no cluster is asked.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anstream::{eprintln, print};
use anstyle::AnsiColor;
use anyhow::Context as _;
use outrigger_api::names::{DEFAULT_PROFILE, ENABLED, INJECT_LABEL};
use outrigger_inject::manifest::{Workload, inject_document, namespaces};
use outrigger_inject::{Context, Namespace, Outcome, Profiles, Report, Settings, inject};
use serde_json::json;

use crate::document::{self, Documents};
use crate::error::Hinted;

/// Prints manifests with the sidecars in them, and one line a workload on stderr
///
/// Every workload counts as opted in, unless it, or a Namespace in the same input, carries the label
/// outrigger.dev/inject: disabled. Comments are lost, as with every tool that reads and writes YAML.
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
    };
    let mut files = args.filename.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let described = described_namespaces(&files);
    let mut workloads = Vec::new();
    for file in &mut files {
        for document in &mut file.documents {
            workloads.extend(inject_document(document, &mut |namespace, pod| {
                let namespace = opted_in(namespace.unwrap_or(&args.namespace), &described);
                let context = Context {
                    namespace: &namespace,
                    profiles: &profiles,
                    settings: &settings,
                    token: &token(),
                };
                inject(pod, &context)
            }));
        }
    }
    report(&workloads)?;
    // Only now: a stream that is cut off half-way would be applied half-way.
    let texts: Vec<_> = files.iter().map(Documents::to_text).collect();
    print!("{}", texts.join("---\n"));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Documents> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    }
    // `file:line:column:`, as compilers write it and editors understand it.
    document::parse(&text).map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))
}

/// The profiles of the files, beside the `default` that the chart brings.
fn read_profiles(args: &Args) -> anyhow::Result<Profiles> {
    let mut profiles = Profiles::new(args.release_namespace.as_str());
    profiles.set(&args.release_namespace, DEFAULT_PROFILE, &json!({}));
    for path in &args.profile_file {
        for profile in read(path)?.documents {
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

fn token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

/// One line a workload; a rejected one is an error, and nothing is printed on stdout.
fn report(workloads: &[Workload]) -> anyhow::Result<()> {
    let (green, yellow, red) = (AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Red);
    let mut rejected = 0;
    for Workload { kind, name, outcome, .. } in workloads {
        let (glyph, colour, text) = match outcome {
            Outcome::Injected { report, .. } => ("√", green, format!("injected: {}", summary(report))),
            Outcome::Skipped { reason, message } => ("-", yellow, format!("skipped: {reason}: {message}")),
            Outcome::Rejected { reason, errors } => {
                rejected += 1;
                ("×", red, format!("rejected: {reason}: {}", errors.join("; ")))
            }
        };
        let style = colour.on_default();
        eprintln!("{style}{glyph}{style:#} {kind}/{name} {text}");
        if let Outcome::Injected { report, .. } = outcome {
            report.warnings.iter().for_each(|warning| eprintln!("  ‼ {warning}"));
        }
    }
    match rejected {
        0 => Ok(()),
        _ => Err(Hinted::new(
            format!("{rejected} of {} workloads rejected; nothing was printed", workloads.len()),
            "mend what the lines marked × say, or set outrigger.dev/inject: disabled on their pods",
        )
        .into()),
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
