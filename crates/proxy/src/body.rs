//! Bodies on their way, which tell what passes and when it has ended.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::forward;
use crate::listener::Port;
use crate::observe::Exchange;
use crate::pool::Lease;
use crate::reason::Reason;

/// A request's body on its way to the app.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) inner: Incoming,
    pub(crate) port: Rc<Port>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(Some(data))) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.port.metrics.request_body_bytes.fetch_add(data.len() as u64, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way to the client: the app's, or our own.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    App {
        inner: Incoming,
        /// `None` once the body has ended.
        running: Option<(Exchange, Lease)>,
    },
    /// Ours is counted when it is made: it needs no one else to end.
    Own(Full<Bytes>),
}

impl ResponseBody {
    pub(crate) fn app(inner: Incoming, exchange: Exchange, lease: Lease) -> Self {
        let mut running = Some((exchange, lease));
        // HEAD, 204, 304 and empty bodies: hyper drops such a body without asking it for anything.
        if inner.is_end_stream() {
            end(&mut running, Reason::None);
        }
        Self::App { inner, running }
    }

    pub(crate) fn empty() -> Self {
        Self::Own(Full::default())
    }
}

/// Ends the exchange, and gives the connection back if the whole answer was read from it.
fn end(running: &mut Option<(Exchange, Lease)>, reason: Reason) {
    if let Some((exchange, lease)) = running.take() {
        exchange.end(reason);
        if reason == Reason::None {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (inner, running) = match self.get_mut() {
            Self::Own(full) => return Pin::new(full).poll_frame(context).map_err(|never| match never {}),
            Self::App { inner, running } => (inner, running),
        };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some((exchange, _))) = (frame.data_ref(), running.as_ref()) {
                    exchange.passed(data.len());
                }
                // After these nobody may ask for more: hyper stops at trailers and at the announced length.
                if frame.is_trailers() || inner.is_end_stream() {
                    end(running, Reason::None);
                }
            }
            Some(Err(error)) => end(running, forward::reason(error)),
            None => end(running, Reason::None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::App { inner, .. } => inner.is_end_stream(),
            Self::Own(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::App { inner, .. } => inner.size_hint(),
            Self::Own(full) => full.size_hint(),
        }
    }
}
