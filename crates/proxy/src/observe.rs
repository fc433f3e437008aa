//! Counting: each request once, when its answer has ended or was given up.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use crate::listener::Port;
use crate::method::Method;
use crate::own_time::Clock;
use crate::reason::Reason;
use crate::request::{Request, Version};
use crate::series::RequestKey;

/// Status that a request is counted with when its client left before there was one. nginx's number, known from logs.
const CLIENT_CLOSED: u16 = 499;

/// One request and its answer. However it ends, also by being dropped, it is counted once.
#[derive(Debug)]
pub(crate) struct Exchange {
    port: Rc<Port>,
    clock: Rc<Clock>,
    version: Version,
    method: Method,
    started: Instant,
    code: Cell<u16>,
    /// How it ended. Until it has, what its being dropped would mean.
    reason: Reason,
    retried: Cell<bool>,
}

impl Exchange {
    /// A request's head has come, on a connection or a stream that this clock watches.
    pub(crate) fn start(port: &Rc<Port>, clock: &Rc<Clock>, request: &Request<'_>) -> Self {
        Self::of(port, clock, request.version, request.method)
    }

    /// A request of HTTP/1 came that is refused before its head is understood.
    pub(crate) fn unknown(port: &Rc<Port>, clock: &Rc<Clock>) -> Self {
        Self::of(port, clock, Version::Http11, Method::Other)
    }

    fn of(port: &Rc<Port>, clock: &Rc<Clock>, version: Version, method: Method) -> Self {
        port.metrics.started.add(1);
        Self {
            port: Rc::clone(port),
            clock: Rc::clone(clock),
            version,
            method,
            started: clock.begin(),
            code: Cell::new(CLIENT_CLOSED),
            reason: Reason::ClientClosed,
            retried: Cell::new(false),
        }
    }

    /// So much of the request's body passes.
    pub(crate) fn received(&self, bytes: usize) {
        self.port.metrics.request_body_bytes.add(bytes as u64);
    }

    /// So much of the body of the app's answer passes. Our own answers are not counted: nothing passed.
    pub(crate) fn passed(&self, bytes: usize) {
        self.port.metrics.response_body_bytes.add(bytes as u64);
    }

    /// The request is sent once more.
    pub(crate) fn retried(&self) {
        self.retried.set(true);
    }

    /// The answer's status is known.
    pub(crate) fn answered(&self, code: u16) {
        self.code.set(code);
    }

    /// It is over.
    pub(crate) fn end(mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (metrics, (ended, own)) = (&self.port.metrics, self.clock.end());
        metrics.ended.add(1);
        metrics.own_time.observe(own);
        if self.retried.get() {
            metrics.upstream.retried[usize::from(self.reason != Reason::None)].add(1);
        }
        let key = RequestKey {
            version: self.version,
            method: self.method,
            code: self.code.get(),
            reason: self.reason,
        };
        self.port.series.observe(&metrics.requests, key, ended - self.started);
    }
}
