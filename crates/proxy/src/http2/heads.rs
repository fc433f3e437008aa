//! Heads are read in turns.
//!
//! `h2` reads all that a connection has before it hands over the first request, and makes up to a hundred bytes of one: a few clients with a
//! hundred large heads each took all the memory before one of them could be refused. So all clients together send so much of heads between
//! two looks at what has come; what came is begun, or refused, meanwhile.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// How much of heads is read in one turn, in bytes: more than most clients send, also with a hundred requests at once.
const PER_TURN: usize = 32 * 1024;

thread_local! {
    /// How much came in this one.
    static CAME: Cell<usize> = const { Cell::new(0) };
    /// Those that read on in the next one.
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// So much of a head comes.
pub(crate) fn came(bytes: usize) {
    let before = CAME.get();
    CAME.set(before + bytes);
    if before < PER_TURN && before + bytes >= PER_TURN {
        // A task only where there is a next turn.
        tokio::task::spawn_local(next());
    }
}

/// Waits until more may be read.
pub(crate) fn poll_turn(context: &Context<'_>) -> Poll<()> {
    if CAME.get() < PER_TURN {
        return Poll::Ready(());
    }
    WAITING.with_borrow_mut(|waiting| waiting.push(context.waker().clone()));
    Poll::Pending
}

/// Begins the next turn once the tasks of the streams that came in this one have run.
async fn next() {
    tokio::task::yield_now().await;
    CAME.set(0);
    WAITING.take().into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::spawn_local;

    use super::*;

    #[test]
    fn who_would_read_more_waits_for_the_requests_that_came() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            came(PER_TURN - 1);
            poll_fn(|context| poll_turn(context)).await;
            came(1);
            let begun = Rc::new(Cell::new(0));
            for _ in 0..100 {
                let begun = Rc::clone(&begun);
                spawn_local(async move { begun.set(begun.get() + 1) });
            }
            poll_fn(|context| poll_turn(context)).await;
            assert_eq!(begun.get(), 100);
            poll_fn(|context| poll_turn(context)).await;
        });
    }
}
