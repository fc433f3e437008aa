//! `outrigger inject`: manifests in, injected manifests out. A pure text operation: no cluster is asked.

use std::path::PathBuf;

use outrigger_api::Reason;
use outrigger_api::names::DEFAULT_PROFILE;
use outrigger_inject::manifest::workloads;
use outrigger_inject::{Cluster, Context, Outcome, Profiles, Report as Injected, Settings, Version, inject};
use serde_json::json;

use crate::error::Verdict;
use crate::files;
use crate::flag;
use crate::input::{Input, Profile, add_profiles, opted_in};
use crate::report::{Done, Entry, Report};
use crate::strangers::strangers;

/// Prints manifests with the sidecars in them, and one line a workload on stderr
///
/// Every workload counts as opted in, unless its pod template, or a Namespace in the same input, carries the label
/// outrigger.dev/inject: disabled. `SidecarProfiles` in the input counts as if it were applied with it. Comments are
/// lost, as with every tool that reads and writes YAML. The sidecars' `/stats` stays shut, because a manifest is no
/// place for its token; a pod that the webhook injects has one.
///
/// Exit code: 0 done; 1 a workload was rejected, and no manifest is printed; 2 the input can't be read.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger inject -f app.yaml | kubectl apply -f -
  outrigger inject -f app.yaml | diff app.yaml -
  kubectl get deploy -o yaml | outrigger inject -f - --profile-file profile.yaml
  outrigger inject -f app.yaml --report report.json > injected.yaml")]
pub(crate) struct Args {
    /// Manifests to inject, YAML or JSON; - for standard input. May be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,

    /// A file of `SidecarProfiles`, as the cluster would hold them. Without one there is only `default`, by
    /// which all traffic is redirected through the proxy, or where that can't be, every named port is taken over. May be given more than once
    #[arg(long, value_name = "FILE")]
    profile_file: Vec<PathBuf>,

    /// Namespace of objects that give none
    #[arg(short, long, value_parser = flag::namespace, default_value = "default")]
    namespace: String,

    /// Writes what is said about each workload as JSON too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    install: Install,
}

/// The chart's own values.
const RELEASE_NAMESPACE: &str = "outrigger-system";
const EXCLUDED_NAMESPACES: &str = "kube-system,kube-public,kube-node-lease";
const SIDECAR_IMAGE: &str = concat!("outrigger/sidecar:", env!("CARGO_PKG_VERSION"));

/// What a cluster would tell about the installation.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Installation")]
pub(crate) struct Install {
    /// Namespace where Outrigger is installed: profiles there serve every namespace
    #[arg(long, value_name = "NAMESPACE", value_parser = flag::namespace, default_value = RELEASE_NAMESPACE)]
    pub(crate) release_namespace: String,

    /// Namespaces where nothing is injected, beside the one of Outrigger, as the chart's `excludedNamespaces`
    #[arg(long, value_name = "NAMESPACE", value_parser = flag::namespace, value_delimiter = ',', default_value = EXCLUDED_NAMESPACES)]
    pub(crate) excluded_namespaces: Vec<String>,

    /// Image of the sidecars
    #[arg(long, value_name = "IMAGE", value_parser = flag::image, default_value = SIDECAR_IMAGE)]
    pub(crate) sidecar_image: String,

    /// Version of Kubernetes that the pods are for, as 1.34: before 1.33 they get plain containers in place of native
    /// sidecars. Default: a modern one
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes_version: Option<Version>,
}

impl Default for Install {
    fn default() -> Self {
        Self {
            release_namespace: RELEASE_NAMESPACE.to_owned(),
            excluded_namespaces: EXCLUDED_NAMESPACES.split(',').map(str::to_owned).collect(),
            sidecar_image: SIDECAR_IMAGE.to_owned(),
            kubernetes_version: None,
        }
    }
}

