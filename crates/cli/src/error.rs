//! How a failed command ends: the error, its causes, and a hint where there is one.

use std::process::ExitCode;

use anstream::eprintln;
use anstyle::{AnsiColor, Style};

/// An error whose user can do something about it.
#[derive(Debug, thiserror::Error)]
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

/// Prints the error to stderr. `anstream` takes the colour out where stderr is no terminal or `NO_COLOR` is set.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let red = AnsiColor::Red.on_default().bold();
    eprintln!("{red}error{red:#}: {error:#}");
    if let Some(Hinted { hint, .. }) = error.downcast_ref() {
        let bold = Style::new().bold();
        eprintln!("\n{bold}hint{bold:#}: {hint}");
    }
    ExitCode::FAILURE
}
