//! Logging to stderr, with a level that can change while the process runs.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, for log collectors.
    #[default]
    Json,
    /// For people. Coloured on a terminal, unless `NO_COLOR` is set.
    Text,
}

impl std::str::FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logging can't be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level.
    #[error("log level {0:?} is not known: error, warn, info, debug, trace or off, or `info,module=debug`")]
    Level(String),
    /// Not a format.
    #[error("log format {0:?} is not known: json or text")]
    Format(String),
    /// [`init`] was called twice.
    #[error("failed to set up logging: it is set up already")]
    AlreadySet,
    /// The logger is gone or poisoned.
    #[error("failed to change log level")]
    Reload(#[from] reload::Error),
}

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// Sets the level: `info`, or by module: `info,outrigger_proxy=debug`.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(targets(level)?)?;
        Ok(())
    }
}

/// Logs to stderr from now on, at `level` (as in [`LogControl::set_level`]).
pub fn init(level: &str, format: Format) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(targets(level)?);
    let lines = fmt::layer().with_writer(stderr);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        Format::Text => lines.with_ansi(colour()).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(LogControl(handle))
}

/// A control that is tied to no logger, for servers under test.
pub fn detached() -> LogControl {
    let (filter, handle) = reload::Layer::new(Targets::new());
    // Leaked so that `set_level` finds something to set: a few bytes, in tests.
    std::mem::forget(filter);
    LogControl(handle)
}

/// `Targets` rather than `EnvFilter`: levels by module are enough, and span filters would cost every sidecar the regex
/// engine.
fn targets(level: &str) -> Result<Targets, LogError> {
    let unknown = || LogError::Level(level.to_owned());
    let targets: Targets = level.trim().parse().map_err(|_| unknown())?;
    // "debgu" parses as the name of a module that is to log everything. A typing error must not pass for a level.
    let names_level = level.split(',').any(|part| part.trim().parse::<tracing::Level>().is_ok());
    let quiet = level.trim().eq_ignore_ascii_case("off");
    if names_level || quiet { Ok(targets) } else { Err(unknown()) }
}

fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_set_by_name_or_by_module() {
        let control = detached();
        for level in ["info", "WARN", "off", "warn,outrigger_proxy=debug"] {
            control.set_level(level).unwrap();
        }
    }

    #[test]
    fn misspelt_level_names_the_right_ones() {
        let message = detached().set_level("debgu").unwrap_err().to_string();
        assert!(message.contains("\"debgu\"") && message.contains("debug"), "{message}");
    }
}
