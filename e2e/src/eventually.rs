//! Waiting for what takes its time.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks. Polling, though a watch would tell sooner: the conditions are about many kinds of things, metrics
/// and TLS handshakes among them, and one way of waiting serves all.
const INTERVAL: Duration = Duration::from_millis(200);

/// Looks until `look` finds what it wants, and returns that. When `deadline` has passed, fails with the last reason why
/// it was not what it wants: a test that waited in vain says what it saw.
pub async fn eventually<T, Look, Found>(what: &str, deadline: Duration, mut look: Look) -> T
where
    Look: FnMut() -> Found,
    Found: Future<Output = anyhow::Result<T>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {seen:#}")
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
