//! The time that we ourselves spend on a request, as against the time in which we wait for the app or the client.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

thread_local! {
    /// Until when the worker was at a request, if it has neither waited since nor done what takes long. From then on it is at the next one:
    /// so the time is asked for twice for each request and not four times, which is one in a hundred of what it costs. What is counted
    /// with the next one by that is what the runtime does between two polls, its look at what has come among it.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The worker waits, or does what is no request's and may take long.
pub(crate) fn pause() {
    UNTIL.set(None);
}

/// Pauses after each poll of what is no request's and may take long.
pub(crate) fn apart<T>(mut task: Pin<Box<impl Future<Output = T>>>) -> impl Future<Output = T> {
    std::future::poll_fn(move |context| {
        let polled = task.as_mut().poll(context);
        pause();
        polled
    })
}

/// Knows of one connection, or of one stream of HTTP/2, how long the worker has been at its request.
///
/// By the polls of its task: while it is polled we work, and between two polls there is nothing to do before a peer does
/// something. So what is written to a slow client, or waited for within a body, is told apart too, which time stamps at
/// the steps of a request would not. What the worker spends on other connections meanwhile counts as waiting.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Since when the worker has been at it; `None` while it is not.
    since: Cell<Option<Instant>>,
    /// What went into the request under way before that.
    own: Cell<Duration>,
    in_request: Cell<bool>,
    /// Whose connection it is.
    pub(crate) client: Option<IpAddr>,
}

impl Clock {
    pub(crate) fn of(client: IpAddr) -> Self {
        Self { client: Some(client.to_canonical()), ..Self::default() }
    }

    /// Measures the polls of the task that its requests are served by. By reference: a future that is passed on by value is
    /// kept twice by who awaits it.
    pub(crate) fn watch<T>(&self, mut task: Pin<&mut impl Future<Output = T>>) -> impl Future<Output = T> {
        std::future::poll_fn(move |context| self.poll(|| task.as_mut().poll(context)))
    }

    /// Measures one poll.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.since.set(Some(UNTIL.take().unwrap_or_else(Instant::now)));
        let polled = poll();
        if let Some(since) = self.since.take()
            && self.in_request.get()
        {
            let now = Instant::now();
            self.own.set(self.own.get() + (now - since));
            UNTIL.set(Some(now));
        }
        polled
    }

    /// A request begins. Returns when: with the poll in which its head was read, so that reading it counts.
    pub(crate) fn begin(&self) -> Instant {
        let since = self.since.get().unwrap_or_else(Instant::now);
        self.since.set(Some(since));
        self.own.set(Duration::ZERO);
        self.in_request.set(true);
        since
    }

    /// It ends: when, and what of its time was ours.
    pub(crate) fn end(&self) -> (Instant, Duration) {
        let now = Instant::now();
        let running = self.since.get().map_or(Duration::ZERO, |since| now - since);
        // The next one may begin in the same poll.
        self.since.set(self.since.get().and(Some(now)));
        self.in_request.set(false);
        UNTIL.set(Some(now));
        (now, self.own.take() + running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(2);

    fn work() {
        let start = Instant::now();
        while start.elapsed() < WORK {}
    }

    /// One poll, and how long it took seen from without.
    fn polled(clock: &Clock, mut poll: impl FnMut()) -> Duration {
        let start = Instant::now();
        let _ = clock.poll(|| {
            poll();
            Poll::<()>::Pending
        });
        start.elapsed()
    }

    #[test]
    fn waiting_is_not_ours_and_work_is() {
        let clock = Clock::default();
        let (mut started, mut ended, mut next) = (None, None, None);
        let first = polled(&clock, || {
            work();
            started = Some(clock.begin());
            work();
        });
        let waiting = Instant::now();
        std::thread::sleep(WORK);
        pause(); // as the runtime does when it has waited
        let waited = waiting.elapsed();
        let second = polled(&clock, || {
            work();
            ended = Some(clock.end());
            clock.begin();
            work();
            next = Some(clock.end());
        });
        let (ended, own) = ended.unwrap();
        assert!(own >= WORK * 3, "reading the head, and both parts of the work: {own:?}");
        assert!(own + waited <= ended - started.unwrap(), "{own:?} beside {waited:?}");
        let (_, next) = next.unwrap();
        assert!(next >= WORK, "the next request begins anew: {next:?}");
        assert!(own + next <= first + second, "and nothing counts twice: {own:?}, {next:?}");
    }

    /// When a request on another connection begins that comes right after one, if the worker does this in between.
    fn next_begins(between: impl FnOnce()) -> (Instant, Instant) {
        let (first, next) = (Clock::default(), Clock::default());
        polled(&first, || _ = first.begin());
        let after = Instant::now();
        between();
        let mut begun = after;
        polled(&next, || begun = next.begin());
        (after, begun)
    }

    #[test]
    fn the_next_begins_where_the_one_before_was_left_unless_something_else_took_long() {
        let (after, begun) = next_begins(|| {});
        assert!(begun <= after);
        let (after, begun) = next_begins(|| {
            work();
            pause();
        });
        assert!(begun >= after + WORK);
    }
}
