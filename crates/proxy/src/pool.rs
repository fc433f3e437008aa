//! Idle connections to one app port, kept for the next request.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use socket2::SockRef;

use crate::connect::AppStream;
use crate::limits::Limits;
use crate::metrics::PortMetrics;
use crate::own_time;
use crate::stream::Stream;

/// Looks at what is idle within the timeout. Counted in looks, so that no request asks for the time; a connection is closed at
/// the timeout or up to a look earlier.
const LOOKS: u32 = 6;

/// The idle connections of one port, the last used first: under falling load the others reach their timeout. One
/// thread's own, so it needs no lock.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Each with the look since which it has been idle.
    idle: RefCell<Vec<(Box<AppStream>, u32)>>,
    timeout: Duration,
    size: usize,
    age: Duration,
    look: Cell<u32>,
    reaping: Cell<bool>,
    metrics: Arc<PortMetrics>,
}

impl Pool {
    pub(crate) fn new(limits: &Limits, metrics: &Arc<PortMetrics>) -> Self {
        Self {
            idle: RefCell::default(),
            timeout: limits.pool_idle,
            size: limits.pool_size,
            age: limits.pool_age,
            look: Cell::new(0),
            reaping: Cell::new(false),
            metrics: Arc::clone(metrics),
        }
    }

    /// A connection that the app has not closed, as far as is known. With `ask`, the kernel is asked, which costs a system
    /// call: for requests that must not be sent twice.
    pub(crate) fn take(&self, ask: bool) -> Option<Box<AppStream>> {
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

    /// Keeps a connection whose answer has ended, unless there are as many as there may be, or it is too old.
    pub(crate) fn put(self: &Rc<Self>, stream: Box<AppStream>) {
        // The app's own connections stay as long as it does: for them, no request asks for the time.
        let is_old = self.age < Duration::MAX && stream.age() >= self.age;
        if is_old || self.idle.borrow().len() >= self.size {
            return;
        }
        self.metrics.upstream.idle.add(1);
        self.idle.borrow_mut().push((stream, self.look.get()));
        // A task only while something is idle: an idle proxy has no timer running.
        if !self.reaping.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).reap());
        }
    }

    /// Closes what has been idle for too long, until nothing is left.
    async fn reap(self: Rc<Self>) {
        while !self.idle.borrow().is_empty() {
            tokio::time::sleep(self.timeout / LOOKS).await;
            let look = self.look.get().wrapping_add(1);
            self.look.set(look);
            let mut idle = self.idle.borrow_mut();
            let before = idle.len();
            idle.retain(|(_, since)| look.wrapping_sub(*since) < LOOKS);
            self.metrics.upstream.idle.subtract((before - idle.len()) as u64);
            own_time::pause();
        }
        self.reaping.set(false);
    }
}

/// Whether nothing has come: an app has nothing to say on an idle connection but that it closes it.
fn is_quiet(stream: &Stream, ask: bool) -> bool {
    let stream = match stream {
        Stream::Plain(stream) => stream,
        // Reads what TLS has of its own to say after the handshake, as tickets. The kernel knows only that there is something.
        Stream::Tls(session) => {
            return session.poll_peek(&mut Context::from_waker(Waker::noop())).is_pending();
        }
    };
    if ask {
        let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        return peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    }
    // The runtime knows, as of its last look at its events. Where it is not sure, this asks the kernel too. What is read then is lost, as is
    // the connection.
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
