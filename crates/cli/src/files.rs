//! Manifests from files and standard input, and back to standard output.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::document::{self, Documents, ParseError};

/// Reads the manifests of a file, or of standard input where the path is `-`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Documents> {
    let mut text = String::new();
    let mut name = path.display().to_string();
    if path == Path::new("-") {
        "standard input".clone_into(&mut name);
        std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?;
    }
    document::parse(&text).map_err(|error| match error {
        // `file:line:column:`, as compilers write it and editors understand it.
        ParseError::Syntax { .. } => anyhow::anyhow!("{name}:{error}"),
        ParseError::NoObject(_) => anyhow::anyhow!("{name}: {error}"),
    })
}

/// Prints all files as one stream, to be called when nothing can fail any more: half a stream would be applied half.
pub(crate) fn print(files: &[Documents]) -> anyhow::Result<()> {
    let texts: Vec<_> = files.iter().map(Documents::to_text).collect();
    // Not `anstream`, which takes out what looks like a terminal's control code: this is data.
    match std::io::stdout().write_all(texts.join("---\n").as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("failed to write standard output"),
    }
}
