//! What a client's connection is watched for: floods of what costs us work and moves nothing.
//!
//! `h2` bounds what it keeps (streams, heads, CONTINUATION, small pieces of data) and answers PING and SETTINGS no faster than
//! the client takes the answers, but it does not mind when a client asks for thousands a second.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use h2::Reason;

use crate::buffer::{self, Held};
use crate::http2::Ended;
use crate::http2::guard::Frame;
use crate::limits::MAX_BUFFER;

/// What `h2` may make of one byte of a head, in bytes: a field that is told by its place in a table. And the most it makes of a head.
const FIELD: usize = 100;
const MOST: usize = 6 * MAX_BUFFER;

/// A head of which more is to come. It counts for what it may take rather than for what came.
#[derive(Debug)]
struct OpenHead {
    began: Instant,
    length: usize,
    held: Held,
    /// Its last frame has begun.
    ends: bool,
}

impl OpenHead {
    fn begin() -> Self {
        Self { began: Instant::now(), length: 0, held: Held::new(0), ends: false }
    }
}

/// How often something may happen: so often at once, and so often each second from then on.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: Cell<u32>,
    most: u32,
    each_second: u32,
    since: Cell<Instant>,
}

impl Allowance {
    pub(crate) fn new(most: u32, each_second: u32) -> Self {
        Self { left: Cell::new(most), most, each_second, since: Cell::new(Instant::now()) }
    }

    /// Takes one; false where there is none left.
    pub(crate) fn take(&self) -> bool {
        if self.left.get() == 0 {
            self.refill();
        }
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    pub(crate) fn give(&self) {
        self.left.set((self.left.get() + 1).min(self.most));
    }

    fn refill(&self) {
        let seconds = self.since.get().elapsed().as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(self.each_second);
            self.left.set(more.min(self.most));
            self.since.set(Instant::now());
        }
    }
}

