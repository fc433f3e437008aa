//! Counting: each request once, when its answer has ended or was given up.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::access_log::{Context, Line, Noted};
use crate::answer::OwnAnswer;
use crate::breaker::Permit;
use crate::circuit::{self, Circuit};
use crate::failures::Failure;
use crate::grpc::Code;
use crate::headers::Edits;
use crate::method::Method;
use crate::overrides::{Change, Rules};
use crate::own_time::Clock;
use crate::port::Port;
use crate::reason::Reason;
use crate::request::{Headers, Request, Version};
use crate::routes::{Ended, Place};
use crate::series::RequestKey;

/// Status that a request is counted with when its client left before there was one. nginx's number, known from logs.
const CLIENT_CLOSED: u16 = 499;

/// One request and its answer. However it ends, also by being dropped, it is counted once.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) port: Rc<Port>,
    clock: Rc<Clock>,
    version: Version,
    pub(crate) method: Method,
    place: Place,
    started: Instant,
    code: Cell<u16>,
    /// A call by gRPC.
    is_grpc: bool,
    /// What it says of its outcome.
    grpc: Cell<Option<Code>>,
    /// How it ended. Until it has, what its being dropped would mean.
    reason: Cell<Reason>,
    counted: Cell<bool>,
    retried: Cell<bool>,
    /// Whether it has a place among those that may be under way.
    has_place: Cell<bool>,
    /// What few requests have.
    further: OnceCell<Box<Further>>,
    request_body_bytes: Cell<u64>,
    response_body_bytes: Cell<u64>,
    /// Whether the access log was on when it began.
    logged: bool,
    /// Whether somebody tapped then.
    tapped: bool,
    noted: Option<Box<Noted>>,
    /// What is done to the answer.
    pub(crate) rules: Option<Box<Rules>>,
    /// That of the circuit breaker, which is told how it ended.
    pub(crate) permit: Cell<Option<Permit>>,
    /// How long its last try took until it was answered. Only known where there is a circuit breaker.
    until_answer: Cell<Option<Duration>>,
    /// What the app is told of who asks.
    pub(crate) identity: OnceCell<Box<Edits>>,
    /// What the client is told beside the answer, which few are.
    to_client: OnceCell<Box<ToClient>>,
}

/// Headers for the client, and what becomes of the app's answer with them.
#[derive(Debug)]
struct ToClient {
    headers: Edits,
    change: OnceCell<Change>,
}

/// Of a request that waited, is sent again, or whose upstream asks to be left alone. Apart, so that the others have no room for it.
#[derive(Debug)]
struct Further {
    /// How often it was sent again.
    tries: Cell<u32>,
    /// How long is waited before the last of these.
    pause: Cell<Duration>,
    /// When that one begins.
    since: Cell<Instant>,
    /// When it came to its first try, after it may have waited for its turn.
    begun: Cell<Instant>,
    /// How long the upstream asks to be left alone.
    rest: Cell<Option<Duration>>,
}

impl Exchange {
    /// A request's head has come, on a connection or a stream that this clock watches.
    pub(crate) fn start(port: &Rc<Port>, clock: &Rc<Clock>, request: &Request<'_>) -> Self {
        let place = port.routes.find(request);
        let mut exchange = Self::of(port, clock, request.version, request.method, place);
        // gRPC knows no other version.
        exchange.is_grpc = request.version == Version::Http2 && request.is_grpc();
        exchange.rules = port.answer_rules(request, exchange.is_grpc).map(Box::new);
        if exchange.logged || exchange.tapped {
            exchange.noted = Some(Box::new(Noted::of(request)));
        }
        exchange
    }

    /// A request of HTTP/1 came that is refused before its head is understood.
    pub(crate) fn unknown(port: &Rc<Port>, clock: &Rc<Clock>) -> Self {
        Self::of(port, clock, Version::Http11, Method::Other, Place::OTHER)
    }

    fn of(port: &Rc<Port>, clock: &Rc<Clock>, version: Version, method: Method, place: Place) -> Self {
        port.metrics.started.add(1);
        let started = clock.begin();
        if let Some(retries) = &port.retries {
            retries.count(started);
        }
        Self {
            port: Rc::clone(port),
            clock: Rc::clone(clock),
            version,
            method,
            place,
            started,
            code: Cell::new(CLIENT_CLOSED),
            is_grpc: false,
            grpc: Cell::new(None),
            reason: Cell::new(Reason::ClientClosed),
            counted: Cell::new(false),
            retried: Cell::new(false),
            has_place: Cell::new(false),
            further: OnceCell::new(),
            request_body_bytes: Cell::new(0),
            response_body_bytes: Cell::new(0),
            logged: port.access_log.is_on(),
            tapped: port.tap.is_on(),
            noted: None,
            rules: None,
            permit: Cell::new(None),
            until_answer: Cell::new(None),
            identity: OnceCell::new(),
            to_client: OnceCell::new(),
        }
    }

