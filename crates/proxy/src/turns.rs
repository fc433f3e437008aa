//! Requests of HTTP/1 begin in turns.
//!
//! Where a thousand are there at once, a worker that began them all would pass on no answer before it had sent a thousand requests, each on
//! a connection of its own to the app: by then nothing of the first is in the processor's cache any more. So only some begin between two
//! looks at what has come, and the answers among that go first: with 1,024 connections a request costs a tenth less.
//!
//! Nobody waits for a peer here: the next turn comes when the worker has done what there was to do, however many answers are still out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// How many requests begin in one. Measured: 32 and 128 cost a few per cent more with 1,024 connections, and with 256 it makes no
/// difference; that was with 61 polls between two looks, which are more now (`worker.rs`). Nor is it better to count those that are under
/// way: where one begins as another ends, each costs the worker a second look.
const PER_TURN: usize = 64;

thread_local! {
    /// How many may still begin in this one.
    static LEFT: Cell<usize> = const { Cell::new(PER_TURN) };
    /// Those that begin in the next ones, in the order in which they came.
    static WAITING: RefCell<VecDeque<Waker>> = const { RefCell::new(VecDeque::new()) };
}

/// A request's place in a turn, from when its first byte is there.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    has_waited: bool,
}

impl Turn {
    /// Waits until the request may begin. Who is woken for another reason begins at once.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.has_waited {
            return Poll::Ready(());
        }
        match LEFT.get() {
            0 => {
                self.has_waited = true;
                WAITING.with_borrow_mut(|waiting| waiting.push_back(context.waker().clone()));
                Poll::Pending
            }
            left => {
                LEFT.set(left - 1);
                if left == 1 {
                    // A task only where there is a next turn: a proxy with little to do has none.
                    tokio::task::spawn_local(next());
                }
                Poll::Ready(())
            }
        }
    }
}

/// Begins the next turn once the runtime has looked at its events, and so on until all who wait have had theirs.
async fn next() {
    while LEFT.get() == 0 {
        tokio::task::yield_now().await;
        let mut left = PER_TURN;
        WAITING.with_borrow_mut(|waiting| {
            while left > 0
                && let Some(waker) = waiting.pop_front()
            {
                waker.wake();
                left -= 1;
            }
        });
        LEFT.set(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::{spawn_local, yield_now};

    use super::*;

    const REQUESTS: usize = 5 * PER_TURN / 2;

    fn on_a_worker(test: impl Future<Output = ()>) {
        Builder::new_current_thread().build_local(LocalOptions::default()).unwrap().block_on(test);
    }

    /// Begins so many requests at once, and tells which have begun so far.
    fn begin(count: usize) -> Rc<RefCell<Vec<usize>>> {
        let begun = Rc::new(RefCell::new(Vec::new()));
        for number in 0..count {
            let begun = Rc::clone(&begun);
            spawn_local(async move {
                let mut turn = Turn::default();
                poll_fn(|context| turn.poll(context)).await;
                begun.borrow_mut().push(number);
            });
        }
        begun
    }

    #[test]
    fn what_is_there_goes_before_what_has_not_begun() {
        on_a_worker(async {
            let begun = begin(REQUESTS);
            while begun.borrow().is_empty() {
                yield_now().await;
            }
            assert!(begun.borrow().len() <= PER_TURN, "{}", begun.borrow().len());
            while begun.borrow().len() < REQUESTS {
                let before = begun.borrow().len();
                yield_now().await;
                assert!(begun.borrow().len() - before <= PER_TURN, "{before} and {}", begun.borrow().len());
            }
            assert!(begun.borrow().is_sorted(), "in the order in which they came");
            yield_now().await;
            assert_eq!(LEFT.get(), PER_TURN - REQUESTS % PER_TURN);
        });
    }

    #[test]
    fn one_that_left_while_it_waited_holds_nobody_up() {
        on_a_worker(async {
            LEFT.set(PER_TURN);
            let begun = begin(PER_TURN);
            let left = spawn_local(async {
                let mut turn = Turn::default();
                poll_fn(|context| turn.poll(context)).await;
                panic!("it has left");
            });
            let after = begin(1);
            yield_now().await;
            left.abort();
            while after.borrow().is_empty() {
                yield_now().await;
            }
            assert_eq!(begun.borrow().len(), PER_TURN);
        });
    }
}