/// What the connection is watched for.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Bytes that came, ever.
    pub(crate) read: Cell<u64>,
    /// Nothing more comes.
    pub(crate) ended: Cell<bool>,
    /// Whether `h2` may know: with the end, it forgets requests that came before it and were not yet taken.
    pub(crate) may_end: Cell<bool>,
    /// The client takes nothing of what we have to write.
    pub(crate) blocked: Cell<bool>,
    flood: Cell<Option<Ended>>,
    open_head: RefCell<Option<OpenHead>>,
    /// The kind of the last frame that came.
    last: Cell<u8>,
    /// Whether a request was ever reset, by the client or by us because of it.
    has_reset: Cell<bool>,
    /// Frames that move nothing, beyond those that move something.
    control: Allowance,
    /// Requests that were reset before their answer, beyond those that got one.
    resets: Allowance,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            read: Cell::new(0),
            ended: Cell::new(false),
            may_end: Cell::new(true),
            blocked: Cell::new(false),
            flood: Cell::new(None),
            open_head: RefCell::new(None),
            last: Cell::new(Frame::HEADERS),
            has_reset: Cell::new(false),
            control: Allowance::new(1000, 100),
            // Envoy's number, which a client that gives up in good faith does not reach.
            resets: Allowance::new(500, 50),
        }
    }

    /// The flood that was seen.
    pub(crate) fn flood(&self) -> Option<Ended> {
        self.flood.get()
    }

    /// When the head began of which more is to come.
    pub(crate) fn head_began(&self) -> Option<Instant> {
        self.open_head.borrow().as_ref().map(|head| head.began)
    }

    /// Whether more of a head is to come, and there is no memory to wait for it.
    pub(crate) fn lacks_room(&self) -> bool {
        buffer::is_scarce() && self.open_head.borrow().is_some()
    }

    /// A request got its answer.
    pub(crate) fn answered(&self) {
        self.resets.give();
    }

    /// A request was reset before it got its answer.
    pub(crate) fn reset(&self) {
        if !self.resets.take() {
            self.flood.set(Some(Ended::ResetFlood));
        }
    }

    /// Why the connection failed.
    pub(crate) fn ended_by(&self, error: &h2::Error) -> Ended {
        match (error.reason(), self.last.get()) {
            _ if error.is_io() || error.is_remote() => Ended::ClientClosed,
            // `h2` has had enough. It does not tell of what, so by what came last.
            (Some(Reason::ENHANCE_YOUR_CALM), Frame::DATA) => Ended::DataFlood,
            (Some(Reason::ENHANCE_YOUR_CALM), Frame::HEADERS | Frame::RST_STREAM | Frame::WINDOW_UPDATE)
                if self.has_reset.get() =>
            {
                Ended::ResetFlood
            }
            (Some(Reason::ENHANCE_YOUR_CALM), _) => Ended::HeadFlood,
            _ => Ended::ProtocolError,
        }
    }

    /// The client sent a frame.
    pub(crate) fn came(&self, frame: Frame) {
        self.last.set(frame.kind);
        self.look_for_head(frame);
        self.has_reset.set(self.has_reset.get() || frame.kind == Frame::RST_STREAM);
        match frame.kind {
            Frame::DATA | Frame::HEADERS => self.control.give(),
            // Those answer what we send, and `h2` bounds these.
            Frame::WINDOW_UPDATE | Frame::CONTINUATION => {}
            _ if self.control.take() => {}
            _ => self.flood.set(Some(Ended::ControlFlood)),
        }
    }

    fn look_for_head(&self, frame: Frame) {
        let mut open = self.open_head.borrow_mut();
        let goes_on = frame.kind == Frame::CONTINUATION && open.as_ref().is_some_and(|head| !head.ends);
        if !goes_on {
            *open = None;
        }
        if goes_on || frame.leaves_head_open() {
            let head = open.get_or_insert_with(OpenHead::begin);
            head.length += frame.length as usize;
            head.held = Held::new((head.length * FIELD).min(MOST));
            head.ends = !frame.leaves_head_open();
        }
    }

    /// All of the last frame has come.
    pub(crate) fn came_whole(&self) {
        let mut open = self.open_head.borrow_mut();
        if open.as_ref().is_some_and(|head| head.ends) {
            *open = None;
        }
    }

    /// We sent one. gRPC's clients ask by PING, for each few pieces of data, how fast these go.
    pub(crate) fn went(&self, frame: Frame) {
        match frame.kind {
            Frame::DATA | Frame::HEADERS => self.control.give(),
            Frame::RST_STREAM => self.has_reset.set(true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_and_given_back() {
        let allowance = Allowance::new(2, 0);
        assert_eq!([(); 3].map(|()| allowance.take()), [true, true, false]);
        allowance.give();
        assert_eq!([(); 2].map(|()| allowance.take()), [true, false]);
        (0..9).for_each(|_| allowance.give());
        assert_eq!([(); 3].map(|()| allowance.take()), [true, true, false]);
    }

    #[test]
    fn a_head_in_pieces_is_open_until_the_last_byte_of_the_last() {
        let headers = |flags| Frame { kind: Frame::HEADERS, flags, length: 9 };
        let continuation = |flags| Frame { kind: Frame::CONTINUATION, flags, length: 9 };
        let watch = Watch::new();
        buffer::bound(FIELD * 20);
        watch.came(headers(4));
        assert_eq!(watch.head_began(), None);
        watch.came(headers(0));
        watch.came_whole();
        assert!(watch.head_began().is_some() && !watch.lacks_room());
        watch.came(continuation(0));
        assert!(!watch.lacks_room());
        watch.came(continuation(4));
        assert!(watch.lacks_room(), "it counts for what it may take");
        watch.came_whole();
        assert!(watch.head_began().is_none() && !buffer::is_scarce());
    }

    #[test]
    fn pings_beside_data_are_no_flood_and_alone_are() {
        let (ping, data) =
            (Frame { kind: 6, flags: 0, length: 0 }, Frame { kind: Frame::DATA, flags: 0, length: 0 });
        let watch = Watch::new();
        for _ in 0..100_000 {
            watch.came(ping);
            watch.went(data);
        }
        assert_eq!(watch.flood(), None);
        (0..2000).for_each(|_| watch.came(ping));
        assert_eq!(watch.flood(), Some(Ended::ControlFlood));
    }
}
