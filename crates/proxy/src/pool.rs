//! Idle connections to one app port, kept for the next request.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The idle connections of one port, the last used first: under falling load the others reach their timeout. One
/// thread's own, so it needs no lock.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<(TcpStream, Instant)>>,
    timeout: Duration,
    reaping: Cell<bool>,
}

impl Pool {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { idle: RefCell::default(), timeout, reaping: Cell::new(false) }
    }

    /// A connection that the app has not closed, as far as is known. With `ask`, the kernel is asked, which costs a system
    /// call: for requests that must not be sent twice.
    pub(crate) fn take(&self, ask: bool) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).map(|(stream, _)| stream).find(|stream| is_quiet(stream, ask))
    }

    /// Keeps a connection whose answer has ended.
    pub(crate) fn put(self: &Rc<Self>, stream: TcpStream) {
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
            self.idle.borrow_mut().retain(|(_, since)| now - *since < self.timeout);
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
