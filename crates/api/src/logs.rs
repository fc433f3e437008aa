//! Log files that the adapter turns into JSON lines: what users write, and what the adapter reads.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::names::is_label;
use crate::profile::MAX_PATH;
#[cfg(feature = "crd")]
use crate::schema::{container_rule, own_directory_rules, rule, without_default};

/// The most file patterns of one entry, and the longest of them in bytes.
pub const MAX_FILES: usize = 16;
/// See [`MAX_FILES`].
pub const MAX_PATTERN: usize = 256;
/// The longest line that is kept whole where a profile does not say otherwise, in bytes.
pub const DEFAULT_LINE_BYTES: u32 = 64 * 1024;
/// The most that a profile can ask for: the adapter holds one line in memory, and must stay small.
pub const MAX_LINE_BYTES: u32 = 128 * 1024;

/// Most bytes of a pattern when it is compiled: `\\w` in Unicode has some 70,000.
const MAX_COMPILED: usize = 1 << 20;

/// The log files of one directory of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend(
        "required" = ["container", "path"],
        "x-kubernetes-validations" = [
            serde_json::json!({
                "rule": "has(self.pattern) == (self.format == 'regex')",
                "message": "it goes with format regex, which needs it",
                "fieldPath": ".pattern",
            }),
            serde_json::json!({
                "rule": "!has(self.start) || self.multiline == 'auto'",
                "message": "it has no effect beside start: leave one out",
                "fieldPath": ".multiline",
            }),
        ]
    ))
)]
pub struct LogSpec {
    /// Name of the container that writes them.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 63),
            transform = without_default,
            extend("x-kubernetes-validations" = [container_rule()])
        )
    )]
    pub container: String,
    /// The directory, as that container sees it. The shared volume is mounted there and hides what the image has in it.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = own_directory_rules())
        )
    )]
    pub path: String,
    /// Which files, relative to `path`: `*` and `?` within a name, `**/` for directories of any depth. Default: `*.log`.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(min = 1, max = MAX_FILES),
            inner(length(max = MAX_PATTERN)),
            extend("x-kubernetes-validations" = [rule(
                "self.all(file, !file.matches('(^|/)[.]?[.]?(/|$)'))",
                "it takes names below the path, as *.log",
            )])
        )
    )]
    pub files: Vec<String>,
    /// How their lines look.
    pub format: LogFormat,
    /// With `format: regex`: the expression, with a named group for each field. They mean what they do in JSON: `time`, `level`, `message`, `trace_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(max = MAX_PATH)))]
    pub pattern: Option<String>,
    /// Which lines belong together.
    pub multiline: Multiline,
    /// A line that matches this expression begins an event, others continue it. Instead of `multiline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(max = MAX_PATH)))]
    pub start: Option<String>,
    /// How the JSON lines look.
    pub schema: LogSchema,
    /// The zone of times that name none, as `+02:00`. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = 6),
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^(Z|UTC|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$')",
                "it takes Z or an offset from UTC, as +02:00",
            )])
        )
    )]
    pub time_zone: Option<String>,
    /// A longer line, or event of several lines, is cut there and marked, in bytes. Default: 65536.
    #[cfg_attr(feature = "crd", schemars(range(min = 1024, max = MAX_LINE_BYTES)))]
    pub max_line_bytes: u32,
}

/// How the lines of a log file look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum LogFormat {
    /// Decided by the first lines of each file.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// `key=value key="quoted value"`.
    Logfmt,
    /// The access log of Apache and nginx, with referer and user agent.
    Combined,
    /// The same without them.
    Common,
    /// nginx: its access log and its error log.
    Nginx,
    /// Kubernetes' own: `I1121 12:00:00.000000 1 main.go:7] text`.
    Klog,
    /// What a container runtime writes: `time stream tag text`.
    Cri,
    /// RFC 5424 or RFC 3164, with or without the priority.
    Syslog,
    /// Log4j and Logback as they come: `time [thread] LEVEL logger - text`.
    Log4j,
    /// The same.
    Logback,
    /// Python's `logging`: `time - logger - LEVEL - text`, `LEVEL:logger:text`.
    Python,
    /// By `pattern`.
    Regex,
    /// Not looked into: the line is the message.
    Text,
}

/// Which lines belong to one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum Multiline {
    /// As the format has it: `java` for log4j and logback, `python` for python, otherwise none.
    #[default]
    Auto,
    /// Each line is an event.
    None,
    /// Stack traces of the JVM.
    Java,
    /// Tracebacks of Python.
    Python,
    /// Panics of Go.
    Go,
    /// Stack traces of Node.js.
    Node,
}

