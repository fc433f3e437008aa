//! The closed set behind a label: why a connection ended.

/// Why a client's HTTP/2 connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In order, by either side.
    Orderly,
    /// The client cut it off.
    ClientClosed,
    /// What the client sent is no HTTP/2.
    ProtocolError,
    /// Nothing came from the client, not even an answer to a PING.
    PingTimeout,
    /// More requests were reset before their answer than a client has a use for (CVE-2023-44487).
    ResetFlood,
    /// More frames that move nothing than a client has a use for: PING, SETTINGS, PRIORITY (CVE-2019-9512 and on).
    ControlFlood,
    /// A head in more CONTINUATION frames than it needs (VU#421644), or of far more fields than there may be.
    HeadFlood,
    /// A head did not come whole in time.
    HeadTimeout,
    /// A head did not come whole at once, and there was no memory to wait for the rest.
    OutOfBuffers,
    /// Data in pieces so small, or empty, that they cost more than they carry (CVE-2019-9518).
    DataFlood,
}

impl Ended {
    /// Each at its own number, `ended as usize`.
    pub(crate) const ALL: [Self; 10] = [
        Self::Orderly,
        Self::ClientClosed,
        Self::ProtocolError,
        Self::PingTimeout,
        Self::ResetFlood,
        Self::ControlFlood,
        Self::HeadFlood,
        Self::HeadTimeout,
        Self::OutOfBuffers,
        Self::DataFlood,
    ];

    /// The `reason` label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Orderly => "",
            Self::ClientClosed => "client_closed",
            Self::ProtocolError => "protocol_error",
            Self::PingTimeout => "ping_timeout",
            Self::ResetFlood => "reset_flood",
            Self::ControlFlood => "control_flood",
            Self::HeadFlood => "head_flood",
            Self::HeadTimeout => "head_timeout",
            Self::OutOfBuffers => "out_of_buffers",
            Self::DataFlood => "data_flood",
        }
    }
}
