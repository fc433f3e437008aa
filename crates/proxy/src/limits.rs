//! How long and how much the data plane puts up with. Constants for now; profiles will set some of them.

use std::time::Duration;

use outrigger_api::span::Span;
use outrigger_api::traffic::TimeoutsSpec;

use crate::cgroup;

/// The limits of one proxy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client's connection may be idle, before its first request and between two. Default: 90 s, longer than the
    /// 60 s after which most callers drop an idle connection: a proxy that drops first makes them send into a closed one.
    pub idle: Duration,
    /// How long a client may take for a request's head from its first byte. Default: 10 s; a head comes in one packet or two,
    /// and clients who send a byte now and then would hold memory for long.
    pub head: Duration,
    /// How long a client may take for its handshake by TLS, from its first byte. Default: 10 s, as for a head.
    pub handshake: Duration,
    /// How long a client may take nothing of an answer that waits for it, or by HTTP/1 send nothing of a body. Default: 5 min, as
    /// Envoy has it: a client that is slow moves a little now and then, but a player whose buffer is full takes nothing for minutes.
    pub body: Duration,
    /// How long a client with requests under way by HTTP/2 may be silent before it is asked by PING whether it is still there;
    /// as long again without a byte from it, and its connection is cut. Default: 30 s.
    pub ping: Duration,
    /// How long the app may take from a request to the head of its answer. Default: no limit; that is its and its caller's business,
    /// until a profile says otherwise.
    pub request: Option<Duration>,
    /// How long the app may take to accept a connection. Default: 3 s, so that one lost SYN, resent after 1 s, is no error.
    pub connect: Duration,
    /// How long a connection to the app is kept for the next request. Default: 1.5 s, below gunicorn's keep-alive of 2 s, the
    /// shortest of the common servers (Node, uvicorn and Apache: 5 s), so that we close first and no request meets a
    /// connection that the app has just closed.
    pub pool_idle: Duration,
    /// How many idle connections are kept for one place. Default: as many as were needed at a time.
    pub pool_size: usize,
    /// How old a connection may be to be kept. Default: as old as it gets.
    pub pool_age: Duration,
    /// How many connections clients may have at a time, on all ports together. Default: 5,000, of which most are idle in any app:
    /// an idle one takes 2 to 3 KiB of the default memory limit of 64 MiB, and one whose bytes are on their way 16 KiB more. Without a
    /// bound, a flood would end the proxy and so the pod's traffic.
    pub connections: usize,
    /// How many bytes peers that are slow may hold in buffers together, on all ports, with those of TLS and HTTP/2 and what their sessions and
    /// connections take. Default: 24 MiB, which beside as many connections as there may be, all idle, stays within the default memory limit
    /// of 64 MiB; the program goes by the limit that its container has: [`buffers`].
    pub buffers: usize,
    /// How long a stop waits for what is in flight. Default: 25 s, below the 30 s that Kubernetes gives a pod.
    pub drain: Duration,
    /// How long nothing must have been in flight before a stopping proxy gives up its ports. Default: 500 ms. New
    /// connections come until every node has heard that the pod is going, so ports closed at once would refuse them
    /// (linkerd2#11084); waiting much longer would hold up every pod's end.
    pub quiet: Duration,
}

impl Limits {
    /// With the timeouts that a profile has.
    pub(crate) fn with(mut self, timeouts: &TimeoutsSpec) -> Self {
        let TimeoutsSpec { connect, request, idle } = timeouts;
        self.connect = connect.as_ref().map_or(self.connect, Span::length);
        self.idle = idle.as_ref().map_or(self.idle, Span::length);
        self.request = request.as_ref().map(Span::length).or(self.request);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(90),
            head: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            body: Duration::from_mins(5),
            ping: Duration::from_secs(30),
            connect: Duration::from_secs(3),
            request: None,
            pool_idle: Duration::from_millis(1500),
            pool_size: usize::MAX,
            pool_age: Duration::MAX,
            connections: 5000,
            buffers: 24 * 1024 * 1024,
            drain: Duration::from_secs(25),
            quiet: Duration::from_millis(500),
        }
    }
}

impl Limits {
    /// Those of calls to others, which are further away than the app is, and many.
    ///
    /// A connection behind a Service stays with one pod for as long as it is open: an age makes calls move on to pods that came
    /// later, and away from those that should end (linkerd2#6238). The number bounds the file descriptors (linkerd2#5146: 24,631).
    pub(crate) fn outbound(self) -> Self {
        Self {
            connect: self.connect.max(Duration::from_secs(10)),
            pool_size: self.pool_size.min(100),
            pool_age: self.pool_age.min(Duration::from_mins(1)),
            ..self
        }
    }
}

/// What the proxy takes without clients, and one idle connection by HTTP/1, in bytes.
const ALONE: usize = 9 * 1024 * 1024;
const IDLE: usize = 3 * 1024;
/// What is supposed where there is no limit, in bytes.
const NO_LIMIT: u64 = 256 * 1024 * 1024;
/// With less the proxy could serve nobody, in bytes.
const LEAST: usize = 4 * 1024 * 1024;

/// How many bytes of buffers fit the memory limit of this container beside so many connections. A quarter of the limit is left alone, for what is
/// not counted and what the allocator can't use.
#[must_use]
pub fn buffers(connections: usize) -> usize {
    within(cgroup::memory_limit().unwrap_or(NO_LIMIT), connections)
}

fn within(limit: u64, connections: usize) -> usize {
    let usable = usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX);
    usable.saturating_sub(ALONE.saturating_add(connections.saturating_mul(IDLE))).max(LEAST)
}

/// Largest head of a message. 64 KiB: what Node, nginx and Tomcat accept is at most a half of it.
pub(crate) const MAX_BUFFER: usize = 64 * 1024;

/// Most headers of a message. 100, as many servers have it, is reached by a session of cookies and traces: apps on Go have
/// no limit, Node's is 2000.
pub(crate) const MAX_HEADERS: usize = 1000;

/// How many clients at a time are told that there are too many, and for how long each. More are closed without a word.
pub(crate) const TURNED_AWAY: usize = 100;
pub(crate) const TURN_AWAY: Duration = Duration::from_secs(1);

/// How long a silent peer may be silent before the kernel asks whether it is still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_take_what_the_limit_leaves() {
        let of = |limit: u64, connections| within(limit << 20, connections) >> 20;
        assert_eq!(of(64, 5000), 24);
        assert_eq!(of(128, 5000), 72);
        assert_eq!(of(256, 10_000), 153);
        assert_eq!(of(32, 5000), 4, "never none");
        assert_eq!(of(64, usize::MAX), 4);
    }
}
