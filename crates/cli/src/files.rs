//! Manifests from files and standard input, and back to standard output.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::document::{self, Documents, ParseError};
use crate::output;

/// Reads the manifests of a file, or of standard input where the path is `-`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Documents> {
    let mut text = String::new();
    let name = name(path);
    if path == Path::new("-") {
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

/// What people call it.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Prints all files as one stream, to be called when nothing can fail any more: half a stream would be applied half.
pub(crate) fn print(files: &[Documents]) -> anyhow::Result<()> {
    let texts: Vec<_> = files.iter().map(Documents::to_text).collect();
    output::plain(&texts.join("---\n")).map(drop)
}
