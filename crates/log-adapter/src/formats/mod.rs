//! The formats: each reads one event into a record, or says that it is not of its kind.

mod access;
mod detect;
mod json;
mod jvm;
mod klog;
mod logfmt;
mod pattern;
mod python;
mod runtime;
mod syslog;
mod wellknown;

use outrigger_api::logs::LogFormat;

pub use detect::detect;
pub use pattern::Pattern;

use crate::record::Record;
use crate::time::Clock;

/// A format, ready to read.
#[derive(Debug)]
pub enum Parser {
    /// JSON lines.
    Json,
    /// logfmt.
    Logfmt,
    /// Access logs of Apache and nginx, and nginx' error log.
    Access,
    /// Kubernetes' klog.
    Klog,
    /// A container runtime's lines.
    Cri,
    /// Syslog, both RFCs.
    Syslog,
    /// Log4j, Logback, Spring Boot.
    Jvm,
    /// Python's logging.
    Python,
    /// The user's expression. Boxed, since it is far larger than the others.
    Pattern(Box<Pattern>),
    /// The line is the message.
    Text,
}

impl Parser {
    /// The parser of a format; none for [`LogFormat::Auto`], which each file decides for itself. `pattern` is that of
    /// [`LogFormat::Regex`].
    pub fn new(format: LogFormat, pattern: Option<&str>) -> Result<Option<Self>, regex::Error> {
        Ok(Some(match format {
            LogFormat::Auto => return Ok(None),
            LogFormat::Json => Self::Json,
            LogFormat::Logfmt => Self::Logfmt,
            LogFormat::Combined | LogFormat::Common | LogFormat::Nginx => Self::Access,
            LogFormat::Klog => Self::Klog,
            LogFormat::Cri => Self::Cri,
            LogFormat::Syslog => Self::Syslog,
            LogFormat::Log4j | LogFormat::Logback => Self::Jvm,
            LogFormat::Python => Self::Python,
            LogFormat::Regex => Self::Pattern(Box::new(Pattern::new(pattern.unwrap_or("(?P<message>.*)"))?)),
            LogFormat::Text => Self::Text,
        }))
    }

    /// Reads an event into an empty record. False where it is not of this format; the record is then to be thrown away.
    pub fn parse(&self, event: &[u8], clock: Clock, record: &mut Record) -> bool {
        match self {
            Self::Json => json::parse(event, clock, record),
            Self::Logfmt => logfmt::parse(event, clock, record),
            Self::Access => access::parse(event, clock, record),
            Self::Klog => klog::parse(event, clock, record),
            Self::Cri => runtime::parse(event, clock, record),
            Self::Syslog => syslog::parse(event, clock, record),
            Self::Jvm => jvm::parse(event, clock, record),
            Self::Python => python::parse(event, clock, record),
            Self::Pattern(pattern) => return pattern.parse(event, clock, record),
            Self::Text => None,
        }
        .is_some()
    }

    /// Its name in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Logfmt => "logfmt",
            Self::Access => "nginx",
            Self::Klog => "klog",
            Self::Cri => "cri",
            Self::Syslog => "syslog",
            Self::Jvm => "log4j",
            Self::Python => "python",
            Self::Pattern(_) => "regex",
            Self::Text => "text",
        }
    }
}
