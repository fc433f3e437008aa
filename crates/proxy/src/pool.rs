//! Idle connections to one app port, kept for the next request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::body::RequestBody;

/// One connection to the app, ready to take a request.
pub(crate) type Sender = SendRequest<RequestBody>;

/// The idle connections of one port, the last used first: under falling load the others reach their timeout. One
/// thread's own, so it needs no lock; hyper-util's pool has one, and a task a connection.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<(Sender, Instant)>>,
    timeout: Duration,
    reaping: Cell<bool>,
}

impl Pool {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { idle: RefCell::default(), timeout, reaping: Cell::new(false) }
    }

    /// A connection that can take a request now.
    pub(crate) fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(sender, _)| !sender.is_closed());
        // One whose connection task has not yet seen the end of its last answer stays for later.
        let ready = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.remove(ready).0)
    }

    /// Keeps a connection whose answer has ended.
    pub(crate) fn put(self: &Rc<Self>, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        self.idle.borrow_mut().push((sender, Instant::now()));
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
            self.idle
                .borrow_mut()
                .retain(|(sender, since)| !sender.is_closed() && now - *since < self.timeout);
        }
        self.reaping.set(false);
    }
}

/// A connection that an answer is still read from.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) pool: Rc<Pool>,
    pub(crate) sender: Sender,
}

impl Lease {
    /// The answer has ended: the connection may be used again. Dropped instead, the connection is closed.
    pub(crate) fn give_back(self) {
        self.pool.put(self.sender);
    }
}
