//! How a command ends: what it found, or the error, its causes, and a hint where there is one.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::output::say;

/// What a command that did its work has to say by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 0: all is as it should be.
    Good,
    /// 1: something is not, and the output says what.
    Findings,
    /// 2: it could not be found out, and the output says why.
    Unknown,
}

impl Verdict {
    /// Findings, if there are any.
    pub(crate) fn findings(any: bool) -> Self {
        if any { Self::Findings } else { Self::Good }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Good => Self::SUCCESS,
            Verdict::Findings => Self::from(1),
            Verdict::Unknown => Self::from(2),
        }
    }
}

/// An error whose user can do something about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Prints the error to stderr.
///
/// Exit code 2, as for a wrong flag: the command could not do its work, which is another thing than what it may find.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let red = AnsiColor::Red.on_default().bold();
    say(&format!("{red}error{red:#}: {error:#}"));
    if let Some(Hinted { hint, .. }) = error.downcast_ref() {
        print_hint(hint);
    }
    ExitCode::from(2)
}

/// What to do about what was said before.
pub(crate) fn print_hint(hint: &str) {
    let bold = Style::new().bold();
    say(&format!("\n{bold}hint{bold:#}: {hint}"));
}
