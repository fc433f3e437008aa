//! The body of an answer that goes on for as long as its reader stays.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::tap::BLANK;

/// Between two signs of life. They tell a reader without requests that it is heard, and find a reader that is gone without a word.
const BEAT: Duration = Duration::from_secs(5);

/// Lines as they come, with a blank one now and then.
#[derive(Debug)]
pub(crate) struct Body {
    lines: Receiver<Bytes>,
    beats: Interval,
    /// Goes with it.
    _place: OwnedSemaphorePermit,
}

impl Body {
    pub(crate) fn new(lines: Receiver<Bytes>, place: OwnedSemaphorePermit) -> Self {
        let mut beats = interval_at(Instant::now() + BEAT, BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { lines, beats, _place: place }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(line) = self.lines.poll_recv(context) {
            return Poll::Ready(line.map(|line| Ok(Frame::data(line))));
        }
        self.beats.poll_tick(context).map(|_| Some(Ok(Frame::data(BLANK))))
    }
}
