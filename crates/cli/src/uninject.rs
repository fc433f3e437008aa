//! `outrigger uninject`: injected manifests in, the originals out.

use std::path::PathBuf;

use outrigger_inject::manifest::workloads;
use outrigger_inject::{UninjectError, uninject};

use crate::files;
use crate::report::{Mark, Report};

/// Prints manifests without the sidecars, as they were before `outrigger inject` or the webhook
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger uninject -f injected.yaml | kubectl apply -f -
  outrigger inject -f app.yaml | outrigger uninject -f -")]
pub(crate) struct Args {
    /// Manifests, YAML or JSON; - for standard input. May be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut files = args.filename.iter().map(|path| files::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut lines = Report::default();
    for workload in files.iter_mut().flat_map(|file| &mut file.documents).flat_map(workloads) {
        let name = format!("{}/{}", workload.kind, workload.name);
        let (mark, text) = match uninject(workload.pod) {
            Ok(report) => (Mark::Done, format!("uninjected: {}", report.containers.join(", "))),
            Err(error @ UninjectError::NotInjected) => (Mark::Skipped, format!("skipped: {error}")),
            Err(error @ (UninjectError::Status(_) | UninjectError::NotOurs(_))) => {
                (Mark::Failed, format!("failed: {error}"))
            }
        };
        lines.line(mark, &format!("{name} {text}"));
    }
    lines.finish("the annotation is not as Outrigger wrote it; take the sidecars out by hand")?;
    files::print(&files)
}
