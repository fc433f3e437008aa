//! HTTP/2, and with it gRPC, by `h2`, which is the HTTP/2 of hyper.
//!
//! Not by hyper itself: it takes three tasks and two channels for a stream, says of a reset only that there was one, and
//! gives room for more of a body when it has read it rather than when the other side has taken it.
//!
//! `connection` waits for a client's streams, `exchange` is the way of one, top to bottom. `app` is the connection to the app,
//! one for each of a client's: if streams of many clients shared one, a client that does not read would take up the room of
//! all, an app that serves each connection on one thread would have one thread for all, and an app that tells a client to
//! connect anew (gRPC's `MAX_CONNECTION_AGE`) would tell only us.

mod answer;
mod app;
mod authority;
mod body;
mod connection;
mod ended;
mod exchange;
mod guard;
mod kept;
mod piece;
mod reading;
mod watch;

pub(crate) use connection::serve;
pub(crate) use ended::Ended;

/// Streams that a client may have open at a time on one connection. 100 is the least that RFC 9113 6.5.2 advises, and what
/// Envoy and nginx are set to where they face the world; clients that need more wait, or open another connection.
const MAX_STREAMS: u32 = 100;

/// Bytes of a stream, and of a connection, that may be on their way and not yet taken: 64 KiB and 1 MiB, as in Linkerd. This is
/// what a stream that does not move costs in memory; on loopback and inside a cluster it is no bound on speed.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a connection takes in memory, in bytes, while nothing moves: buffers of `h2` for what is read and written, and its tables.
const CONNECTION_SIZE: usize = 26 * 1024;

/// What a stream takes beside its head and body, in bytes: its task. And its place in the tables of `h2`, towards the client and towards the
/// app: these grow by doubling, hold streams that were reset of late beside those under way, and are given back with the connection only.
const STREAM_SIZE: usize = 4 * 1024;
const PLACE_SIZE: usize = 2400;
