//! Clients' connections that wait, and what calls them: a deadline, or the end of their listener.
//!
//! One look over all of them a few times a second, rather than a timer for each: a timer would be set and taken down with
//! every request, and no limit here is so short that a quarter of a second matters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::own_time;

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);

/// All connections of a listener.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    taken: RefCell<Vec<Rc<Place>>>,
    /// When they were last looked at; `None` while nobody looks.
    looked: Cell<Option<Instant>>,
}

/// One connection's.
#[derive(Debug)]
pub(crate) struct Seat {
    place: Rc<Place>,
    all: Rc<Seats>,
}

#[derive(Debug, Default)]
struct Place {
    at: Cell<usize>,
    deadline: Cell<Option<Instant>>,
    called: Cell<Option<Called>>,
    waker: RefCell<Option<Waker>>,
}

/// Why a wait was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// It took too long.
    Late,
    /// The listener stops.
    Stop,
}

impl Seats {
    pub(crate) fn take(self: &Rc<Self>) -> Seat {
        let mut taken = self.taken.borrow_mut();
        let place = Rc::new(Place { at: Cell::new(taken.len()), ..Place::default() });
        taken.push(Rc::clone(&place));
        if self.looked.get().is_none() {
            self.looked.set(Some(Instant::now()));
            tokio::task::spawn_local(Rc::clone(self).tick());
        }
        Seat { place, all: Rc::clone(self) }
    }

    /// Calls all that wait for nothing in particular.
    pub(crate) fn stop(&self) {
        self.taken.borrow().iter().for_each(|place| place.call(Called::Stop));
    }

    async fn tick(self: Rc<Self>) {
        while !self.taken.borrow().is_empty() {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            self.looked.set(Some(now));
            let taken = self.taken.borrow();
            let late =
                taken.iter().filter(|place| place.deadline.get().is_some_and(|deadline| deadline <= now));
            late.for_each(|place| place.call(Called::Late));
            own_time::pause();
        }
        self.looked.set(None);
    }
}

impl Place {
    fn call(&self, called: Called) {
        self.called.set(Some(called));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Seat {
    /// When something that begins now has taken longer than this. Counted from the last look, so that no request asks for
    /// the time.
    pub(crate) fn deadline(&self, limit: Duration) -> Instant {
        self.all.looked.get().unwrap_or_else(Instant::now) + TICK + limit
    }

    /// Whether what waits is to wait no more.
    pub(crate) fn is_called(&self) -> bool {
        self.place.called.get().is_some()
    }

    /// Waits for what `poll` waits for, but not beyond the deadline and, where `heeds_stop`, no longer than the listener runs. What it
    /// has at that time counts.
    pub(crate) async fn wait<T>(
        &self,
        deadline: Instant,
        heeds_stop: bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Called> {
        let place = &self.place;
        place.deadline.set(Some(deadline));
        if place.called.get() == Some(Called::Late) {
            place.called.set(None);
        }
        let result = std::future::poll_fn(|context| {
            if let Poll::Ready(value) = poll(context) {
                return Poll::Ready(Ok(value));
            }
            match place.called.get() {
                Some(called) if called == Called::Late || heeds_stop => return Poll::Ready(Err(called)),
                _ => {}
            }
            let mut waker = place.waker.borrow_mut();
            if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        });
        let result = result.await;
        place.deadline.set(None);
        result
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (mut taken, at) = (self.all.taken.borrow_mut(), self.place.at.get());
        taken.swap_remove(at);
        if let Some(moved) = taken.get(at) {
            moved.at.set(at);
        }
    }
}