/// How the adapter's JSON lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum LogSchema {
    /// `time`, `level`, `message`, and the fields beside them.
    #[default]
    Flat,
    /// Elastic Common Schema. <https://www.elastic.co/guide/en/ecs/current/>
    Ecs,
    /// OpenTelemetry's log data model. <https://opentelemetry.io/docs/specs/otel/logs/data-model/>
    Otel,
}

/// One entry of the adapter's config: a [`LogSpec`] with the place where the adapter finds the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogSource {
    /// The directory, as the adapter sees it. Different for each entry.
    pub directory: String,
    /// As in [`LogSpec`].
    pub container: String,
    /// As in [`LogSpec`]: what stands before a file's name in the output.
    pub path: String,
    /// As in [`LogSpec`].
    pub files: Vec<String>,
    /// As in [`LogSpec`].
    pub format: LogFormat,
    /// As in [`LogSpec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// As in [`LogSpec`].
    pub multiline: Multiline,
    /// As in [`LogSpec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// As in [`LogSpec`].
    pub schema: LogSchema,
    /// Seconds east of UTC, for times that name no zone.
    pub utc_offset: i32,
    /// As in [`LogSpec`].
    pub max_line_bytes: u32,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            container: String::new(),
            path: String::new(),
            files: vec!["*.log".to_owned()],
            format: LogFormat::default(),
            pattern: None,
            multiline: Multiline::default(),
            start: None,
            schema: LogSchema::default(),
            time_zone: None,
            max_line_bytes: DEFAULT_LINE_BYTES,
        }
    }
}

impl LogSpec {
    /// The faults of an entry that stands at `at`.
    pub fn check(&self, at: &str) -> Vec<Fault> {
        let faults = [self.faults_of_place(), self.faults_of_reading()].concat();
        faults.into_iter().map(|(field, message)| Fault::new(format!("{at}.{field}"), message)).collect()
    }

    fn faults_of_place(&self) -> Vec<(&'static str, String)> {
        let Self { container, path, files, .. } = self;
        let mut faults = Vec::new();
        if !is_label(container) {
            let message = format!("{container:?} is no container name: at most 63 of a-z, 0-9 and -");
            faults.push(("container", message));
        }
        if !is_mountable(path) {
            let message = format!(
                "{path:?} can't be mounted on: it takes an absolute path without ':', '.' or '..', not \"/\", of at most \
                 {MAX_PATH} bytes"
            );
            faults.push(("path", message));
        }
        if is_below(path, "/var/run/secrets/kubernetes.io/serviceaccount") {
            faults.push(("path", format!("{path:?} is where the app's service account token is mounted")));
        }
        if is_needed(path) {
            let message =
                format!("{path:?} holds what the container needs: it takes a directory of logs alone");
            faults.push(("path", message));
        }
        if !(1..=MAX_FILES).contains(&files.len()) {
            let message = format!("{} entries: it takes 1 to {MAX_FILES}, as \"*.log\"", files.len());
            faults.push(("files", message));
        }
        let is_below = |file: &str| file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        for file in files.iter().filter(|file| file.len() > MAX_PATTERN || !is_below(file)) {
            let message = format!(
                "{file:?} can't be below {path}: it takes names of at most {MAX_PATTERN} bytes, as \"*.log\""
            );
            faults.push(("files", message));
        }
        faults
    }

    fn faults_of_reading(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        match (&self.pattern, self.format) {
            (None, LogFormat::Regex) => {
                faults.push(("pattern", "missing: format regex needs it".to_owned()));
            }
            (Some(_), format) if format != LogFormat::Regex => {
                faults.push(("pattern", "has no effect: it takes format regex".to_owned()));
            }
            _ => {}
        }
        faults.extend(self.pattern.as_deref().and_then(pattern_fault).map(|message| ("pattern", message)));
        faults.extend(self.start.as_deref().and_then(expression_fault).map(|message| ("start", message)));
        if self.start.is_some() && self.multiline != Multiline::Auto {
            faults.push(("multiline", "has no effect beside start: leave one out".to_owned()));
        }
        if let Some(zone) = self.time_zone.as_deref().filter(|zone| utc_offset(zone).is_none()) {
            faults.push(("timeZone", format!("{zone:?} is no offset from UTC: it takes Z or +02:00")));
        }
        if !(1024..=MAX_LINE_BYTES).contains(&self.max_line_bytes) {
            let message = format!("{} is not between 1024 and {MAX_LINE_BYTES}", self.max_line_bytes);
            faults.push(("maxLineBytes", message));
        }
        faults
    }

    /// The adapter's entry, with the files in `directory`.
    pub fn source(&self, directory: String) -> LogSource {
        LogSource {
            directory,
            container: self.container.clone(),
            path: self.path.trim_end_matches('/').to_owned(),
            files: self.files.clone(),
            format: self.format,
            pattern: self.pattern.clone(),
            multiline: self.multiline,
            start: self.start.clone(),
            schema: self.schema,
            utc_offset: self.time_zone.as_deref().and_then(utc_offset).unwrap_or(0),
            max_line_bytes: self.max_line_bytes,
        }
    }
}

