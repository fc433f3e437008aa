//! Requests told live to those who tap: the line that the access log would have, sent where it would be written.
//!
//! The worker hands lines to the admin thread, which has the readers' connections. A reader costs nothing that others could
//! feel: while there is none, a request reads one flag of its own thread; and where a reader is slower than the requests, or wants
//! fewer, they are counted for it in the place of a line.

mod body;
mod question;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use outrigger_api::tap::TapSpec;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};

use crate::access_log::Line;
use crate::bucket::Bucket;
use body::Body;
pub(crate) use question::Question;

/// Readers at a time.
const READERS: usize = 4;
/// Lines that wait for a reader: some 30 kB, and a megabyte where every client sends the longest.
const WAITING: usize = 64;
/// Between two lines, and what tells a reader that it is heard.
pub(crate) const BLANK: Bytes = Bytes::from_static(b"\n");

/// Somebody who taps, on the way to the worker.
#[derive(Debug)]
pub(crate) struct Reader {
    question: Question,
    lines: Sender<Bytes>,
}

/// The admin thread's end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    worker: UnboundedSender<Reader>,
    places: Arc<Semaphore>,
}

/// Both ends: what `Taps` opens comes out of the other.
pub(crate) fn channel() -> (Taps, UnboundedReceiver<Reader>) {
    let (worker, readers) = mpsc::unbounded_channel();
    (Taps { worker, places: Arc::new(Semaphore::new(READERS)) }, readers)
}

impl Taps {
    /// How many tap now.
    pub(crate) fn readers(&self) -> usize {
        READERS - self.places.available_permits()
    }

    /// The answer to who asks: lines for as long as it reads, or why not.
    pub(crate) fn open(&self, allowed: TapSpec, question: Question, peer: SocketAddr) -> Response {
        if allowed.is_off() {
            let why = "the profile does not allow it: proxy.tap.enabled is false\n";
            return (StatusCode::FORBIDDEN, why).into_response();
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!("{READERS} readers tap this pod already\n");
            return (StatusCode::TOO_MANY_REQUESTS, why).into_response();
        };
        tracing::info!(%peer, ?question, "somebody taps");
        let (lines, told) = mpsc::channel(WAITING);
        // Where the worker has ended, so has this: its end of `lines` is dropped.
        let _ = self.worker.send(Reader { question, lines });
        ([(CONTENT_TYPE, "application/x-ndjson")], axum::body::Body::new(Body::new(told, place)))
            .into_response()
    }
}

/// The worker's end.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    on: Cell<bool>,
    allowed: Cell<TapSpec>,
    readers: RefCell<Vec<Served>>,
}

impl Tap {
    /// Whether a request that begins now is to be noted.
    pub(crate) fn is_on(&self) -> bool {
        self.on.get()
    }

    /// What the config says from now on. Where it no longer allows it, readers see the end of their answers.
    pub(crate) fn allow(&self, allowed: TapSpec) {
        self.allowed.set(allowed);
        let mut readers = self.readers.borrow_mut();
        if allowed.is_off() {
            readers.clear();
        }
        for reader in readers.iter_mut() {
            reader.bucket = reader.question.bucket(allowed);
        }
        self.on.set(!readers.is_empty());
    }

    /// One reader more.
    pub(crate) fn add(&self, reader: Reader) {
        let allowed = self.allowed.get();
        // The config may have changed on the way.
        if allowed.is_off() || reader.lines.try_send(BLANK).is_err() {
            return;
        }
        let bucket = reader.question.bucket(allowed);
        let Reader { question, lines } = reader;
        let mut readers = self.readers.borrow_mut();
        // Those that have gone are found here, too: without requests nobody looks.
        readers.retain(|reader| !reader.lines.is_closed());
        readers.push(Served { question, bucket, lines, left_out: 0 });
        self.on.set(true);
    }

    /// A request has ended.
    pub(crate) fn tell(&self, line: &Line<'_>) {
        let now = Instant::now();
        let mut readers = self.readers.borrow_mut();
        readers.retain_mut(|reader| reader.tell(line, now));
        self.on.set(!readers.is_empty());
    }
}

