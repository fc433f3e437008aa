//! One line a workload on stderr: what became of it.

use anstream::eprintln;
use anstyle::AnsiColor;

use crate::error::Hinted;

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Done,
    Skipped,
    Failed,
    /// Belongs to the line before.
    Warning,
}

/// Counts what it prints.
#[derive(Debug, Default)]
pub(crate) struct Report {
    workloads: usize,
    failed: usize,
}

impl Report {
    /// Prints a line. `anstream` takes the colour out where stderr is no terminal or `NO_COLOR` is set.
    pub(crate) fn line(&mut self, mark: Mark, text: &str) {
        let (glyph, colour) = match mark {
            Mark::Done => ("√", AnsiColor::Green),
            Mark::Skipped => ("-", AnsiColor::Yellow),
            Mark::Failed => ("×", AnsiColor::Red),
            Mark::Warning => ("  ‼", AnsiColor::Yellow),
        };
        let style = colour.on_default();
        eprintln!("{style}{glyph}{style:#} {text}");
        self.workloads += usize::from(mark != Mark::Warning);
        self.failed += usize::from(mark == Mark::Failed);
    }

    /// An error if a line was one.
    pub(crate) fn finish(self, hint: &str) -> Result<(), Hinted> {
        match self.failed {
            0 => Ok(()),
            failed => {
                let message = format!("{failed} of {} workloads failed; nothing was printed", self.workloads);
                Err(Hinted::new(message, hint))
            }
        }
    }
}