pub(crate) fn is_mountable(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else { return false };
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    path.len() <= MAX_PATH
        && !inner.contains(':')
        && inner.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether no container would start with an empty directory there.
pub(crate) fn is_needed(path: &str) -> bool {
    let kernel = ["/dev", "/proc", "/sys"];
    let system = ["/etc", "/usr", "/usr/local"];
    // The same in each of the three places.
    let programs = ["bin", "lib", "lib64", "libexec", "sbin"];
    let directory = path.trim_end_matches('/');
    let parent_and_name = directory.rsplit_once('/');
    kernel.iter().any(|kernel| is_below(path, kernel))
        || system.contains(&directory)
        || parent_and_name.is_some_and(|(parent, name)| {
            matches!(parent, "" | "/usr" | "/usr/local") && programs.contains(&name)
        })
}

pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pattern without a named group would parse every line into nothing.
fn pattern_fault(pattern: &str) -> Option<String> {
    match compile(pattern) {
        Ok(regex) if regex.capture_names().flatten().next().is_none() => {
            Some("has no named group: it takes one for each field, as (?P<message>.*)".to_owned())
        }
        Ok(_) => None,
        Err(fault) => Some(fault),
    }
}

fn expression_fault(pattern: &str) -> Option<String> {
    compile(pattern).err()
}

/// Bounded: anybody's pod may bring patterns, and they are compiled where admissions wait.
fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATH {
        return Err(format!("longer than {MAX_PATH} bytes"));
    }
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| one_line(&error))
}

/// The engine draws its message over several lines; only the last says what is wrong.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("is no regular expression: {}", last.trim_start_matches("error: "))
}

/// Seconds east of UTC of `Z`, `+02:00` or `-0330`.
pub fn utc_offset(zone: &str) -> Option<i32> {
    if zone == "Z" || zone == "UTC" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').or_else(|| digits.split_at_checked(2))?;
    let number = |text: &str, most: i32| -> Option<i32> {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten().filter(|number| *number <= most)
    };
    Some(sign * (number(hours, 14)? * 3600 + number(minutes, 59)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_an_entry_is_listed() {
        let spec = LogSpec {
            path: "var/log".to_owned(),
            files: vec!["../secret".to_owned(), "/etc/passwd".to_owned()],
            pattern: Some("(".to_owned()),
            format: LogFormat::Json,
            start: Some("[".to_owned()),
            multiline: Multiline::Java,
            time_zone: Some("CET".to_owned()),
            max_line_bytes: 10,
            ..LogSpec::default()
        };
        let lines: Vec<_> = spec.check("spec.logs[0]").iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_pattern_needs_a_named_group() {
        let spec = |pattern: &str| LogSpec {
            container: "app".to_owned(),
            path: "/var/log".to_owned(),
            format: LogFormat::Regex,
            pattern: Some(pattern.to_owned()),
            ..LogSpec::default()
        };
        assert_eq!(spec("(?P<message>.*)").check("x"), []);
        assert!(spec("(.*)").check("x")[0].message.contains("no named group"));
    }

    #[test]
    fn logs_lie_in_no_directory_that_the_container_needs() {
        let faults = |path: &str, file: &str| {
            let (container, path) = ("app".to_owned(), path.to_owned());
            LogSpec { container, path, files: vec![file.to_owned()], ..LogSpec::default() }.check("x").len()
        };
        let needed =
            ["/bin", "/usr/", "/usr/bin", "/usr/sbin/", "/usr/lib64", "/usr/local", "/usr/local/lib"];
        for path in needed.iter().chain(&["/usr/libexec", "/usr/local/sbin", "/etc", "/sys/x"]) {
            assert_eq!(faults(path, "*.log"), 1, "{path}");
        }
        for path in ["/usr/local/app/logs", "/usr/lib/app/logs", "/opt/bin", "/usr/share/bin", "/library"] {
            assert_eq!(faults(path, "*.log"), 0, "{path}");
        }
        for file in ["./a.log", "a/./b.log", "a/.", "../a", "a//b", ""] {
            assert_eq!(faults("/var/log", file), 1, "{file}");
        }
        for file in [".a.log", "a/.b/c", "..a", "**/*.log"] {
            assert_eq!(faults("/var/log", file), 0, "{file}");
        }
    }

    #[test]
    fn offsets_from_utc() {
        for (zone, wanted) in [
            ("Z", Some(0)),
            ("+02:00", Some(7200)),
            ("-0330", Some(-12600)),
            ("+2", None),
            ("+99:00", None),
            ("CET", None),
        ] {
            assert_eq!(utc_offset(zone), wanted, "{zone}");
        }
    }
}
