//! gRPC's own status, which tells how a call went where the HTTP status is 200 anyway.

use http::{HeaderMap, StatusCode};
use outrigger_api::grpc::NAMES;

/// Header, or trailer, of the status.
pub(crate) const STATUS: &str = "grpc-status";

/// How a call ended: <https://grpc.io/docs/guides/status-codes/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    /// How many there are, numbered from 0.
    pub(crate) const COUNT: usize = NAMES.len();

    pub(crate) const OK: Self = Self(0);
    pub(crate) const CANCELLED: Self = Self(1);
    pub(crate) const UNKNOWN: Self = Self(2);
    pub(crate) const PERMISSION_DENIED: Self = Self(7);
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(8);
    pub(crate) const UNIMPLEMENTED: Self = Self(12);
    pub(crate) const INTERNAL: Self = Self(13);
    pub(crate) const UNAVAILABLE: Self = Self(14);
    pub(crate) const UNAUTHENTICATED: Self = Self(16);

    /// What these trailers tell, or a head that has no trailers after it; `None` where they tell nothing. What is no code
    /// is `UNKNOWN`, as clients have it.
    pub(crate) fn told(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(STATUS)?;
        let number = value.to_str().ok().and_then(|value| value.parse().ok());
        Some(number.filter(|number| usize::from(*number) < Self::COUNT).map_or(Self::UNKNOWN, Self))
    }

    /// What clients make of an answer without one:
    /// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// What clients make of a stream that was reset:
    /// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors>.
    pub(crate) fn of_reset(reason: h2::Reason) -> Self {
        match reason {
            h2::Reason::REFUSED_STREAM => Self::UNAVAILABLE,
            h2::Reason::CANCEL => Self::CANCELLED,
            h2::Reason::ENHANCE_YOUR_CALM => Self::RESOURCE_EXHAUSTED,
            h2::Reason::INADEQUATE_SECURITY => Self::PERMISSION_DENIED,
            _ => Self::INTERNAL,
        }
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// The `grpc_code` label.
    pub(crate) fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    pub(crate) fn all() -> [Self; Self::COUNT] {
        let mut number = 0;
        [(); Self::COUNT].map(|()| {
            number += 1;
            Self(number - 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_unknown() {
        for (value, wanted) in
            [("0", "OK"), ("14", "UNAVAILABLE"), ("16", "UNAUTHENTICATED"), ("17", "UNKNOWN")]
        {
            let told = |value: &str| {
                Code::told(&HeaderMap::from_iter([(STATUS.parse().unwrap(), value.parse().unwrap())]))
            };
            assert_eq!(told(value).unwrap().name(), wanted);
            assert_eq!(told("-1"), Some(Code::UNKNOWN));
            assert_eq!(told(""), Some(Code::UNKNOWN));
        }
        assert_eq!(Code::told(&HeaderMap::new()), None);
        assert_eq!(Code::all().map(Code::name), NAMES);
    }
}
