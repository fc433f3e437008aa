//! Idle connections to one app port, kept for the next request.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::connect::AppStream;
use crate::metrics::PortMetrics;

/// The idle connections of one port, the last used first: under falling load the others reach their timeout. One
/// thread's own, so it needs no lock.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<(AppStream, Instant)>>,
    timeout: Duration,
    reaping: Cell<bool>,
    metrics: Arc<PortMetrics>,
}

impl Pool {
    pub(crate) fn new(timeout: Duration, metrics: &Arc<PortMetrics>) -> Self {
        Self { idle: RefCell::default(), timeout, reaping: Cell::new(false), metrics: Arc::clone(metrics) }
    }

    /// A connection that the app has not closed, as far as is known. With `ask`, the kernel is asked, which costs a system
    /// call: for requests that must not be sent twice.
    pub(crate) fn take(&self, ask: bool) -> Option<AppStream> {
        let mut idle = self.idle.borrow_mut();
        while let Some((stream, _)) = idle.pop() {
            self.metrics.upstream.idle.subtract(1);
            if is_quiet(&stream, ask) {
                self.metrics.upstream.reused.add(1);
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended.
    pub(crate) fn put(self: &Rc<Self>, stream: AppStream) {
        self.metrics.upstream.idle.add(1);
        self.idle.borrow_mut().push((stream, Instant::now()));
        // A task only while something is idle: an idle proxy has no timer running.
        if !self.reaping.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).reap());
        }
    }

    /// Closes what has been idle for too long, until nothing is left.
    async fn reap(self: Rc<Self>) {
        loop {
            let Some(oldest) = self.idle.borrow().iter().map(|(_, since)| *since).min() else {
                break;
            };
            tokio::time::sleep_until(oldest + self.timeout).await;
            let now = Instant::now();
            let mut idle = self.idle.borrow_mut();
            let before = idle.len();
            idle.retain(|(_, since)| now - *since < self.timeout);
            self.metrics.upstream.idle.subtract((before - idle.len()) as u64);
        }
        self.reaping.set(false);
    }
}

/// Whether nothing has come: an app has nothing to say on an idle connection but that it closes it.
fn is_quiet(stream: &TcpStream, ask: bool) -> bool {
    if ask {
        let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        return peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    }
    // The runtime knows, as of its last look at its events. Where it is not sure, this asks the kernel too.
    let mut context = Context::from_waker(Waker::noop());
    stream.poll_peek(&mut context, &mut ReadBuf::new(&mut [0])).is_pending()
}
