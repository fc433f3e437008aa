//! Which requests a reader wants to be told.

use serde::Deserialize;

use crate::access_log::Line;

/// The query of `/tap`. What is not given is not asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Question {
    /// `inbound` or `outbound`.
    direction: Option<Way>,
    /// In any case.
    method: Option<String>,
    /// With what the path begins, as clients write it.
    path: Option<String>,
    /// `503`, or `5xx`.
    status: Option<Status>,
    /// How long a request took at least.
    min_milliseconds: Option<u64>,
    /// How many lines a second; of the others the reader learns how many they were.
    pub(crate) per_second: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Inbound,
    Outbound,
}

/// One status, or all of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Status {
    Code(u16),
    /// The first digit.
    Class(u16),
}

impl TryFrom<String> for Status {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|class| class.parse().ok());
        match (class, text.parse()) {
            (Some(class @ 1..=5), _) => Ok(Self::Class(class)),
            (None, Ok(code @ 100..=599)) => Ok(Self::Code(code)),
            _ => Err(format!("status {text:?} is none: 503, or 5xx for all of them")),
        }
    }
}

impl Question {
    /// Whether this is one of them.
    pub(crate) fn wants(&self, line: &Line<'_>) -> bool {
        let Self { direction, method, path, status, min_milliseconds, per_second: _ } = self;
        direction.is_none_or(|way| line.direction == way.as_str())
            && method.as_ref().is_none_or(|method| line.method.eq_ignore_ascii_case(method))
            && path.as_ref().is_none_or(|path| line.path.starts_with(path.as_str()))
            && status.is_none_or(|status| status.is_of(line.status))
            && min_milliseconds.is_none_or(|least| line.duration_seconds.as_millis() >= least.into())
    }
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Status {
    fn is_of(self, code: u16) -> bool {
        match self {
            Self::Code(wanted) => code == wanted,
            Self::Class(class) => code / 100 == class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_or_a_class() {
        let of = |text: &str| Status::try_from(text.to_owned());
        assert_eq!(of("503"), Ok(Status::Code(503)));
        assert_eq!(of("5xx"), Ok(Status::Class(5)));
        for wrong in ["", "xx", "6xx", "50x", "99", "600", "-1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(Status::Class(4).is_of(499) && !Status::Class(4).is_of(500));
        assert!(Status::Code(499).is_of(499) && !Status::Code(499).is_of(400));
    }
}
