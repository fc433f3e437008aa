//! The webhook from the outside: its HTTP answers, its TLS, its rotation, and all of it together.
// A panic is a test's report, in the parts around the tests too; clippy's own exception sees only the test functions.
#![allow(clippy::unwrap_used)]

mod cluster;
mod lease;
mod load;
mod mutate;
mod nodes;
mod overseer;
mod provided;
mod rotation;
mod server;
mod whole;

/// Longest wait for something that should come at once; a failure, not a pace.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(2);

/// Waits until `condition` holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, holds).await.is_ok(), "waited {DEADLINE:?} for: {what}");
}
