//! What a check says, and how it is printed.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anstyle::AnsiColor;
use serde::Serialize;

use crate::cluster::AskError;
use crate::error::Verdict;
use crate::output::Format;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// As it should be.
    Good,
    /// It works, and should be mended.
    Warning,
    /// It does not work.
    Failed,
    /// The user has no right to see it, or not what it goes by.
    Skipped,
    /// The API server did not answer, or not as one does.
    Unknown,
}

/// One thing that a check found.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// The check's name, which stays the same from version to version.
    pub(crate) check: &'static str,
    pub(crate) result: Outcome,
    /// What it is about, as `namespace/kind/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    pub(crate) message: String,
    /// What mends it, to be typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

/// All that was found so far.
#[derive(Debug, Serialize)]
pub(crate) struct Lines {
    /// Version of this command.
    version: &'static str,
    checks: Vec<Line>,
    /// Whether to say on the terminal what is looked at.
    #[serde(skip)]
    progress: bool,
}

impl Lines {
    pub(crate) fn new(format: Format) -> Self {
        let progress = format == Format::Text && std::io::stderr().is_terminal();
        Self { version: env!("CARGO_PKG_VERSION"), checks: Vec::new(), progress }
    }

    /// Tells what is looked at, while it takes its time.
    pub(crate) fn progress(&self, what: &str) {
        if self.progress {
            // Back to the start of the line, and the rest of it blank.
            eprint!("\r\x1b[2K… {what}");
        }
    }

    /// Takes the last of the progress away.
    pub(crate) fn end_progress(&self) {
        if self.progress {
            eprint!("\r\x1b[2K");
        }
    }

    pub(crate) fn good(&mut self, check: &'static str, message: impl Into<String>) {
        self.push(check, Outcome::Good, None, message, None);
    }

    /// Something that does not work, and the command that mends it.
    pub(crate) fn failed(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        command: impl Into<String>,
    ) {
        self.push(check, Outcome::Failed, None, message, Some(command.into()));
    }

    /// Something that works, and should be mended.
    pub(crate) fn warning(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        command: impl Into<String>,
    ) {
        self.push(check, Outcome::Warning, None, message, Some(command.into()));
    }

    pub(crate) fn push(
        &mut self,
        check: &'static str,
        result: Outcome,
        object: Option<String>,
        message: impl Into<String>,
        command: Option<String>,
    ) {
        self.checks.push(Line { check, result, object, message: message.into(), command });
    }

    /// The answer, or none with a line that says why there is none.
    pub(crate) fn answer<T>(&mut self, check: &'static str, answer: Result<T, AskError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let result = if matches!(error, AskError::Forbidden { .. }) {
                    Outcome::Skipped
                } else {
                    Outcome::Unknown
                };
                self.push(check, result, None, error.to_string(), None);
                None
            }
        }
    }

    /// Names those of these checks that have said nothing: they go by what another one could not see.
    pub(crate) fn skip_silent(&mut self, checks: &[&'static str]) {
        for check in checks {
            if !self.found(check) {
                let message = "not looked at: it goes by what another check could not see";
                self.push(check, Outcome::Skipped, None, message, None);
            }
        }
    }

    /// Whether this check has found anything.
    pub(crate) fn found(&self, check: &str) -> bool {
        self.checks.iter().any(|line| line.check == check)
    }

    /// Whether this check has found something that does not work.
    pub(crate) fn has_failed(&self, check: &str) -> bool {
        self.checks.iter().any(|line| line.check == check && line.result == Outcome::Failed)
    }

    /// Whether all that is known is that there is an API server, which everybody may ask for its version.
    fn found_nothing_out(&self) -> bool {
        !self.checks.iter().any(|line| line.result == Outcome::Good && line.check != "ApiServer")
    }

    fn count(&self, outcomes: &[Outcome]) -> usize {
        self.checks.iter().filter(|line| outcomes.contains(&line.result)).count()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.count(&[Outcome::Warning, Outcome::Failed]) > 0 {
            Verdict::Findings
        } else if self.count(&[Outcome::Unknown]) > 0 || self.found_nothing_out() {
            Verdict::Unknown
        } else {
            Verdict::Good
        }
    }

    /// For people: a line each, what was skipped on one line at the end, and the sum.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.checks.iter().filter(|line| line.result != Outcome::Skipped) {
            let (glyph, colour, word) = match line.result {
                Outcome::Good | Outcome::Skipped => ("√", AnsiColor::Green, ""),
                Outcome::Warning => ("‼", AnsiColor::Yellow, "warning: "),
                Outcome::Failed => ("×", AnsiColor::Red, "failed: "),
                Outcome::Unknown => ("?", AnsiColor::Yellow, "unknown: "),
            };
            let style = colour.on_default();
            let _ = writeln!(text, "{style}{glyph} {word}{style:#}{}", line.message);
            if let Some(command) = &line.command {
                let _ = writeln!(text, "    hint: {command}");
            }
        }
        let skipped = self.checks.iter().filter(|line| line.result == Outcome::Skipped);
        let mut skipped: Vec<_> = skipped.map(|line| line.check).collect();
        skipped.dedup();
        if !skipped.is_empty() {
            let _ = writeln!(
                text,
                "- skipped, for want of the rights to look, or of what to go by (-o json says which): {}",
                skipped.join(", ")
            );
        }
        let (good, findings) =
            (self.count(&[Outcome::Good]), self.count(&[Outcome::Warning, Outcome::Failed]));
        let unknown = self.count(&[Outcome::Unknown]);
        let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
        let _ = writeln!(text, "{good} good, {findings} found{unknown}");
        text
    }
}
