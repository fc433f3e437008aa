//! Counting: each request once, when its answer has ended or was given up.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::Method;

use crate::listener::Port;
use crate::metrics::RequestKey;
use crate::reason::{OTHER, Reason, method_label};

/// Status that a request is counted with when its client left before there was one. nginx's number, known from logs.
const CLIENT_CLOSED: u16 = 499;

/// One request and its answer. However it ends, also by being dropped, it is counted once.
#[derive(Debug)]
pub(crate) struct Exchange {
    port: Rc<Port>,
    method: &'static str,
    started: Instant,
    code: u16,
    /// How it ended. Until it has, what its being dropped would mean.
    reason: Reason,
}

impl Exchange {
    /// A request's head has come.
    pub(crate) fn start(port: &Rc<Port>, method: &Method) -> Self {
        Self::begin(port, method_label(method))
    }

    /// A request came whose head can't be understood.
    pub(crate) fn unknown(port: &Rc<Port>) -> Self {
        Self::begin(port, OTHER)
    }

    fn begin(port: &Rc<Port>, method: &'static str) -> Self {
        port.metrics.start();
        Self {
            port: Rc::clone(port),
            method,
            started: Instant::now(),
            code: CLIENT_CLOSED,
            reason: Reason::ClientClosed,
        }
    }

    /// So much of the body of the app's answer passes. Our own answers are not counted: nothing passed.
    pub(crate) fn passed(&self, bytes: usize) {
        self.port.metrics.response_body_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The answer's head is on its way.
    pub(crate) fn answered(&mut self, code: u16) {
        self.code = code;
    }

    /// It is over.
    pub(crate) fn end(mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.port.metrics.end(self.code, self.started.elapsed());
        let key = RequestKey { method: self.method, code: self.code, reason: self.reason };
        self.port.counters.count(&self.port.metrics, key);
    }
}
