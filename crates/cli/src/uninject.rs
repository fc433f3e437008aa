//! `outrigger uninject`: injected manifests in, the originals out.

use std::path::PathBuf;

use outrigger_inject::manifest::workloads;
use outrigger_inject::{UninjectError, uninject};

use crate::error::Verdict;
use crate::files;
use crate::report::{Done, Entry, Report};

/// Prints manifests without the sidecars, as they were before `outrigger inject` or the webhook
///
/// Exit code: 0 done; 1 a workload could not be restored, and no manifest is printed; 2 the input can't be read.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger uninject -f injected.yaml | kubectl apply -f -
  outrigger inject -f app.yaml | outrigger uninject -f -")]
pub(crate) struct Args {
    /// Manifests, YAML or JSON; - for standard input. May be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,

    /// Writes what is said about each workload as JSON too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    let mut files = args.filename.iter().map(|path| files::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = Report::default();
    for workload in files.iter_mut().flat_map(|file| &mut file.documents).flat_map(workloads) {
        let (result, message) = match uninject(workload.pod) {
            Ok(status) => (Done::Uninjected, status.containers.join(", ")),
            Err(error @ UninjectError::NotInjected) => (Done::Skipped, error.to_string()),
            Err(error) => (Done::Failed, error.to_string()),
        };
        report.tell(Entry {
            workload: format!("{}/{}", workload.kind, workload.name),
            namespace: workload.namespace,
            result,
            reason: None,
            message,
            warnings: Vec::new(),
        });
    }
    let hint = "the annotation is not as Outrigger wrote it; take the sidecars out by hand";
    let verdict = report.finish(args.report.as_deref(), hint)?;
    if verdict == Verdict::Good {
        files::print(&files)?;
    }
    Ok(verdict)
}