/// Somebody who taps.
#[derive(Debug)]
struct Served {
    question: Question,
    bucket: Bucket,
    lines: Sender<Bytes>,
    /// Requests that it asked for and was not told, since the last that it was.
    left_out: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(flatten)]
    line: &'a Line<'a>,
    #[serde(skip_serializing_if = "is_none")]
    left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(left_out: &u64) -> bool {
    *left_out == 0
}

impl Served {
    /// Tells it, or counts it as left out. Returns whether the reader is still there.
    fn tell(&mut self, line: &Line<'_>, now: Instant) -> bool {
        if !self.question.wants(line) {
            return !self.lines.is_closed();
        }
        let Ok(room) = self.lines.try_reserve() else {
            self.left_out += 1;
            return !self.lines.is_closed();
        };
        if self.bucket.take(now).is_err() {
            self.left_out += 1;
            return true;
        }
        let told = Told { line, left_out: std::mem::take(&mut self.left_out) };
        // Fails only for want of memory, which ends the process anyway.
        if let Ok(mut text) = serde_json::to_vec(&told) {
            text.push(b'\n');
            room.send(text.into());
        }
        true
    }
}

/// How long a burst may be in which all requests are told, in a reader's own rate.
const BURST: Duration = Duration::from_secs(1);

impl Question {
    /// As many a second as it wants, and the config allows.
    fn bucket(&self, allowed: TapSpec) -> Bucket {
        let wanted = self.per_second.unwrap_or(allowed.max_per_second);
        let rate = wanted.min(allowed.max_per_second);
        Bucket::new(rate, BURST, rate, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Context;
    use crate::labels::{Direction, Labels};
    use crate::reason::Reason;
    use crate::routes::Ended;

    fn tell(tap: &Tap) {
        let labels = Labels { direction: Direction::Inbound, port: "web".to_owned(), upstream: None };
        let context = Context {
            labels: &labels,
            client: None,
            protocol: "HTTP/1.1",
            method: "GET",
            grpc: None,
            own_time: Duration::ZERO,
        };
        let ended = Ended {
            code: 200,
            reason: Reason::None,
            duration: Duration::ZERO,
            request_body_bytes: 0,
            response_body_bytes: 0,
        };
        tap.tell(&Line::of(&context, None, &ended));
    }

    #[test]
    fn what_a_slow_reader_has_no_room_for_is_counted_and_a_reader_that_is_gone_costs_nothing() {
        let tap = Tap::default();
        tap.allow(TapSpec { enabled: true, max_per_second: 1000 });
        let (lines, mut told) = mpsc::channel(WAITING);
        tap.add(Reader { question: Question::default(), lines });
        for _ in 0..100 {
            tell(&tap);
        }
        assert_eq!(told.len(), WAITING, "the blank line and as many as there was room for");
        for _ in 0..WAITING {
            told.try_recv().unwrap();
        }
        tell(&tap);
        let line: serde_json::Value = serde_json::from_slice(&told.try_recv().unwrap()).unwrap();
        assert_eq!(line["leftOut"], 100 - (WAITING - 1));

        assert!(tap.is_on());
        drop(told);
        tell(&tap);
        assert!(!tap.is_on());
    }

    #[test]
    fn readers_that_come_and_go_while_there_are_no_requests_do_not_pile_up() {
        let tap = Tap::default();
        tap.allow(TapSpec { enabled: true, max_per_second: 1000 });
        for _ in 0..10 {
            let (lines, _told) = mpsc::channel(WAITING);
            tap.add(Reader { question: Question::default(), lines });
        }
        assert_eq!(tap.readers.borrow().len(), 1, "the last, of which nobody knows yet that it has gone");
    }

    #[test]
    fn nobody_is_told_where_it_is_not_allowed() {
        let tap = Tap::default();
        let (lines, mut told) = mpsc::channel(WAITING);
        tap.add(Reader { question: Question::default(), lines });
        assert!(!tap.is_on() && told.try_recv().is_err());
    }
}
