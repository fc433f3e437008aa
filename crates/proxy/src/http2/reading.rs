//! Clients' connections are read in turns.
//!
//! `h2` reads all that a connection has before it hands over the first request, and makes up to a hundred bytes of one of a head: a few
//! clients with a hundred large heads each took all the memory before one of them could be refused, and a hundred with a full window of
//! bodies. So all clients together send so much between two looks at what has come; what came is begun, counted or refused meanwhile.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use crate::http2::guard::Frame;

/// How much of heads is read in one turn, in bytes: more than most clients send, also with a hundred requests at once.
const PER_TURN: usize = 32 * 1024;

/// How much of a body is read instead of a byte of a head: a turn of 1 MiB is no bound on speed.
const OF_BODIES: usize = 32;

thread_local! {
    /// How much came in this one.
    static CAME: Cell<usize> = const { Cell::new(0) };
    /// Those that read on in the next one.
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// A frame comes.
pub(crate) fn came(frame: Frame) {
    let length = frame.length as usize;
    let bytes = if frame.is_of_head() { length } else { length / OF_BODIES };
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

    fn of(kind: u8, length: usize) -> Frame {
        Frame { kind, flags: 0, length: u32::try_from(length).unwrap() }
    }

    #[test]
    fn who_would_read_more_waits_for_the_requests_that_came() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            came(of(Frame::HEADERS, PER_TURN - 2));
            came(of(Frame::DATA, OF_BODIES));
            poll_fn(|context| poll_turn(context)).await;
            came(of(Frame::CONTINUATION, 1));
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
