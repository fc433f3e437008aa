//! When to stop, and what has to end first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Asks every holder of the [`Shutdown`] to stop. Clones ask the same ones.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<watch::Sender<bool>>);

/// Tells a task when to stop. Clones are cheap; each task holds its own.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and what it triggers. An argument everywhere, never a global, so that tests can drive it.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(Arc::new(sender)), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the stop. Asking again changes nothing.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits for the request. Returns at once where it was made before, or where nobody is left to make it.
    pub async fn requested(&self) {
        // An error means that the trigger is gone: nothing could stop us any more, so stop now.
        let _ = self.0.clone().wait_for(|requested| *requested).await;
    }

    /// Whether the request was made.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Lets SIGTERM (the kubelet) and SIGINT (Ctrl-C) request the stop. A second signal ends the process at once, with
/// status 1, for people who will not wait for the drain.
///
/// Needs a runtime; the signals are caught from the time that this returns.
pub fn on_signal(trigger: Trigger) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for requested_before in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if requested_before {
                tracing::warn!(signal = name, "second signal: stopping at once");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "stopping");
            trigger.request();
        }
    });
    Ok(())
}

/// Counts what is in flight, so that a stop can wait for it. Clones share the count.
///
/// Take one [`InFlight`] a connection, not one a request: each takes a lock.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<usize>>);

/// One thing in flight; it ends when this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<watch::Sender<usize>>);

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Drain {
    /// Counts one more, until the guard is dropped.
    pub fn start(&self) -> InFlight {
        self.0.send_modify(|count| *count += 1);
        InFlight(Arc::clone(&self.0))
    }

    /// How many are in flight.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until something is in flight. Returns at once where something is.
    pub async fn started(&self) {
        // As in `drained`, the wait can't end by a lost sender.
        let _ = self.0.subscribe().wait_for(|count| *count > 0).await;
    }

    /// Waits until nothing is in flight, but no longer than `deadline`. Returns how many were left.
    pub async fn drained(&self, deadline: Duration) -> usize {
        let mut count = self.0.subscribe();
        // `self` holds the sender, so the wait can only end by the count.
        let empty = count.wait_for(|count| *count == 0);
        let _ = tokio::time::timeout(deadline, empty).await;
        self.count()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn request_reaches_those_who_wait_and_those_who_come_later() {
        let (trigger, shutdown) = channel();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        trigger.request();
        waiting.await.unwrap();
        shutdown.requested().await;
    }

    #[tokio::test]
    async fn lost_trigger_stops() {
        let (trigger, shutdown) = channel();
        drop(trigger);
        shutdown.requested().await;
    }

    #[tokio::test]
    async fn drain_waits_for_what_is_in_flight() {
        let drain = Drain::default();
        let first = drain.start();
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.drained(Duration::from_secs(10)).await }
        });
        drop(first);
        assert_eq!(waiting.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn drain_gives_up_at_the_deadline_and_says_how_many_were_left() {
        let drain = Drain::default();
        let _stuck = drain.start();
        assert_eq!(drain.drained(Duration::from_millis(1)).await, 1);
    }
}