    /// Who asks, where it is known.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.clock.client
    }

    /// So much of the request's body passes.
    pub(crate) fn received(&self, bytes: usize) {
        self.port.metrics.request_body_bytes.add(bytes as u64);
        self.request_body_bytes.set(self.request_body_bytes.get() + bytes as u64);
    }

    /// So much of the body of the app's answer passes. Our own answers are not counted: nothing passed.
    pub(crate) fn passed(&self, bytes: usize) {
        self.port.metrics.response_body_bytes.add(bytes as u64);
        self.response_body_bytes.set(self.response_body_bytes.get() + bytes as u64);
        if self.is_grpc && self.until_answer.get().is_none() {
            self.answer_passes();
        }
    }

    /// An answer begins to pass: its head, or the first message of a call by gRPC, which has its status at the end. A request that tries
    /// whether the upstream has recovered has found out by that: its answer may be a stream that goes on for hours.
    pub(crate) fn answer_passes(&self) {
        let Some(circuit) = &self.port.circuit else { return };
        let now = Instant::now();
        self.until_answer.set(Some(now.saturating_duration_since(self.tried())));
        if !circuit.is_closed() {
            self.report(Reason::None, self.is_grpc.then_some(Code::OK), now);
        }
    }

    /// Tells the circuit breaker, unless it has been told.
    fn report(&self, reason: Reason, grpc: Option<Code>, now: Instant) {
        if let (Some(circuit), Some(permit)) = (&self.port.circuit, self.permit.take()) {
            let took = self.until_answer.get();
            let took = took.unwrap_or_else(|| now.saturating_duration_since(self.tried()));
            let rest = self.further.get().and_then(|further| further.rest.get());
            circuit.report(permit, circuit::Ended { reason, status: self.code.get(), grpc, rest }, took);
        }
    }

    /// The request is sent once more.
    pub(crate) fn retried(&self) {
        self.retried.set(true);
    }

    /// The try that is under way has failed so. Whether the circuit breaker allows another, after this pause.
    pub(crate) fn has_another_try(&self, ended: circuit::Ended, now: Instant, pause: Duration) -> bool {
        let took = now - self.tried();
        let circuit = self.port.circuit.as_ref();
        let allowed = circuit.is_none_or(|circuit| circuit.allows_another(&self.permit, ended, took));
        if allowed {
            self.retried();
            self.until_answer.set(None);
            let further = self.further();
            further.tries.set(further.tries.get() + 1);
            further.pause.set(pause);
            further.since.set(now + pause);
        }
        allowed
    }

    /// It has a place among those that may be under way, perhaps after it waited for that.
    pub(crate) fn entered(&self, waited: bool) {
        self.has_place.set(true);
        if waited {
            let now = Instant::now();
            self.further().since.set(now);
            self.further().begun.set(now);
        }
    }

    fn further(&self) -> &Further {
        self.further.get_or_init(|| {
            Box::new(Further {
                tries: Cell::new(0),
                pause: Cell::default(),
                since: Cell::new(self.started),
                begun: Cell::new(self.started),
                rest: Cell::new(None),
            })
        })
    }

    /// The app has answered with this status, and with headers that may ask the circuit breaker to leave it alone.
    pub(crate) fn app_answered(&self, status: u16, headers: Headers<'_>) {
        self.answered(status);
        if self.port.circuit.is_none() || !Circuit::is_asking_for_rest(status) {
            return;
        }
        let after = headers.first("retry-after");
        if let Some(time) = after.and_then(|value| OwnAnswer::retry_after(value, Timestamp::now())) {
            self.further().rest.set(Some(time));
        }
    }

    /// How often it was sent again by the profile's leave.
    pub(crate) fn resent(&self) -> u32 {
        self.further.get().map_or(0, |further| further.tries.get())
    }

    /// Waits before another try.
    pub(crate) async fn pause(&self) {
        if let Some(further) = self.further.get() {
            tokio::time::sleep(further.pause.get()).await;
        }
    }

    /// When its last try began.
    fn tried(&self) -> Instant {
        self.further.get().map_or(self.started, |further| further.since.get())
    }

    /// How long the head of the answer may take; `None`: as long as it does. The request's time is that of all its tries.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let begun = self.further.get().map_or(self.started, |further| further.begun.get());
        Some(self.port.limits.request?.saturating_sub(begun.elapsed()))
    }

    /// The answer's status is known.
    pub(crate) fn answered(&self, code: u16) {
        self.code.set(code);
    }

    /// What is done to its headers, where the client's certificate has this subject; `None` where nothing is.
    pub(crate) fn request_edits(&self, subject: Option<&HeaderValue>) -> Option<Cow<'_, Edits>> {
        let of_port = self.port.request_edits(subject);
        match (of_port, self.identity.get()) {
            (of_port, None) => of_port,
            (None, Some(identity)) => Some(Cow::Borrowed(identity)),
            (Some(edits), Some(identity)) => Some(Cow::Owned(edits.then(identity))),
        }
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whoever judged it has these headers for the client, whatever the answer will be.
    pub(crate) fn tell_client(&self, headers: Edits) {
        let _ = self.to_client.set(Box::new(ToClient { headers, change: OnceCell::new() }));
    }

    /// The headers for the client beside those of an answer that goes past [`Self::change`].
    pub(crate) fn to_client(&self) -> Option<&Edits> {
        self.to_client.get().map(|told| &told.headers)
    }

    /// Our answer to it, for this reason.
    pub(crate) fn own(&self, reason: Reason) -> OwnAnswer {
        OwnAnswer::of(reason, self.port.direction())
    }

    /// What becomes of the app's answer with this status; `None` where it stays as it is.
    pub(crate) fn change(&self, status: u16) -> Option<&Change> {
        let change = self.rules.as_ref().and_then(|rules| rules.change(status));
        if change.is_some_and(|change| change.is_override) {
            self.port.metrics.overridden.add(1);
        }
        match self.to_client.get() {
            None => change,
            Some(told) => Some(told.change.get_or_init(|| Change::with(change, &told.headers))),
        }
    }

    /// Whether it is a call by gRPC.
    pub(crate) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// The answer's `grpc-status` is known.
    pub(crate) fn grpc(&self, code: Code) {
        self.grpc.set(Some(code));
    }

    /// The client sees a reset of its stream. Where it saw no head before, there is no status: it counts as a 502.
    pub(crate) fn was_reset(&self, code: Code) {
        self.grpc(code);
        if self.code.get() == CLIENT_CLOSED {
            self.answered(StatusCode::BAD_GATEWAY.as_u16());
        }
    }

    /// What a gRPC client makes of it.
    fn grpc_code(&self) -> Code {
        match (self.grpc.get(), StatusCode::from_u16(self.code.get())) {
            (Some(code), _) => code,
            _ if self.reason.get() == Reason::ClientClosed => Code::CANCELLED,
            (None, Ok(status)) => Code::of_status(status),
            (None, Err(_)) => Code::UNKNOWN,
        }
    }

    /// It is over. By reference: a body may still go up to the app when the answer has ended.
    pub(crate) fn end(&self, reason: Reason) {
        self.reason.set(reason);
        self.count();
    }

    fn count(&self) {
        if self.counted.replace(true) {
            return;
        }
        let (metrics, (now, own)) = (&self.port.metrics, self.clock.end());
        let ended = Ended {
            code: self.code.get(),
            reason: self.reason.get(),
            duration: now - self.started,
            request_body_bytes: self.request_body_bytes.get(),
            response_body_bytes: self.response_body_bytes.get(),
        };
        metrics.own_time.observe(own);
        if self.retried.get() {
            metrics.upstream.retried[usize::from(ended.reason != Reason::None)].add(1);
        }
        if self.is_grpc {
            metrics.grpc.add(self.grpc_code());
        }
        let Ended { code, reason, duration, .. } = ended;
        self.report(reason, self.is_grpc.then(|| self.grpc_code()), now);
        let key = RequestKey { version: self.version, method: self.method, code, reason };
        self.port.series.observe(&metrics.requests, key, duration);
        let number = self.port.routes.observe(&metrics.routes, self.method, &self.place, &ended);
        if ended.is_failure() {
            let route = self.port.routes.route(number);
            metrics.failures.push(Failure { at: Timestamp::now(), route, code, reason });
        }
        if self.logged || self.tapped {
            self.tell(&ended, own);
        }
        if self.has_place.take()
            && let Some(room) = self.port.guard.as_ref().and_then(|guard| guard.room.as_ref())
        {
            room.leave();
        }
        // Last: what is no longer in flight has been counted.
        metrics.ended.add(1);
    }

    #[cold]
    fn tell(&self, ended: &Ended, own_time: Duration) {
        let context = Context {
            labels: &self.port.metrics.labels,
            client: self.clock.client,
            protocol: self.version.as_str(),
            method: self.method.label(),
            grpc: self.is_grpc.then(|| self.grpc_code()),
            own_time,
        };
        let line = Line::of(&context, self.noted.as_deref(), ended);
        if self.logged {
            self.port.access_log.write(&line);
        }
        if self.tapped {
            self.port.tap.tell(&line);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.count();
    }
}
