//! What is changed of requests and answers on their way: headers, and whole answers by their status.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Fault;
use crate::names::{header_name_fault, is_header_name};
#[cfg(feature = "crd")]
use crate::schema::{header_name_rule, header_names, rule, without_default};

/// The most overrides of one port, and the most headers that are set or removed in one place.
pub const MAX_OVERRIDES: usize = 8;
/// See [`MAX_OVERRIDES`].
pub const MAX_HEADERS: usize = 8;
/// The longest body of an override, in bytes. It stands in an annotation of each pod, whose annotations may have 256 KiB together.
pub const MAX_BODY: usize = 16 * 1024;
const MAX_VALUE: usize = 512;

/// Headers that are set and taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct HeadersSpec {
    /// Set to these values, whatever stood there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_HEADERS)))]
    pub set: Vec<HeaderSpec>,
    /// Taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "header_names"))]
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["name", "value"])))]
pub struct HeaderSpec {
    /// Its name, sent by HTTP/1 as it is written here.
    #[cfg_attr(
        feature = "crd",
        schemars(length(max = 64), transform = without_default, extend("x-kubernetes-validations" = [header_name_rule()]))
    )]
    pub name: String,
    /// Its value: printable ASCII.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(min = 1, max = MAX_VALUE),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule("self.matches('^[ -~]*$')", "it takes printable ASCII on one line")])
        )
    )]
    pub value: String,
}

impl HeadersSpec {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// The faults of headers that stand at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: String, message: String| faults.push(Fault::new(format!("{at}.{field}"), message));
        for (field, entries) in [("set", self.set.len()), ("remove", self.remove.len())] {
            if entries > MAX_HEADERS {
                fault(field.to_owned(), format!("{entries} entries: at most {MAX_HEADERS}"));
            }
        }
        for (i, HeaderSpec { name, value }) in self.set.iter().enumerate() {
            if !is_header_name(name) {
                fault(format!("set[{i}].name"), header_name_fault(name));
            }
            if !(1..=MAX_VALUE).contains(&value.len())
                || !value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            {
                fault(
                    format!("set[{i}].value"),
                    format!("it takes printable ASCII on one line, 1 to {MAX_VALUE} bytes"),
                );
            }
        }
        for (i, name) in self.remove.iter().enumerate().filter(|(_, name)| !is_header_name(name)) {
            fault(format!("remove[{i}]"), header_name_fault(name));
        }
        faults
    }
}

/// Another answer in the place of the app's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend(
        "required" = ["status"],
        "x-kubernetes-validations" = [
            serde_json::json!({
                "rule": "has(self.body) || has(self.replaceStatus) || has(self.headers)",
                "message": "it changes nothing: give it a body, replaceStatus or headers",
            }),
            serde_json::json!({
                "rule": "!has(self.contentType) || has(self.body)",
                "message": "it goes with a body",
                "fieldPath": ".contentType",
            }),
        ]
    ))
)]
pub struct OverrideSpec {
    /// The statuses of the app whose answers are changed: numbers from 400 to 599, or `4xx` and `5xx`.
    #[cfg_attr(feature = "crd", schemars(length(min = 1, max = 16), transform = without_default))]
    pub status: Vec<StatusRef>,
    /// The beginnings of paths that it is for, by whole segments: `/api` is for `/api` and `/api/carts`, not for `/apis`. Default: every
    /// path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 16),
            inner(length(max = 256)),
            extend("x-kubernetes-validations" = [rule(
                "self.all(path, path.matches('^/[!->@-~]*$') && !path.contains('#'))",
                "it takes paths without a query, as /api",
            )])
        )
    )]
    pub path_prefixes: Vec<String>,
    /// What takes the place of the body. Default: the app's stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(max = MAX_BODY)))]
    pub body: Option<String>,
    /// What that body is. Default: `text/html; charset=utf-8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = 128),
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^[!-~]+/[!-~][ -~]*$')",
                "it takes a type, as application/json",
            )])
        )
    )]
    pub content_type: Option<String>,
    /// The status that takes the place of the app's. Default: the app's stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "u16",
            range(min = 200, max = 599),
            extend("x-kubernetes-validations" = [rule("!(self in [204, 205, 304])", "answers of that status have no body")])
        )
    )]
    pub replace_status: Option<u16>,
    /// Headers of the answer that are set and taken out.
    #[serde(skip_serializing_if = "HeadersSpec::is_empty")]
    pub headers: HeadersSpec,
}