impl Install {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            sidecar_image: self.sidecar_image.clone(),
            image_pull_policy: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: Cluster {
                server: self.kubernetes_version,
                oldest_node: self.kubernetes_version,
                oldest_kernel: None,
            },
        }
    }

    /// The profile that the chart brings, and those that were read.
    pub(crate) fn profiles(&self, found: &[Profile]) -> anyhow::Result<Profiles> {
        let mut profiles = Profiles::new(self.release_namespace.as_str());
        profiles.set(&self.release_namespace, DEFAULT_PROFILE, &json!({}));
        add_profiles(&mut profiles, found)?;
        Ok(profiles)
    }

    pub(crate) fn excludes(&self, namespace: &str) -> bool {
        namespace == self.release_namespace
            || self.excluded_namespaces.iter().any(|excluded| excluded == namespace)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    let mut input = Input::read(&args.filename, &args.namespace)?;
    for path in &args.profile_file {
        input.profiles.extend(Profile::read_file(path, &args.install.release_namespace)?);
    }
    let profiles = args.install.profiles(&input.profiles)?;
    let settings = args.install.settings();
    let mut files = std::mem::take(&mut input.files);
    let mut report = Report::default();
    for document in files.iter_mut().flat_map(|file| &mut file.documents) {
        for stranger in strangers(document) {
            report.tell(Entry::stranger(stranger));
        }
        for mut workload in workloads(document) {
            let namespace = workload.namespace.as_deref().unwrap_or(&args.namespace).to_owned();
            let name = format!("{}/{}", workload.kind, workload.name);
            if args.install.excludes(&namespace) {
                report.tell(Entry::excluded(name, namespace));
                continue;
            }
            let context = Context {
                namespace: &opted_in(input.namespace(&namespace)),
                profiles: &profiles,
                settings: &settings,
                // A random one would change the pod template, and so restart the pods, each time the command runs.
                token: "",
            };
            let outcome = inject(workload.pod, &context);
            workload.apply(&outcome);
            let mut entry = Entry::of(name, namespace, &outcome);
            entry.warnings.extend(workload.warning);
            report.tell(entry);
        }
    }
    let hint = "mend what the lines marked × say, or set outrigger.dev/inject: disabled on their pods";
    let verdict = report.finish(args.report.as_deref(), hint)?;
    if verdict == Verdict::Good {
        files::print(&files)?;
    }
    Ok(verdict)
}

impl Entry {
    fn of(workload: String, namespace: String, outcome: &Outcome) -> Self {
        let (result, reason, message, warnings) = match outcome {
            Outcome::Injected { report, .. } => {
                (Done::Injected, None, summary(report), report.warnings.clone())
            }
            Outcome::Skipped { reason, message } => {
                (Done::Skipped, Some(reason), message.clone(), Vec::new())
            }
            Outcome::Rejected { reason, errors } => {
                (Done::Rejected, Some(reason), errors.join("; "), Vec::new())
            }
        };
        let reason = reason.map(ToString::to_string);
        Self { workload, namespace: Some(namespace), result, reason, message, warnings }
    }

    fn excluded(workload: String, namespace: String) -> Self {
        let message = format!(
            "nothing is injected in namespace {namespace}: the API server does not ask there. --excluded-namespaces and \
             --release-namespace say which these are"
        );
        let reason = Some(Reason::ExcludedNamespace.to_string());
        Self {
            workload,
            namespace: Some(namespace),
            result: Done::Skipped,
            reason,
            message,
            warnings: Vec::new(),
        }
    }

    fn stranger(stranger: crate::strangers::Stranger) -> Self {
        let message = format!(
            "{} is no kind that this command knows; its pod stays as it is (at {}). Label the namespace or that template, \
             and the webhook injects the pods when they are created",
            stranger.kind, stranger.path
        );
        let reason = Some("UnknownKind".to_owned());
        Self {
            workload: stranger.name,
            namespace: None,
            result: Done::Skipped,
            reason,
            message,
            warnings: Vec::new(),
        }
    }
}

/// What a pod got: `proxy (redirect)`, or `proxy (ports http, grpc), shared volume (app:/srv/www), logs (app:/srv/www/*.log as json)`.
pub(crate) fn summary(report: &Injected) -> String {
    let ports: Vec<_> = report.ports.iter().map(|port| port.name.as_str()).collect();
    let redirects = report.interception.as_ref().is_some_and(|chosen| chosen.value == "redirect");
    let proxy = match ports.as_slice() {
        _ if redirects => "proxy (redirect)".to_owned(),
        [] => "proxy".to_owned(),
        ports => format!("proxy (ports {})", ports.join(", ")),
    };
    let variables = report.variables.iter().map(|set| format!("{}:{}", set.container, set.name)).collect();
    let mut got = vec![proxy];
    for (what, list) in [
        ("variables", &variables),
        ("shared volume", &report.mounts),
        ("app metrics", &report.app_metrics.iter().cloned().collect()),
        ("logs", &report.logs),
        ("sync", &report.sync),
    ] {
        if !list.is_empty() {
            got.push(format!("{what} ({})", list.join(", ")));
        }
    }
    got.join(", ")
}
