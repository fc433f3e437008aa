//! What became of each workload: one line each on stderr, and where asked for all of them as JSON in a file.

use std::path::Path;

use anstyle::AnsiColor;
use anyhow::Context as _;
use serde::Serialize;

use crate::error::{Verdict, print_hint};
use crate::output::say;

/// What was done with a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Done {
    Injected,
    Uninjected,
    Skipped,
    Rejected,
    Failed,
}

/// One workload and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    /// As `deployment/web`.
    pub(crate) workload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    pub(crate) result: Done,
    /// The stable code, where it was skipped or rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) warnings: Vec<String>,
}

/// All of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    workloads: Vec<Entry>,
}

impl Report {
    /// Prints an entry and keeps it.
    pub(crate) fn tell(&mut self, entry: Entry) {
        let (glyph, colour, word) = match entry.result {
            Done::Injected => ("√", AnsiColor::Green, "injected"),
            Done::Uninjected => ("√", AnsiColor::Green, "uninjected"),
            Done::Skipped => ("-", AnsiColor::Yellow, "skipped"),
            Done::Rejected => ("×", AnsiColor::Red, "rejected"),
            Done::Failed => ("×", AnsiColor::Red, "failed"),
        };
        let reason = entry.reason.as_ref().map(|reason| format!("{reason}: ")).unwrap_or_default();
        line(colour, glyph, &format!("{} {word}: {reason}{}", entry.workload, entry.message));
        for warning in &entry.warnings {
            line(AnsiColor::Yellow, "  ‼", &format!("warning: {warning}"));
        }
        self.workloads.push(entry);
    }

    /// Writes the report to `file`, if there is one, and says how it went: findings where a workload failed.
    pub(crate) fn finish(self, file: Option<&Path>, hint: &str) -> anyhow::Result<Verdict> {
        if let Some(file) = file {
            let text =
                format!("{:#}\n", serde_json::to_value(&self).context("failed to make JSON of the report")?);
            std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))?;
        }
        if self.workloads.is_empty() {
            line(AnsiColor::Yellow, "-", "there is no workload in the input");
        }
        let failed = self
            .workloads
            .iter()
            .filter(|entry| matches!(entry.result, Done::Rejected | Done::Failed))
            .count();
        if failed > 0 {
            let red = AnsiColor::Red.on_default().bold();
            say(&format!(
                "{red}error{red:#}: {failed} of {} workloads failed; nothing was printed",
                self.workloads.len()
            ));
            print_hint(hint);
        }
        Ok(Verdict::findings(failed > 0))
    }
}

fn line(colour: AnsiColor, glyph: &str, text: &str) {
    let style = colour.on_default();
    say(&format!("{style}{glyph}{style:#} {text}"));
}