impl OverrideSpec {
    /// The faults of an override that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = self.headers.check(&format!("{at}.headers"));
        let mut fault =
            |field: &str, message: String| faults.push(Fault::new(format!("{at}{field}"), message));
        if !(1..=16).contains(&self.status.len()) {
            fault(".status", format!("{} entries: it takes 1 to 16, as 404 or 5xx", self.status.len()));
        }
        if self.path_prefixes.len() > 16 {
            fault(".pathPrefixes", format!("{} entries: at most 16", self.path_prefixes.len()));
        }
        for (i, path) in self.path_prefixes.iter().enumerate().filter(|(_, path)| !is_path(path)) {
            fault(
                &format!(".pathPrefixes[{i}]"),
                format!("{path:?} is no path: it begins with / and has no query, at most 256 bytes"),
            );
        }
        if self.body.as_ref().is_some_and(|body| body.chars().count() > MAX_BODY) {
            fault(".body", format!("longer than {MAX_BODY} characters"));
        }
        if let Some(kind) = self.content_type.as_deref().filter(|kind| !is_content_type(kind)) {
            fault(".contentType", format!("{kind:?} is no type: it takes one as application/json"));
        }
        if self.content_type.is_some() && self.body.is_none() {
            fault(".contentType", "it goes with a body".to_owned());
        }
        let is_status = |status: &u16| (200..=599).contains(status) && ![204, 205, 304].contains(status);
        if let Some(status) = self.replace_status.filter(|status| !is_status(status)) {
            fault(".replaceStatus", format!("{status} is no status with a body from 200 to 599"));
        }
        if self.body.is_none() && self.replace_status.is_none() && self.headers.is_empty() {
            fault("", "it changes nothing: give it a body, replaceStatus or headers".to_owned());
        }
        faults
    }
}

pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 256
        && text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'?' && byte != b'#')
}

pub(crate) fn is_content_type(text: &str) -> bool {
    let printable = text.len() <= 128 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let parts = text.split_once('/');
    printable
        && parts.is_some_and(|(kind, rest)| {
            !kind.is_empty() && !kind.contains(' ') && !rest.is_empty() && !rest.starts_with(' ')
        })
}

/// A status that is an error, or all of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRef {
    /// This one.
    Code(u16),
    /// All of this class: 4 or 5.
    Class(u16),
}

impl StatusRef {
    /// Whether it is this status.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::Code(code) => code == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

/// No status at all, so that a list's element without its faulty value is still one.
impl Default for StatusRef {
    fn default() -> Self {
        Self::Code(500)
    }
}

impl fmt::Display for StatusRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Serialize for StatusRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Code(code) => serializer.serialize_u16(*code),
            class @ Self::Class(_) => serializer.collect_str(class),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match (text.as_str(), text.parse::<u16>()) {
            ("4xx", _) => Ok(Self::Class(4)),
            ("5xx", _) => Ok(Self::Class(5)),
            (_, Ok(code)) if (400..=599).contains(&code) && text.len() == 3 => Ok(Self::Code(code)),
            // What stands in for a faulty element of a list, whose fault is told already.
            ("{}", _) => Ok(Self::default()),
            _ => Err(serde::de::Error::custom(format!(
                "{text} is no status of an error: it takes a number from 400 to 599, 4xx or 5xx"
            ))),
        }
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for StatusRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "nullable": false,
            "maxLength": 16,
            "x-kubernetes-validations": [rule(
                "type(self) == int ? self >= 400 && self <= 599 : self.matches('^([45][0-9]{2}|4xx|5xx)$')",
                "it takes a number from 400 to 599, 4xx or 5xx",
            )],
        })
    }
}
