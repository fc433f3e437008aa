//! The closed sets behind label values: why a request failed.

use http::StatusCode;

use crate::labels::Direction;

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
    /// DNS has no address for the upstream's host.
    UnknownHost,
    /// The connection was made to the proxy itself.
    Loop,
    /// The kernel does not say where the connection was going.
    UnknownDestination,
    /// The connection was for an address at which nobody else may call the pod.
    ForeignAddress,
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
    /// CONNECT, of which a proxy that is not asked by name has no use.
    MethodRefused,
    /// There are as many connections as there may be.
    TooManyConnections,
    /// Slow peers hold as much memory as they may together, and the client would hold more.
    OutOfBuffers,
    /// The client speaks plain HTTP on a port of TLS.
    PlainHttp,
    /// The app's answer did not begin in time.
    RequestTimeout,
    /// There are as many requests under way as there may be.
    TooManyRequests,
    /// As many requests wait for their turn as there may be.
    TooManyPending,
    /// The request's turn did not come in time.
    PendingTimeout,
    /// There were as many requests of late as there may be.
    RateLimited,
    /// The circuit breaker keeps requests from a failing upstream.
    CircuitOpen,
    /// The request has no good credential.
    Unauthenticated,
    /// Its credential does not allow it.
    Forbidden,
    /// Who has to allow it does not answer.
    AuthUnavailable,
    /// The upstream's certificate is not good.
    TlsCertificate,
    /// TLS with the upstream did not come about for another cause.
    TlsFailed,
}

impl Reason {
    /// Each at its own number, `reason as usize`.
    pub(crate) const ALL: [Self; 30] = [
        Self::None,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::UnknownHost,
        Self::Loop,
        Self::UnknownDestination,
        Self::ForeignAddress,
        Self::Reset,
        Self::ProtocolError,
        Self::ClientClosed,
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::MethodRefused,
        Self::TooManyConnections,
        Self::OutOfBuffers,
        Self::PlainHttp,
        Self::RequestTimeout,
        Self::TooManyRequests,
        Self::TooManyPending,
        Self::PendingTimeout,
        Self::RateLimited,
        Self::CircuitOpen,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::AuthUnavailable,
        Self::TlsCertificate,
        Self::TlsFailed,
    ];

    /// Header of the answers that we give in the app's place.
    pub(crate) const HEADER: &str = "outrigger-reason";

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::UnknownHost => "unknown_host",
            Self::Loop => "loop",
            Self::UnknownDestination => "unknown_destination",
            Self::ForeignAddress => "foreign_address",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::ClientClosed => "client_closed",
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MethodRefused => "method_refused",
            Self::TooManyConnections => "too_many_connections",
            Self::OutOfBuffers => "out_of_buffers",
            Self::PlainHttp => "plain_http",
            Self::RequestTimeout => "request_timeout",
            Self::TooManyRequests => "too_many_requests",
            Self::TooManyPending => "too_many_pending",
            Self::PendingTimeout => "pending_timeout",
            Self::RateLimited => "rate_limited",
            Self::CircuitOpen => "circuit_open",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::AuthUnavailable => "auth_unavailable",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsFailed => "tls_failed",
        }
    }

    /// The status that we answer with.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::UnknownHost
            | Self::Reset
            | Self::TlsCertificate
            | Self::TlsFailed
            | Self::ProtocolError => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyConnections
            | Self::OutOfBuffers
            | Self::TooManyRequests
            | Self::TooManyPending
            | Self::PendingTimeout
            | Self::CircuitOpen
            | Self::AuthUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            // Of the last four no client hears.
            Self::BadRequest
            | Self::PlainHttp
            | Self::UnknownDestination
            | Self::ForeignAddress
            | Self::ClientClosed
            | Self::None => StatusCode::BAD_REQUEST,
        }
    }

    /// What happened, and what to do about it, for whoever reads the body.
    pub(crate) const fn sentence(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Self::ConnectRefused, Direction::Inbound) => {
                "the app refuses connections: it listens on loopback only, or not at all"
            }
            (Self::ConnectRefused, Direction::Outbound) => "the upstream refuses connections",
            (Self::ConnectTimeout, Direction::Inbound) => {
                "the app does not accept connections: its backlog is full"
            }
            (Self::ConnectTimeout, Direction::Outbound) => "the upstream did not accept a connection in time",
            (Self::ConnectFailed, Direction::Inbound) => "failed to connect to the app",
            (Self::ConnectFailed, Direction::Outbound) => "failed to connect to the upstream",
            (Self::UnknownHost, _) => "DNS has no address for the upstream's host",
            (Self::Loop, Direction::Inbound) => "the connection was made to the proxy itself",
            (Self::Loop, Direction::Outbound) => {
                "the connection was made to the proxy itself, or by it: then it runs as another user than the rules leave alone"
            }
            (Self::UnknownDestination, _) => "the kernel does not say where the connection was going",
            (Self::ForeignAddress, _) => {
                "the connection was for an address that the pod does not have, or that is for itself alone"
            }
            (Self::Reset, Direction::Inbound) => "the app closed the connection before it answered",
            (Self::Reset, Direction::Outbound) => "the upstream closed the connection before it answered",
            (Self::ProtocolError, Direction::Inbound) => {
                "the app's answer is not HTTP of the version that it was asked by"
            }
            (Self::ProtocolError, Direction::Outbound) => {
                "the upstream's answer is not HTTP of the version that it was asked by"
            }
            (Self::MethodRefused, Direction::Inbound) => "CONNECT is refused: this is an inbound proxy",
            (Self::MethodRefused, Direction::Outbound) => "CONNECT is refused: this is no forward proxy",
            (Self::TooManyConnections, _) => "the proxy has as many connections as it may have",
            (Self::OutOfBuffers, _) => "slow clients hold as much memory as they may together",
            (Self::RequestTimeout, Direction::Inbound) => "the app did not answer in time",
            (Self::RequestTimeout, Direction::Outbound) => "the upstream did not answer in time",
            (Self::TooManyRequests, _) => "as many requests are under way as there may be",
            (Self::TooManyPending, _) => "as many requests wait for their turn as there may be",
            (Self::PendingTimeout, _) => "the request waited for its turn for as long as it may",
            (Self::RateLimited, _) => "more requests came than there may be in a time",
            (Self::CircuitOpen, _) => "the upstream has failed too often and is left alone for a while",
            (Self::Unauthenticated, _) => "it takes a good credential",
            (Self::Forbidden, _) => "the credential does not allow this",
            (Self::AuthUnavailable, _) => "the server that says who may ask what does not answer",
            (Self::TlsCertificate, _) => {
                "the upstream's certificate is not one that the profile's ca trusts for its name"
            }
            (Self::TlsFailed, _) => "TLS with the upstream failed",
            (Self::PlainHttp, _) => "this port speaks TLS: use https",
            (Self::BadRequest, _) => "the request is not HTTP, or can be read in two ways",
            (Self::HeadTooLarge, _) => "the request's head exceeds 64 KiB or 1,000 headers",
            (Self::HeadTimeout, _) => "the request's head did not come in time",
            (Self::BodyTimeout, _) => "the request's body did not come in time",
            (Self::ClientClosed | Self::None, _) => "the client closed the connection",
        }
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
