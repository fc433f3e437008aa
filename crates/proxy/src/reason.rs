//! The closed sets behind label values: why a request failed.

use http::StatusCode;

/// Why a request did not simply get the app's answer, or why a relayed connection ended early. It is the `reason` label,
/// and where we answer in the app's place, the header [`Reason::HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It got the app's answer; both sides closed.
    None,
    /// Nothing listens on the app's port at any of its addresses.
    ConnectRefused,
    /// The app did not accept the connection in time.
    ConnectTimeout,
    /// The connection to the app could not be made for another cause, such as no free file descriptor.
    ConnectFailed,
    /// The app closed the connection before the answer was complete, or cut a relayed one.
    Reset,
    /// The app's answer is not HTTP of the version that it was asked by.
    ProtocolError,
    /// The client went away before the answer was complete, or cut a relayed connection.
    ClientClosed,
    /// The client's request is not HTTP.
    BadRequest,
    /// The client's request has a head that is larger than there may be.
    HeadTooLarge,
    /// The client took too long for a request's head.
    HeadTimeout,
    /// The client took too long over a body: sending its request's, or taking the answer's.
    BodyTimeout,
    /// CONNECT, which an inbound proxy has no use for.
    MethodRefused,
    /// There are as many connections as there may be.
    TooManyConnections,
}

impl Reason {
    /// Each at its own number, `reason as usize`.
    pub(crate) const ALL: [Self; 13] = [
        Self::None,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::Reset,
        Self::ProtocolError,
        Self::ClientClosed,
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::MethodRefused,
        Self::TooManyConnections,
    ];

    /// Header of the answers that we give in the app's place.
    pub(crate) const HEADER: &str = "outrigger-reason";

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::ClientClosed => "client_closed",
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MethodRefused => "method_refused",
            Self::TooManyConnections => "too_many_connections",
        }
    }

    /// What we answer, and what to do about it, for whoever reads the body.
    pub(crate) const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::ConnectRefused => (
                StatusCode::BAD_GATEWAY,
                "the app refuses connections: it listens on loopback only, or not at all",
            ),
            Self::ConnectTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "the app does not accept connections: its backlog is full")
            }
            Self::ConnectFailed => (StatusCode::BAD_GATEWAY, "failed to connect to the app"),
            Self::Reset => (StatusCode::BAD_GATEWAY, "the app closed the connection before it answered"),
            Self::ProtocolError => {
                (StatusCode::BAD_GATEWAY, "the app's answer is not HTTP of the version that it was asked by")
            }
            Self::MethodRefused => {
                (StatusCode::METHOD_NOT_ALLOWED, "CONNECT is refused: this is an inbound proxy")
            }
            Self::TooManyConnections => {
                (StatusCode::SERVICE_UNAVAILABLE, "the proxy has as many connections as it may have")
            }
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "the request is not HTTP, or can be read in two ways")
            }
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request's head exceeds 64 KiB or 1,000 headers",
            ),
            Self::HeadTimeout => (StatusCode::REQUEST_TIMEOUT, "the request's head did not come in time"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time"),
            // Never reaches a client: it is gone. `None` is no failure.
            Self::ClientClosed | Self::None => (StatusCode::BAD_REQUEST, "the client closed the connection"),
        }
    }

    /// The body of that answer.
    pub(crate) fn body(self) -> String {
        format!("outrigger: {} ({})\n", self.answer().1, self.as_str())
    }
}

/// Label value for whatever is outside a closed set, as OpenTelemetry spells it for methods.
pub(crate) const OTHER: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_number() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
