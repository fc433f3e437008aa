//! Data on standard output, in the form that was asked for.

use std::io::{ErrorKind, Write as _};

use anstream::AutoStream;
use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use crate::document;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; fields are added in later versions, and never renamed.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Prints `value` as JSON or YAML, or what `text` makes of it.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let json = || serde_json::to_value(value).context("failed to make JSON of the result");
    match format {
        Format::Text => coloured(&text(value)).map(drop),
        Format::Json => plain(&format!("{:#}\n", json()?)).map(drop),
        Format::Yaml => plain(&document::yaml(&json()?)).map(drop),
    }
}

/// Text with colours, which only a terminal gets. Returns whether somebody still reads.
pub(crate) fn coloured(text: &str) -> anyhow::Result<bool> {
    written(AutoStream::auto(std::io::stdout()).write_all(text.as_bytes()))
}

/// Not by `anstream`, which takes out what looks like a terminal's control code: this is data. Returns whether somebody still reads.
pub(crate) fn plain(text: &str) -> anyhow::Result<bool> {
    written(std::io::stdout().write_all(text.as_bytes()))
}

fn written(result: std::io::Result<()>) -> anyhow::Result<bool> {
    match result {
        // `| head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("failed to write standard output"),
    }
}

/// A line for people on standard error. That nobody can read it (`2> /dev/full`) is no reason to stop half-way, as `eprintln!`
/// would. `anstream` takes the colour out where stderr is no terminal or `NO_COLOR` is set.
pub(crate) fn say(line: &str) {
    let _ = writeln!(AutoStream::auto(std::io::stderr()), "{line}");
}

/// What could not be looked at, a line each.
pub(crate) fn notes(notes: &[String]) -> String {
    notes.iter().fold(String::new(), |text, note| text + "note: " + note + "\n")
}

/// A string in raw JSON, empty where there is none.
pub(crate) fn str_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Text that pods or their clients chose: it may be anything, and must not speak to the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}
