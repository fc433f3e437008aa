//! Counting: each request once, when its answer has ended or was given up.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::listener::Port;
use crate::method::Method;
use crate::metrics::RequestKey;
use crate::reason::Reason;
use crate::request::Request;

/// Status that a request is counted with when its client left before there was one. nginx's number, known from logs.
const CLIENT_CLOSED: u16 = 499;

/// One request and its answer. However it ends, also by being dropped, it is counted once.
#[derive(Debug)]
pub(crate) struct Exchange {
    port: Rc<Port>,
    method: Method,
    started: Instant,
    code: u16,
    /// How it ended. Until it has, what its being dropped would mean.
    reason: Reason,
    /// Time in which nobody but we had anything to do.
    own: Duration,
    answer_began: Option<Instant>,
    /// The last time that was looked at, while nothing has happened since.
    now: Option<Instant>,
}

impl Exchange {
    /// A request's head has come.
    pub(crate) fn start(port: &Rc<Port>, request: &Request<'_>) -> Self {
        Self::of(port, request.method)
    }

    /// A request came whose head can't be understood.
    pub(crate) fn unknown(port: &Rc<Port>) -> Self {
        Self::of(port, Method::Other)
    }

    fn of(port: &Rc<Port>, method: Method) -> Self {
        port.metrics.start();
        Self {
            port: Rc::clone(port),
            method,
            started: Instant::now(),
            code: CLIENT_CLOSED,
            reason: Reason::ClientClosed,
            own: Duration::ZERO,
            answer_began: None,
            now: None,
        }
    }

    pub(crate) fn port(&self) -> Rc<Port> {
        Rc::clone(&self.port)
    }

    /// What there is of the request has gone to the app.
    pub(crate) fn sent(&mut self) {
        self.own = self.started.elapsed();
    }

    /// The first bytes of the answer can be read.
    pub(crate) fn answer_begins(&mut self) {
        self.answer_began = Some(Instant::now());
    }

    /// The answer's head, and what came with it, has gone to the client.
    pub(crate) fn head_passed(&mut self) {
        let now = Instant::now();
        if let Some(began) = self.answer_began {
            self.own += now - began;
        }
        self.now = Some(now);
    }

    /// So much of the body of the app's answer passes. Our own answers are not counted: nothing passed.
    pub(crate) fn passed(&mut self, bytes: usize) {
        self.now = None;
        self.port.metrics.response_body_bytes.add(bytes as u64);
    }

    /// The answer's status is known.
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
        let ended = self.now.unwrap_or_else(Instant::now);
        self.port.metrics.end(self.code, ended - self.started);
        if self.answer_began.is_some() {
            self.port.metrics.own_time.observe(self.own);
        }
        let key = RequestKey { method: self.method, code: self.code, reason: self.reason };
        self.port.counters.count(&self.port.metrics, key);
    }
}
